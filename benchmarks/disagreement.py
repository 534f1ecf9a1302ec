"""How much do inconsistent views cost? Perfect orbits, disturbed by a known amount, then nerf and refine.

Generated views are never fully consistent. Here every view except the photo is disturbed at random: moved by pixels,
blurred, recolored, or bent by a smooth field; or the disturbance grows with the angle to the photo. Protocol
A's chamfer distance and IoU, means over the objects.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from command import object_options, run

from sv3d_pipe.artifacts import Views
from sv3d_pipe.config import Config
from sv3d_pipe.evaluate.protocol_a import protocol_a
from sv3d_pipe.evaluate.truth import Angles, find_objects, place, true_views
from sv3d_pipe.nerf.field import RadianceField
from sv3d_pipe.nerf.fit_field import fit_field
from sv3d_pipe.refine.fit_mesh import refine_mesh
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
    """One kind of disturbance: ``growing`` scales the amount by half of 1 - cos of the angle to the photo."""

    name: str
    spoil: Spoil | None
    amount: float = 0.0
    growing: bool = False
    falloff: float = 0.0  # refine.view_falloff


CASES = [
    Case("perfect", None),
    *(Case(f"moved by {n} px", shift, n) for n in (1, 2, 3)),
    *(Case(f"blurred, sigma {n} px", blur, n) for n in (1, 2, 4)),
    *(Case(f"recolored, spread {n:.0%}", recolor, n) for n in (0.1, 0.25)),
    *(Case(f"bent by {n} px", bend, n) for n in (2, 4)),
    *(Case(f"bent by up to 8 px behind, view_falloff {f}", bend, 8, True, f) for f in (0.0, 0.5, 0.9)),
]


def spoiled(views: Views, case: Case, rng: np.random.Generator) -> Views:
    """All frames but the last, which becomes the photo."""
    toward = views.cameras.origins / np.linalg.norm(views.cameras.origins, axis=-1, keepdims=True)
    far = (1 - toward @ toward[-1]) / 2
    frames = np.concatenate([views.rgba[..., :3] * views.rgba[..., 3:], views.rgba[..., 3:]], -1)
    if case.spoil is not None:
        amounts = case.amount * (far if case.growing else np.ones(len(far)))
        parts = [case.spoil(f, float(a), rng) for f, a in zip(frames[:-1], amounts)]
        frames = np.concatenate([np.stack(parts), frames[-1:]])
    rgb = frames[..., :3] / np.maximum(frames[..., 3:], 1e-6)
    rgba = np.concatenate([rgb, frames[..., 3:]], -1).clip(0, 1).astype(np.float32)
    return replace(views, rgba=rgba, photo=views.rgba[-1])


def measure(path: Path, config: Config, size: int) -> dict:
    """cd and iou of nerf and refine for every case."""
    obj = place(path)
    views = true_views(obj, Angles.of(config.orbit, seed=0), size)
    row, field = {}, None
    for case in CASES:
        if not case.falloff:  # cases that differ in refinement only share the field
            field = fit_field(config.nerf, spoiled(views, case, np.random.default_rng(0)), Context())[0]
        given = spoiled(views, case, np.random.default_rng(0))
        mesh = refine_mesh(
            replace(config.refine, view_falloff=case.falloff),
            RadianceField.from_field(field),
            given,
            Context(),
        )[0]
        stages = {"nerf": field.mesh, "refine": mesh}
        row[case.name] = {k: protocol_a((obj.vertices, obj.faces), m) for k, m in stages.items()}
    return row


def table(rows: dict[str, dict]) -> str:
    """Means over the objects, as markdown."""
    lines = ["| views | nerf CD | nerf IoU | refine CD | refine IoU |", "|---|---|---|---|---|"]
    for case in CASES:
        cells = [
            f"{np.mean([row[case.name][stage][key] for row in rows.values()]):.4f}"
            for stage in ("nerf", "refine")
            for key in ("cd", "iou")
        ]
        lines.append(f"| {case.name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = object_options(__doc__, "out/disagreement.json")
    parser.add_argument("--size", type=int, default=256, help="side of the views")
    parser.add_argument("--preset", default="draft")
    options = parser.parse_args()
    config = Config.preset(options.preset).replace({"refine.sds": "off"})
    options.out.parent.mkdir(parents=True, exist_ok=True)
    rows = {}
    for name, path in find_objects(options.objects, tuple(options.ids), options.limit).items():
        rows[name] = measure(path, config, options.size)
        options.out.write_text(json.dumps(rows, indent=1))
        print(name, "done", flush=True)
    print(table(rows))


if __name__ == "__main__":
    run(main)
