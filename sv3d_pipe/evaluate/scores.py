"""Everything that is measured on a pair of meshes, or on two stacks of pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sv3d_pipe.evaluate.perceptual import availability, perceptual_scores
from sv3d_pipe.evaluate.picture_scores import ABOUT as ABOUT_PICTURES
from sv3d_pipe.evaluate.picture_scores import mse, psnr, silhouette_iou, ssim
from sv3d_pipe.evaluate.protocol_a import chamfer, iou, noise_floor, normalized, occupancy, visible_points
from sv3d_pipe.evaluate.protocol_b import Cloud, protocol_b
from sv3d_pipe.evaluate.sign_parity import occupancy_by_signs
from sv3d_pipe.evaluate.surface_samples import SurfaceSamples, sample, soundness, surface_scores
from sv3d_pipe.pictures import BEST_DB, on_white

SHAPE_SCORES = (
    "cd", "iou", "iou_signs", "surface_cd", "normals", "b_cd", "b_f0.1", "b_f0.2", "b_f0.5",
    "watertight", "components", "faces",
)  # fmt: skip
PICTURE_SCORES = ("psnr", "ssim", "mse", "mask_iou", "lpips", "clip_s")
ABOUT_SHAPES = {
    "cd, iou": "protocol A: each mesh in its own centered box of longest side 1, no rotation search; "
    "chamfer distance (mean of the two mean distances, not squared) of the surfaces visible from 16 cameras "
    "at 30 degrees, thinned at 0.01; IoU on 64 nodes per side of [-1, 1]^3, inside by winding number",
    "iou_signs": "the same IoU with inside by parity along +x, as in the public evaluation",
    "surface_cd, normals": "the same distance over the whole surface, 100,000 points; mean |cosine| of the "
    "normals of nearest points",
    "b_cd, b_f": "protocol B: both in [-1, 1]^3, best yaw and ICP, 10,000 points; chamfer distance and F-score",
    "noise floor": "the truth against the truth sampled again: distances near it say nothing about shape",
}


@dataclass(frozen=True)
class Probe:
    """One mesh, normalized and sampled in every way the scores need.

    Attributes:
        visible: [P, 3] points that the cameras of protocol A see.
        inside, inside_by_signs: [64, 64, 64] bool.
        surface: samples of the whole surface. cloud: points for protocol B.
        soundness: watertight, components, faces.
    """

    visible: np.ndarray
    inside: np.ndarray
    inside_by_signs: np.ndarray
    surface: SurfaceSamples
    cloud: Cloud
    soundness: dict[str, Any]


def probe(mesh: Any, seed: int) -> Probe:
    """Measure one mesh (any that :mod:`sv3d_pipe.evaluate.protocol_a` accepts).

    Two meshes to be compared get different seeds: equal ones would make equal meshes look better than
    any two samplings of one surface are.
    """
    unit = normalized(mesh)
    return Probe(
        visible=visible_points(unit),
        inside=occupancy(unit),
        inside_by_signs=occupancy_by_signs(unit),
        surface=sample(unit, seed),
        cloud=Cloud.of(unit, seed + 1),
        soundness=soundness(mesh),
    )


def compare(truth: Probe, pred: Probe) -> dict[str, Any]:
    """All :data:`SHAPE_SCORES` of a prediction, and the yaw that protocol B found."""
    return {
        "cd": chamfer(truth.visible, pred.visible),
        "iou": iou(truth.inside, pred.inside),
        "iou_signs": iou(truth.inside_by_signs, pred.inside_by_signs),
        **surface_scores(truth.surface, pred.surface),
        **protocol_b(truth.cloud, pred.cloud),
        **pred.soundness,
    }


def noise(mesh: Any, seed: int) -> dict[str, float]:
    """The distances and agreements of a mesh with itself, sampled twice and independently."""
    unit = normalized(mesh)
    clouds = [Cloud.of(unit, seed + i) for i in range(2)]
    return {
        "cd": noise_floor(unit),
        **surface_scores(sample(unit, seed), sample(unit, seed + 1)),
        "b_cd": chamfer(*(cloud.turned(0.0) for cloud in clouds)),
    }


def compare_pictures(truth: np.ndarray, pred: np.ndarray) -> dict[str, list[float]]:
    """:data:`PICTURE_SCORES` of two stacks [N, S, S, 4] in [0, 1], per picture.

    PSNR is cut at 100 dB. LPIPS and CLIP-S only where they can be computed here.
    """
    white = on_white(truth), on_white(pred)
    return {
        "psnr": np.minimum(psnr(*white), BEST_DB).tolist(),
        "ssim": ssim(*white).tolist(),
        "mse": mse(*white).tolist(),
        "mask_iou": silhouette_iou(truth, pred).tolist(),
        **perceptual_scores(*white),
    }


def about_pictures() -> dict[str, str]:
    """What the picture scores mean, and which are not computed here."""
    return {"psnr, ssim, mse": ABOUT_PICTURES, "mask_iou": "IoU of alpha above 1/2", **availability()}
