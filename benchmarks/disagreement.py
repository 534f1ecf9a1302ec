"""How much do inconsistent views cost? Perfect orbits, disturbed by a known amount, then nerf and refine.

Generated views are never fully consistent. Here every view except the photo is disturbed at random: moved by pixels,
blurred, recolored, bent by a smooth field, or seen by a camera that stands elsewhere; or the disturbance grows with the
angle to the photo. Refinement is run twice, as the views are and with their cameras and colors corrected. Protocol A's
chamfer distance and IoU, means over the objects.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path

import cv2
import numpy as np
from command import object_options, run

from sv3d_pipe.artifacts import Field, Mesh, Views
from sv3d_pipe.config import Config, RefineConfig
from sv3d_pipe.evaluate.protocol_a import protocol_a
from sv3d_pipe.evaluate.truth import Angles, find_objects, place
from sv3d_pipe.geometry.camera_moves import moved
from sv3d_pipe.nerf.field import RadianceField
from sv3d_pipe.nerf.fit_field import fit_field
from sv3d_pipe.refine.fit_mesh import refine_mesh
from sv3d_pipe.refine.poses import corrected
from sv3d_pipe.render.draw import render_views
from sv3d_pipe.render.objects import Object
from sv3d_pipe.road.context import Context

Frame = np.ndarray  # [S, S, 4] premultiplied
Spoil = Callable[[Frame, float, np.random.Generator], Frame]


def shift(frame: Frame, pixels: float, rng: np.random.Generator) -> Frame:
    """The frame moved by ``pixels`` in a random direction."""
    angle = rng.uniform(0, 2 * np.pi)
    move = np.float32([[1, 0, pixels * np.cos(angle)], [0, 1, pixels * np.sin(angle)]])
    return cv2.warpAffine(frame, move, frame.shape[:2], flags=cv2.INTER_LINEAR)


def blur(frame: Frame, pixels: float, rng: np.random.Generator) -> Frame:
    """The frame and its mask blurred by a Gaussian of that standard deviation."""
    return cv2.GaussianBlur(frame, (0, 0), pixels)


def recolor(frame: Frame, amount: float, rng: np.random.Generator) -> Frame:
    """Every channel times a random factor; ``amount`` is the standard deviation of its logarithm."""
    factor = np.exp(rng.normal(0, amount, 3)).astype(np.float32)
    rgb = np.minimum(frame[..., :3] * factor, frame[..., 3:])
    return np.concatenate([rgb, frame[..., 3:]], -1)


def bend(frame: Frame, pixels: float, rng: np.random.Generator) -> Frame:
    """The frame moved by a smooth random field whose length has that root mean square."""
    size = len(frame)
    field = np.stack([cv2.GaussianBlur(rng.normal(size=(size, size)), (0, 0), size / 8) for _ in range(2)])
    field = (field * (pixels / np.sqrt(np.square(field).sum(0).mean()))).astype(np.float32)
    x, y = np.meshgrid(np.arange(size, dtype=np.float32), np.arange(size, dtype=np.float32))
    return cv2.remap(frame, x + field[0], y + field[1], cv2.INTER_LINEAR)


@dataclass(frozen=True)
class Case:
    """One kind of disturbance: ``growing`` scales the amount by half of 1 - cos of the angle to the photo.

    ``camera`` holds the standard deviations of azimuth, elevation and roll (degrees), of the distance (%), and of the
    shift to the right and down (% of the side).
    """

    name: str
    spoil: Spoil | None
    amount: float = 0.0
    growing: bool = False
    falloff: float = 0.0  # refine.view_falloff
    camera: tuple[float, ...] = (0.0,) * 6


CASES = [
    Case("perfect", None),
    *(Case(f"moved by {n} px", shift, n) for n in (1, 2, 3)),
    *(Case(f"blurred, sigma {n} px", blur, n) for n in (1, 2, 4)),
    *(Case(f"recolored, spread {n:.0%}", recolor, n) for n in (0.1, 0.25)),
    *(Case(f"bent by {n} px", bend, n) for n in (2, 4)),
    *(Case(f"turned by {n} degrees", None, camera=(n, n, n / 2, 0, 0, 0)) for n in (1, 2)),
    *(Case(f"scaled by {n}%", None, camera=(0, 0, 0, n, 0, 0)) for n in (1, 2)),
    Case("turned, scaled, shifted, recolored", recolor, 0.1, camera=(1, 1, 0.5, 1, 0.4, 0.4)),
    *(Case(f"bent by up to 8 px behind, view_falloff {f}", bend, 8, True, f) for f in (0.0, 0.5, 0.9)),
]


def spoiled(obj: Object, angles: Angles, size: int, case: Case) -> Views:
    """All frames but the last, which becomes the photo; the cameras are those that the orbit says."""
    rng, cameras = np.random.default_rng(0), angles.cameras()
    error = rng.normal(size=(len(cameras), 6)) * case.camera * np.array([*3 * [np.pi / 180], *3 * [0.01]])
    error[-1] = 0
    views = Views(render_views(obj, moved(cameras, error), size), cameras)
    toward = views.cameras.origins / np.linalg.norm(views.cameras.origins, axis=-1, keepdims=True)
    far = (1 - toward @ toward[-1]) / 2
    frames = np.concatenate([views.rgba[..., :3] * views.rgba[..., 3:], views.rgba[..., 3:]], -1)
    if case.spoil is not None:
        amounts = case.amount * (far if case.growing else np.ones(len(far)))
        parts = [case.spoil(f, float(a), rng) for f, a in zip(frames[:-1], amounts)]
        frames = np.concatenate([np.stack(parts), frames[-1:]])
    rgb = frames[..., :3] / np.maximum(frames[..., 3:], 1e-6)
    rgba = np.concatenate([rgb, frames[..., 3:]], -1).clip(0, 1).astype(np.float32)
    return replace(views, rgba=rgba, photos=views.rgba[-1:])


def measure(path: Path, config: Config, size: int, cases: list[Case]) -> dict:
    """cd and iou of nerf, refine and refine after correction, and the frames corrected, for every case."""
    obj, angles = place(path), Angles.of(config.orbit, seed=0)
    row, field = {}, None
    for case in cases:
        given = spoiled(obj, angles, size, case)
        if field is None or not case.falloff:  # cases that differ in refinement only share the field
            field = fit_field(config.nerf, given, Context())[0]
        settings = replace(config.refine, view_falloff=case.falloff)
        correction, better, found = corrected(settings, field.mesh, given, Context())
        stages = {"nerf": field.mesh, "refine": _refined(settings, field, given)}
        stages["corrected"] = stages["refine"] if correction is None else _refined(settings, field, better)
        row[case.name] = {k: protocol_a((obj.vertices, obj.faces), m) for k, m in stages.items()} | {
            "found": found
        }
    return row


def _refined(config: RefineConfig, field: Field, views: Views) -> Mesh:
    return refine_mesh(config, RadianceField.from_field(field), views, Context())[0]


def table(rows: dict[str, dict], cases: list[Case]) -> str:
    """Means over the objects, as markdown."""
    lines = [
        "| views | nerf CD | nerf IoU | refine CD | refine IoU | corrected CD | corrected IoU | cameras | colors |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for case in cases:
        found = [row[case.name] for row in rows.values()]
        cells = [
            f"{np.mean([one[stage][key] for one in found]):.4f}"
            for stage in ("nerf", "refine", "corrected")
            for key in ("cd", "iou")
        ]
        cells += [
            f"{np.mean([one['found'][f'{kind}_corrected'] for one in found]):.0f}"
            for kind in ("poses", "colors")
        ]
        lines.append(f"| {case.name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = object_options(__doc__, "out/disagreement.json")
    parser.add_argument("--size", type=int, default=256, help="side of the views")
    parser.add_argument("--preset", default="draft")
    parser.add_argument("--cases", nargs="*", default=["*"], help="only those that match, such as 'turned*'")
    options = parser.parse_args()
    config = Config.preset(options.preset).replace({"refine.sds": "off"})
    options.out.parent.mkdir(parents=True, exist_ok=True)
    cases = [case for case in CASES if any(fnmatch(case.name, pattern) for pattern in options.cases)]
    rows = {}
    for name, path in find_objects(options.objects, tuple(options.ids), options.limit).items():
        rows[name] = measure(path, config, options.size, cases)
        options.out.write_text(json.dumps(rows, indent=1))
        print(name, "done", flush=True)
    print(table(rows, cases))


if __name__ == "__main__":
    run(main)
