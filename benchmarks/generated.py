"""What helps refinement when views are generated, or show only a part? Distillation and trust, measured.

Each object is photographed once. Its views are painted by the orbit model from that photo on a sine or a
static orbit, or are true ones on a static orbit, which sees neither top nor underside. One field each, then
all variants of refinement from it. Protocol A's chamfer distance and IoU, and the PSNR of the vertex-colored
mesh from above and below (elevations 60 and -50 degrees, which no view has); means over the objects.
"""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from command import object_options, run

from sv3d_pipe.artifacts import Photo, Views, save_png
from sv3d_pipe.cameras import orbit
from sv3d_pipe.config import Config
from sv3d_pipe.context import Context
from sv3d_pipe.evaluate.geometry import protocol_a
from sv3d_pipe.evaluate.images import psnr
from sv3d_pipe.evaluate.objects import Angles, find_objects, place, render_mesh, true_views
from sv3d_pipe.nerf.fit import fit_field
from sv3d_pipe.orbit.paint import paint
from sv3d_pipe.orbit.prior import load_prior
from sv3d_pipe.prep.frame import prepare
from sv3d_pipe.refine.fit import refine_mesh
from sv3d_pipe.render.views import render_views

SIZE = 256
PHOTO_SIZE = 576
VIEWS = {
    "painted, sine orbit": {"orbit.kind": "sine"},
    "painted, static orbit": {"orbit.kind": "static"},
    "true, static orbit": {"orbit.kind": "static"},
}
VARIANTS = {
    "no distillation": {"sds": False},
    "distillation 0.1": {"sds_weight": 0.1},
    "distillation 1": {"sds_weight": 1.0},
    "distillation 1, each step": {"sds_weight": 1.0, "sds_every": 1},
    "view_falloff 0.5": {"sds": False, "view_falloff": 0.5},
    "view_falloff 0.9": {"sds": False, "view_falloff": 0.9},
}


def prepared(obj, camera, folder: Path, config: Config) -> Photo:
    """The object's photo as the road prepares it."""
    file = folder / "photo.png"
    save_png(file, render_views(obj, camera, PHOTO_SIZE, supersample=2)[0])
    return prepare(config.prep, file, Context())[0]


def measure(path: Path, preset: str, folder: Path, variants: list[str]) -> dict:
    """Scores by kind of views and variant."""
    obj = place(path)
    unseen = orbit(np.tile(np.arange(4) * 90.0, 2), np.repeat([60.0, -50.0], 4))
    truth = render_views(obj, unseen, SIZE)
    row: dict = {}
    for kind, settings in VIEWS.items():
        config = Config.preset(preset).replace(settings)
        photo = prepared(obj, Angles.of(config.orbit).cameras()[-1], folder, config)
        views = _views(kind, obj, photo, config)
        field = fit_field(config.nerf, views, Context())[0]
        row[kind] = {"nerf": protocol_a((obj.vertices, obj.faces), field.mesh)}
        for name in variants:
            changed = replace(config.refine, **VARIANTS[name])
            mesh, metrics = refine_mesh(
                changed, field, views, Context(), partial(load_prior, config.orbit, photo, Context())
            )
            row[kind][name] = protocol_a((obj.vertices, obj.faces), mesh)
            if kind.startswith("true"):  # only then is the mesh's scale the object's
                row[kind][name]["psnr"] = float(np.mean(psnr(render_mesh(mesh, unseen, SIZE), truth)))
            row[kind][name]["sds_steps"] = metrics["sds_steps"]
    return row


def _views(kind: str, obj, photo: Photo, config: Config) -> Views:
    if kind.startswith("painted"):
        return paint(config.orbit, photo, Context())[0]
    views = true_views(obj, Angles.of(config.orbit), SIZE)
    return replace(views, photo=views.rgba[-1])


def table(rows: dict[str, dict]) -> str:
    """Means over the objects, as markdown."""
    lines = ["| views | refinement | CD | IoU | PSNR of what no view shows |", "|---|---|---|---|---|"]
    first = next(iter(rows.values()))
    for kind in first:
        for name in first[kind]:
            scores = [
                np.mean([row[kind][name].get(key, np.nan) for row in rows.values()])
                for key in ("cd", "iou", "psnr")
            ]
            seen = "" if np.isnan(scores[2]) else f"{scores[2]:.2f}"
            lines.append(f"| {kind} | {name} | {scores[0]:.4f} | {scores[1]:.4f} | {seen} |")
    return "\n".join(lines)


def main() -> None:
    parser = object_options(__doc__, "out/generated")
    parser.add_argument("--preset", default="draft")
    parser.add_argument("--variants", nargs="*", default=list(VARIANTS), choices=list(VARIANTS))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    rows = {}
    for name, path in find_objects(options.objects, tuple(options.ids), options.limit).items():
        rows[name] = measure(path, options.preset, options.out, options.variants)
        (options.out / "generated.json").write_text(json.dumps(rows, indent=1))
        print(name, "done", flush=True)
    print(table(rows))


if __name__ == "__main__":
    run(main)
