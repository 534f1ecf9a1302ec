"""How good a matting network is on scenes of what it was never trained on, and how well it knows when it is wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from sv3d_pipe.dataset.scenes.compose import Scene, compose
from sv3d_pipe.finetune.matte_training import Material
from sv3d_pipe.prep.matting.doubt import Calibration, fit_calibration, signs_of
from sv3d_pipe.prep.matting.find import Box, Finding, find
from sv3d_pipe.prep.matting.network import MattingNet

SIZE = 448  # side of the scenes in pixels
WRONG = 0.8  # IoU below which a cut-out counts as wrong
KINDS = ("untold", "box", "point")


@dataclass(frozen=True)
class Judged:
    """One held-out scene.

    Attributes:
        kind: what was told: "untold", "box" or "point".
        iou: of what was found and what is meant; 0 where something was found and nothing is meant, or the other way.
        off: mean absolute error of alpha.
        signs: [7] of :func:`sv3d_pipe.prep.matting.doubt.signs_of`.
    """

    kind: str
    iou: float
    off: float
    signs: np.ndarray


def judge(
    network: MattingNet,
    material: Material,
    count: int,
    seed: int,
    on_scene: Callable[[], None] = lambda: None,
) -> list[Judged]:
    """Cut the object out of ``count`` scenes of held-out objects on held-out backgrounds, as prep does."""
    rng, (cutouts, backdrops) = np.random.default_rng(seed), replace(material, held_out=True).open()
    judged = []
    for _ in range(count):
        judged.append(_judge(network, compose(rng, cutouts, backdrops, SIZE)))
        on_scene()
    return judged


def _judge(network: MattingNet, scene: Scene) -> Judged:
    rgb, truth = scene.rgb.astype(np.float32) / 255, scene.meant.astype(np.float32) / 255
    box, point = told(scene)
    found: Finding = find(rgb, box, point, network)
    mine, true = found.alpha > 0.5, truth > 0.5
    either = (mine | true).sum()
    iou = float((mine & true).sum() / either) if either else 1.0
    kind = "box" if box is not None else "point" if point is not None else "untold"
    return Judged(kind, iou, float(np.abs(found.alpha - truth).mean()), signs_of(found, rgb))


def told(scene: Scene) -> tuple[Box | None, tuple[float, float] | None]:
    """The box, or the point, that a scene tells of, in pixels."""
    box, point = None, None
    rows, columns = np.flatnonzero(scene.told[0].any(1)), np.flatnonzero(scene.told[0].any(0))
    if len(rows):
        box = int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
    if scene.told[1].any():
        y, x = np.unravel_index(scene.told[1].argmax(), scene.told[1].shape)
        point = float(x), float(y)
    return box, point


def summary(judged: list[Judged]) -> str:
    """IoU and share of wrong cut-outs by what was told, and the error of alpha, in a sentence."""
    parts = []
    for kind in KINDS:
        ious = np.array([one.iou for one in judged if one.kind == kind])
        if len(ious):
            parts.append(
                f"{kind}: mean IoU {ious.mean():.3f}, {(ious < WRONG).mean():.0%} below {WRONG} of {len(ious)}"
            )
    off = np.mean([one.off for one in judged])
    return f"On held-out objects and backgrounds, {'; '.join(parts)}; mean absolute error {off:.4f}."


def calibrate(judged: list[Judged]) -> Calibration:
    """How the signs tell of wrong cut-outs."""
    return fit_calibration(
        np.stack([one.signs for one in judged]), np.array([one.iou < WRONG for one in judged])
    )
