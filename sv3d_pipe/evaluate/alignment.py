"""A mesh that was made in another frame than the truth: turned about the up axis, then fitted by a similarity.

Protocol A turns nothing, since one photo's mesh has the photo's frame. An orbit of unknown origin may start at any
azimuth, so its mesh is first turned like the truth (the best yaw; both in their own boxes, as protocol A has it); and
in a second reading rotated, moved and scaled onto it, which forgives a wrong elevation and a wrong box.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import trimesh
from scipy.optimize import minimize_scalar

from sv3d_pipe.evaluate.protocol_a import chamfer, iou, normalized, occupancy, visible_points
from sv3d_pipe.evaluate.protocol_b import N_POINTS, N_REFINED, THRESHOLDS, YAW_STEP_DEG, Cloud, f_scores
from sv3d_pipe.evaluate.scores import Probe, compare, probe
from sv3d_pipe.evaluate.surface_samples import sample
from sv3d_pipe.evaluate.tables import Row
from sv3d_pipe.geometry.similarity import similarity

N_COARSE = 1_000  # points that tell good yaws from bad ones
N_FINE = 4_000  # points that refine yaws and go through ICP
YAW_PRECISION_DEG = 0.05
FITS = 3  # ICPs one after the other: what the cameras see of a mesh changes as it tilts

ABOUT = {
    "turned": "the mesh at the yaw (yaw_deg, counter-clockwise from above) with the smallest chamfer distance of the "
    "visible surfaces, both meshes in their own boxes; then protocols A and B",
    "fitted": "the turned mesh after ICP with scale, pairs from both surfaces; protocol A's and B's numbers in the "
    "truth's box, the mesh no longer in its own; as turned where ICP made the distance larger",
}


def aligned_scores(truth: Any, pred: Any, seed: int) -> Row:
    """``turned_<score>`` and ``fitted_<score>``, see :data:`ABOUT`, with ``turned_yaw_deg`` in (-180, 180].

    Args:
        truth, pred: meshes with +y up, any scale, anything :mod:`sv3d_pipe.evaluate.protocol_a` accepts.
        seed: of the samples.
    """
    yaw_deg = best_yaw(truth, pred)
    turned = turn(pred, yaw_deg)
    known, found = probe(truth, seed), probe(turned, seed + 2)
    scores = {k: v for k, v in compare(known, found).items() if k not in found.soundness}
    fitted = _fitted_scores(known, turned, seed + 2)
    return {
        "turned_yaw_deg": yaw_deg,
        **{f"turned_{name}": score for name, score in scores.items()},
        **{f"fitted_{name}": score for name, score in fitted.items()},
    }


def turn(mesh: Any, yaw_deg: float) -> tuple[np.ndarray, np.ndarray]:
    """A mesh turned about +y, counter-clockwise seen from above, in its own box as :func:`normalized` makes it."""
    vertices, faces = normalized(mesh)
    return normalized((vertices @ _rotation(yaw_deg).T, faces))


def best_yaw(truth: Any, pred: Any) -> float:
    """The turn of ``pred`` about +y, in (-180, 180] degrees, that brings it nearest to the truth."""
    fixed, moving = _visible_cloud(truth, N_FINE).turned(0.0), _visible_cloud(pred, N_FINE)
    yaws = np.arange(0, 360, YAW_STEP_DEG)
    few = Cloud(moving.vertices, _some(moving.points, N_COARSE))
    coarse = [chamfer(_some(fixed, N_COARSE), few.turned(yaw)) for yaw in yaws]
    fits = [
        minimize_scalar(
            lambda yaw: chamfer(fixed, moving.turned(yaw)),
            bounds=(yaws[i] - YAW_STEP_DEG, yaws[i] + YAW_STEP_DEG),
            method="bounded",
            options={"xatol": YAW_PRECISION_DEG},
        )
        for i in np.argsort(coarse, kind="stable")[:N_REFINED]
    ]
    yaw_deg = min(fits, key=lambda fit: fit.fun).x
    return float(-((180 - yaw_deg) % 360 - 180))


def _fitted_scores(known: Probe, turned: tuple[np.ndarray, np.ndarray], seed: int) -> Row:
    """Scores of a mesh [V, 3], [F, 3] in the truth's box; it is moved onto the truth if that brings it nearer."""
    tried = [(turned, visible_points(turned))]
    for _ in range(FITS):
        (vertices, faces), seen = tried[-1]
        matrix = similarity(_some(known.visible, N_FINE), _some(seen, N_FINE))
        moved = (trimesh.transform_points(vertices, matrix), faces)
        tried.append((moved, visible_points(moved)))
    distance, best = min((chamfer(known.visible, seen), i) for i, (_, seen) in enumerate(tried))
    fitted = tried[best][0]
    whole = known.cloud.turned(0.0)  # in [-1, 1]^3
    points = 2 * sample(fitted, seed, N_POINTS).points
    f_names = [f"b_f{threshold}" for threshold in THRESHOLDS]
    return {
        "cd": distance,
        "iou": iou(known.inside, occupancy(fitted)),
        "b_cd": chamfer(whole, points),
        **dict(zip(f_names, f_scores(whole, points, THRESHOLDS))),
    }


def _visible_cloud(mesh: Any, count: int) -> Cloud:
    unit = normalized(mesh)
    return Cloud(unit[0], _some(visible_points(unit), count))


def _some(points: np.ndarray, count: int) -> np.ndarray:
    """About ``count`` of [P, 3] points: every n-th, since they come in the order of their places."""
    return points[:: max(1, len(points) // count)]


def _rotation(yaw_deg: float) -> np.ndarray:
    return trimesh.transformations.rotation_matrix(np.radians(yaw_deg), (0, 1, 0))[:3, :3]
