"""The whole pipeline on a folder of photos: does every photo become a usable mesh, how good, and how fast?

    python benchmarks/photos.py --photos DIR --preset draft --out out/photos

Every photo is processed by img2mesh in a separate process, so that the peak memory is that photo's.
These checks use only the files: the GLB opens with a texture, one component dominates, the number of faces is
between 2k and 200k, and the front view rendered from the photo's camera matches the prepared photo.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import trimesh

from sv3d_pipe.cameras import load_transforms, orbit
from sv3d_pipe.config import Config
from sv3d_pipe.contact_sheet import strip
from sv3d_pipe.errors import UserError
from sv3d_pipe.evaluate.display import Display
from sv3d_pipe.evaluate.picture_scores import psnr, silhouette_iou
from sv3d_pipe.evaluate.suite import Options, Suite, run_suite, tables
from sv3d_pipe.evaluate.tables import Row
from sv3d_pipe.evaluate.truth import in_world
from sv3d_pipe.picture_kinds import SUFFIXES
from sv3d_pipe.pictures import load_png
from sv3d_pipe.render.draw import render_views

STAGES = ("1-prep", "2-orbit", "3-nerf", "4-refine", "5-export")
FACES = (2_000, 200_000)
DOMINANT = 0.9  # share of the surface area that the largest component must have
BYTES_PER_MAXRSS = 1 if sys.platform == "darwin" else 1024


def find_photos(folder: Path) -> list[Path]:
    """The pictures of a folder; ``*.matte.png`` are ground-truth mattes, not photos."""
    paths = (p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES)
    return sorted(p for p in paths if not p.stem.endswith(".matte"))


def measure(photo: Path, folder: Path, options: Options, display: Display) -> tuple[Row, np.ndarray]:
    """One photo's row and pictures. Raises UserError with the last line of a run that failed."""
    workspace = folder / "workspace"
    row = convert(photo, workspace, options)
    if row.pop("exit") != 0:
        lines = (folder / "log.txt").read_text(errors="replace").strip().splitlines()
        raise UserError(lines[-1] if lines else "The run failed without a word.")
    found, pictures = examine(workspace)
    good = found["textured"] and FACES[0] <= found["faces"] <= FACES[1] and found["component"] >= DOMINANT
    return {f"mesh_{key}": value for key, value in ({"good": good} | found | row).items()}, pictures


def convert(photo: Path, workspace: Path, options: Options) -> dict:
    """Run img2mesh on one photo: exit code, seconds and peak memory in MB of the process."""
    program = [sys.executable, "-c", "from sv3d_pipe.cli import main; main()"]
    arguments = ["run", str(photo), "-o", str(workspace), "--device", options.device]
    overrides = [f"--set={name}={value}" for name, value in options.config.flat().items()]
    seed = ["--seed", str(options.seed), *(["--force"] if options.force else [])]
    start = time.perf_counter()
    with (workspace.parent / "log.txt").open("wb") as log:
        child = subprocess.Popen([*program, *arguments, *overrides, *seed], stdout=log, stderr=log)
        _, status, usage = os.wait4(child.pid, 0)
    return {
        "exit": os.waitstatus_to_exitcode(status),
        "run_s": time.perf_counter() - start,
        "peak_mb": usage.ru_maxrss * BYTES_PER_MAXRSS / 2**20,
    }


def examine(workspace: Path) -> tuple[dict, np.ndarray]:
    """What the files of a finished workspace say about the mesh, and a strip of pictures."""
    root = next(p.parent for p in workspace.rglob("1-prep") if p.is_dir())
    records = {stage: json.loads((root / stage / "stage.json").read_text()) for stage in STAGES}
    glb = next((root / "5-export").glob("*.glb"))
    mesh = trimesh.load(glb, force="mesh", process=False)
    texture = getattr(getattr(mesh.visual, "material", None), "baseColorTexture", None)
    prepared = load_png(root / "1-prep" / "photo.png")
    cameras, _ = load_transforms(root / "2-orbit" / "transforms.json")
    obj = in_world(glb, records["5-export"]["metrics"]["transform"])
    front = render_views(obj, cameras[-1], len(prepared), supersample=2)
    around = render_views(obj, orbit([90.0, 180.0, 270.0], 10.0), 192, supersample=2)
    row = {
        "textured": texture is not None,
        "faces": len(mesh.faces),
        "component": largest_component(mesh),
        "front_psnr": float(psnr(front, prepared[None])[0]),
        "front_iou": float(silhouette_iou(front, prepared[None])[0]),
        **{f"{stage[2:]}_s": records[stage]["seconds"] for stage in STAGES},
    }
    return row, strip([prepared, front[0], *around], 192)


def largest_component(mesh: trimesh.Trimesh) -> float:
    """Share of the area that the largest connected component has; texture seams are closed first."""
    whole = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    whole.merge_vertices()
    labels = trimesh.graph.connected_component_labels(whole.face_adjacency, node_count=len(whole.faces))
    area = np.bincount(labels, whole.area_faces)
    return float(area.max() / area.sum())


SCORES = (
    "good", "textured", "faces", "component", "front_psnr", "front_iou", "run_s", "peak_mb", "prep_s",
    "orbit_s", "nerf_s", "refine_s", "export_s",
)  # fmt: skip
PHOTOS = Suite(
    name="photos",
    title="Photos",
    measure=measure,
    stages=tuple(stage[2:] for stage in STAGES),
    methods=("mesh",),
    scores=SCORES,
    columns=tuple(f"mesh_{score}" for score in SCORES[:8]),
    judged="mesh_front_psnr",
    large_is_good=True,
    label=("front_psnr", "run_s", "peak_mb"),
    heading="Front PSNR, seconds, MB. Left to right: prepared photo, mesh from the front, right, back, left",
)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photos", type=Path, required=True, help="folder of pictures")
    parser.add_argument("--limit", type=int, help="use at most this many photos")
    parser.add_argument("--preset", default="draft")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="e.g. nerf.steps=800"
    )
    parser.add_argument("--seed", type=int, default=23)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--force", action="store_true", help="run again what is finished")
    parser.add_argument("--out", type=Path, default=Path("out/photos"))
    return parser.parse_args()


def main() -> None:
    arguments = parse()
    photos = {p.name: p for p in find_photos(arguments.photos)[: arguments.limit]}
    if not photos:
        raise SystemExit(f"{arguments.photos} holds no photos.")
    config = Config.preset(arguments.preset).replace(dict(item.split("=", 1) for item in arguments.set))
    options = Options(config, None, arguments.seed, arguments.device, force=arguments.force)
    document = run_suite(PHOTOS, photos, options, arguments.out, Display())
    for table in tables(PHOTOS, document, every_object=True):
        table.show()
    rows = document["rows"]
    if rows:
        slowest = max(rows, key=lambda r: r["mesh_run_s"])
        print(
            f"{len(rows)} of {len(photos)} photos became meshes, {sum(r['mesh_good'] for r in rows)} good;",
            end=" ",
        )
        print(f"slowest {slowest['mesh_run_s']:.0f} s ({slowest['name']}),", end=" ")
        print(f"peak memory {max(r['mesh_peak_mb'] for r in rows):.0f} MB.")


if __name__ == "__main__":
    main()
