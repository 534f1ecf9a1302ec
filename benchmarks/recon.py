"""Reconstruction from ground-truth orbits: chamfer distance and IoU after nerf and after refine.

    python benchmarks/recon.py --objects DIR --limit 10 --preset draft --out out/recon

Each object is photographed on a sine orbit of 21 views; no orbit model is involved and no
distillation. Protocol A: see sv3d_pipe/evaluate/geometry.py.
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from pathlib import Path

from report import contact_sheet, mean, print_table, resumed, strip, write_json
from truth import Angles, find_objects, place, render_mesh, true_views

from sv3d_pipe.artifacts import load_png, save_png
from sv3d_pipe.cameras import orbit
from sv3d_pipe.config import Config
from sv3d_pipe.context import Context
from sv3d_pipe.errors import UserError
from sv3d_pipe.evaluate.geometry import noise_floor, protocol_a
from sv3d_pipe.nerf.fit import fit_field
from sv3d_pipe.refine.fit import refine_mesh
from sv3d_pipe.train.render import render_views

COLUMNS = ["nerf_cd", "nerf_iou", "nerf_s", "refine_cd", "refine_iou", "refine_s", "noise_floor"]


def reconstruct(path: Path, config: Config, options: argparse.Namespace, folder: Path) -> dict:
    """Both meshes of one object, scored; writes their pictures beside the truth's."""
    obj = place(path)
    views = true_views(obj, Angles.of("sine", options.elevation), options.size)
    context = Context(device=options.device, seed=options.seed)
    truth = (obj.vertices, obj.faces)
    start = time.perf_counter()
    field, _ = fit_field(config.nerf, views, context)
    middle = time.perf_counter()
    mesh, _ = refine_mesh(config.refine, field, views, context, None)
    end = time.perf_counter()
    held_out = orbit([30.0, 210.0], 20.0)
    pictures = [
        picture
        for shown in (
            render_views(obj, held_out, 256),
            render_mesh(field.mesh, held_out, 256),
            render_mesh(mesh, held_out, 256),
        )
        for picture in shown
    ]
    save_png(folder / "strip.png", strip(pictures, 160))
    coarse, fine = protocol_a(truth, field.mesh), protocol_a(truth, mesh)
    return {
        "nerf_cd": coarse["cd"],
        "nerf_iou": coarse["iou"],
        "nerf_s": middle - start,
        "refine_cd": fine["cd"],
        "refine_iou": fine["iou"],
        "refine_s": end - middle,
        "noise_floor": noise_floor(truth),
        "nerf_faces": len(field.mesh.faces),
        "refine_faces": len(mesh.faces),
        "warnings": context.warnings,
    }


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--objects", type=Path, required=True, help="folder of meshes")
    parser.add_argument("--limit", type=int, help="take a random choice of so many")
    parser.add_argument("--seed", type=int, default=0, help="of the choice and the fits")
    parser.add_argument("--preset", default="draft")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="e.g. nerf.steps=800"
    )
    parser.add_argument("--size", type=int, default=256, help="side of the pictures")
    parser.add_argument("--elevation", type=float, default=10.0, help="of the orbit's last view, degrees")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=Path("out/recon"))
    return parser.parse_args()


def main() -> None:
    options = parse()
    overrides = dict(item.split("=", 1) for item in options.set)
    config = Config.preset(options.preset).replace(overrides).replace({"refine.sds": False})
    stages = {k: v for k, v in config.flat().items() if k.startswith(("nerf.", "refine."))}
    settings = {"size": options.size, "elevation": options.elevation, "seed": options.seed, **stages}
    rows = []
    for path in find_objects(options.objects, options.limit, options.seed):
        work = partial(reconstruct, path, config, options)
        rows.append(resumed(options.out, path.stem, settings, work))
        last = rows[-1]
        print(f"{path.stem}: nerf {last['nerf_cd']:.4f} / {last['nerf_iou']:.3f}, ", end="")
        print(f"refine {last['refine_cd']:.4f} / {last['refine_iou']:.3f}", flush=True)
    if not rows:
        raise SystemExit(f"{options.objects} holds no meshes.")
    print_table(f"Ground-truth orbits, preset {options.preset}", rows, COLUMNS)
    write_json(options.out / "recon.json", settings, rows, mean(rows, COLUMNS))
    sheet = [
        (f"{r['name']}: truth, nerf, refined", load_png(options.out / r["name"] / "strip.png")) for r in rows
    ]
    contact_sheet(options.out / "recon.png", sheet)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        raise SystemExit(str(error)) from None
