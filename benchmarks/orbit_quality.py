"""An orbit model's novel views on objects with known shape, beside two baselines.

    python benchmarks/orbit_quality.py --objects DIR --model mini --out out/orbit_quality

The photo is a render from --elevation; the model paints the orbit; the 20 frames that are not the
photo are compared with renders at the model's resolution, on white. Baselines: every frame is the
photo; a grey ellipsoid with the photo's extents. With --mesh the nerf stage is run on the frames
and its mesh scored by protocol A, beside the ellipsoid: steps and guidance are to be chosen by that.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import trimesh
from report import contact_sheet, mean, print_table, resumed, strip, write_json
from truth import Angles, find_objects, place, true_views

from sv3d_pipe.artifacts import Photo, Views, load_png, resize_rgba, save_png
from sv3d_pipe.cameras import RADIUS, Cameras
from sv3d_pipe.config import Config
from sv3d_pipe.context import Context
from sv3d_pipe.errors import UserError
from sv3d_pipe.evaluate.geometry import protocol_a
from sv3d_pipe.evaluate.images import psnr, silhouette_iou, ssim
from sv3d_pipe.orbit.models import identity, load_pipeline
from sv3d_pipe.orbit.paint import paint
from sv3d_pipe.train.render import Object, render_views

PHOTO_SIZE = 576
GREY = 0.5
METHODS = ("model", "photo", "ellipsoid")
SCORES = ("psnr", "ssim", "iou")


def ellipsoid(photo: np.ndarray, camera: Cameras) -> Object:
    """A grey ellipsoid whose outline, seen by the photo's camera, has the photo's box. Its depth is its width.

    Args:
        photo: [S, S, 4], taken from azimuth 0.
        camera: that one camera.
    """
    rows, columns = (np.flatnonzero((photo[..., 3] > 0.5).any(axis)) for axis in (1, 0))
    wanted = np.array([[columns[0], rows[0]], [columns[-1] + 1, rows[-1] + 1]])  # left top, right bottom
    pixel = RADIUS / camera.focal(len(photo))  # its size at the origin
    ball = trimesh.creation.icosphere(subdivisions=4, radius=1)
    half, center = (wanted[1] - wanted[0]) / 2 * pixel, np.zeros(3)
    for _ in range(30):  # fixed point: perspective and elevation change the outline a little
        vertices = ball.vertices * (half[0], half[1], half[0]) + center
        outline = camera.project(vertices, len(photo))[0][0]
        low, high = outline.min(0), outline.max(0)
        half = np.maximum(half * (wanted[1] - wanted[0]) / (high - low), 0.1 * half[0])
        shift = (wanted.sum(0) - low - high) / 2 * pixel
        center = center + shift[0] * camera.c2w[0, :3, 0] - shift[1] * camera.c2w[0, :3, 1]
    corner_uv = np.full((len(ball.faces), 3, 2), 0.5, np.float32)
    grey = np.full((1, 1, 3), GREY, np.float32)
    return Object(vertices.astype(np.float32), np.asarray(ball.faces, np.int64), corner_uv, grey)


def score(frames: np.ndarray, truth: np.ndarray) -> dict[str, list[float]]:
    """Each measure for each of the novel frames (all but the last)."""
    pair = frames[:-1], truth[:-1]
    return {"psnr": psnr(*pair).tolist(), "ssim": ssim(*pair).tolist(), "iou": silhouette_iou(*pair).tolist()}


def judge(path: Path, config: Config, options: argparse.Namespace, folder: Path) -> dict:
    """The model's and the baselines' scores on one object; writes a strip of frames."""
    obj = place(path)
    size = load_pipeline(config.orbit.model, options.device).size
    angles = Angles.of(config.orbit.kind, config.orbit.elevation_deg)
    truth = true_views(obj, angles, size)
    photo = render_views(obj, truth.cameras[-1], PHOTO_SIZE, supersample=2)[0]
    context = Context(device=options.device, seed=options.seed)
    start = time.perf_counter()
    views, _ = paint(config.orbit, Photo(photo), context)
    row = {"orbit_s": time.perf_counter() - start}
    ball = ellipsoid(photo, truth.cameras[-1])
    frames = {
        "model": views.rgba,
        "photo": np.repeat(resize_rgba(photo, size)[None], len(views.rgba), 0),
        "ellipsoid": render_views(ball, truth.cameras, size),
    }
    for method in METHODS:
        scores = score(frames[method], truth.rgba)
        row |= {f"{method}_{s}": float(np.mean(scores[s])) for s in SCORES}
        row |= {f"{method}_psnr_by_frame": scores["psnr"]}
    if options.mesh:
        row |= judge_mesh(obj, ball, views, config, context)
    shown = [2, 6, 10, 14, 18]
    pictures = [photo, *truth.rgba[shown], *views.rgba[shown], frames["ellipsoid"][shown[0]]]
    save_png(folder / "strip.png", strip(pictures, 96))
    return row | {"warnings": context.warnings}


def judge_mesh(obj: Object, ball: Object, views: Views, config: Config, context: Context) -> dict[str, float]:
    """Protocol A for the nerf stage's mesh of the painted frames, and for the ellipsoid.

    Frames from which no mesh can be made score an infinite distance and IoU 0.
    """
    from sv3d_pipe.nerf.fit import fit_field

    truth = (obj.vertices, obj.faces)
    scores = {"ellipsoid": protocol_a(truth, (ball.vertices, ball.faces))}
    try:
        field, _ = fit_field(config.nerf, views, context)
        scores["mesh"] = protocol_a(truth, field.mesh)
    except (UserError, ValueError) as error:
        context.warn(str(error))
        scores["mesh"] = {"cd": float("inf"), "iou": 0.0}
    return {f"{name}_{key}_a": value for name, score in scores.items() for key, value in score.items()}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--objects", type=Path, required=True, help="folder of meshes")
    parser.add_argument("--limit", type=int, help="take a random choice of so many")
    parser.add_argument("--seed", type=int, default=0, help="of the choice and the sampling")
    parser.add_argument("--model", default="mini", help="mini or a model folder")
    parser.add_argument("--steps", type=int, help="sampling steps; default: the preset's")
    parser.add_argument("--guidance", type=float, help="largest guidance scale; default: the preset's")
    parser.add_argument("--kind", choices=["sine", "static"], default="sine")
    parser.add_argument("--elevation", type=float, default=10.0, help="of the photo, degrees")
    parser.add_argument("--mesh", action="store_true", help="also fit and score a mesh")
    parser.add_argument("--preset", default="draft", help="for the orbit and the mesh")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=Path("out/orbit_quality"))
    return parser.parse_args()


def configured(options: argparse.Namespace) -> Config:
    config = Config.preset(options.preset)
    given = {"steps": options.steps, "guidance": options.guidance}
    orbit = replace(config.orbit, **{k: v for k, v in given.items() if v is not None})
    orbit = replace(orbit, model=options.model, kind=options.kind, elevation_deg=options.elevation)
    return replace(config, orbit=orbit)


def print_azimuths(rows: list[dict], kind: str) -> None:
    """Mean PSNR of every novel frame."""
    azimuth_deg = Angles.of(kind, 0.0).azimuth_deg[:-1]
    lines = []
    for i, azimuth in enumerate(azimuth_deg):
        line = {m: float(np.mean([r[f"{m}_psnr_by_frame"][i] for r in rows])) for m in METHODS}
        lines.append({"name": f"{azimuth:5.1f} deg", **line})
    print_table("Mean PSNR by azimuth", lines, list(METHODS))


def main() -> None:
    options = parse()
    config = configured(options)
    settings = {k: v for k, v in config.flat().items() if k.startswith("orbit.")}
    settings |= {"weights": identity(options.model), "seed": options.seed}
    if options.mesh:
        settings |= {k: v for k, v in config.flat().items() if k.startswith("nerf.")}
    columns = [f"{m}_{s}" for s in SCORES for m in METHODS] + ["orbit_s"]
    columns += ["mesh_cd_a", "mesh_iou_a", "ellipsoid_cd_a", "ellipsoid_iou_a"] if options.mesh else []
    rows = []
    for path in find_objects(options.objects, options.limit, options.seed):
        work = partial(judge, path, config, options)
        rows.append(resumed(options.out, path.stem, settings, work))
        print(path.stem, " ".join(f"{m} {rows[-1][f'{m}_psnr']:.2f} dB" for m in METHODS), flush=True)
    if not rows:
        raise SystemExit(f"{options.objects} holds no meshes.")
    print_table(
        f"Novel views of {options.model}, {config.orbit.steps} steps, {options.kind} orbit", rows, columns
    )
    print_azimuths(rows, options.kind)
    write_json(options.out / "orbit_quality.json", settings, rows, mean(rows, columns))
    sheet = [
        (f"{r['name']}: photo, truth, model, ellipsoid", load_png(options.out / r["name"] / "strip.png"))
        for r in rows
    ]
    contact_sheet(options.out / "orbit_quality.png", sheet)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        raise SystemExit(str(error)) from None
