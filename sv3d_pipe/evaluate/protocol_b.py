"""How far one mesh is from another after the best turn: protocol B, that of TripoSR and SF3D.

Both meshes fill [-1, 1]^3 (longest side 2, centered); the prediction's yaw is found by trying all, then
ICP refines rotation and translation; 10,000 points of each surface; chamfer distance (mean of the two
mean distances, not squared: SPAR3D, equation 3) and F-score at 0.1, 0.2 and 0.5. The papers publish no
code and leave open when the box is taken; here it is the box of the turned prediction, so that a turned
copy of a mesh fits it exactly.

ICP is trimesh's: a dependency already, the same k-d tree and Procrustes solution that a loop around
scipy would need, kept and tested by others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import trimesh

from sv3d_pipe.evaluate.protocol_a import arrays, chamfer, normalized
from sv3d_pipe.evaluate.surface_samples import sample
from sv3d_pipe.geometry.similarity import nearest

N_POINTS = 10_000
THRESHOLDS = (0.1, 0.2, 0.5)
YAW_STEP_DEG = 5.0
N_COARSE = 1_000  # points that tell good yaws from bad ones
N_REFINED = 3  # the best yaws are refined; the best result counts
N_ICP = 2_000  # predicted points that ICP moves onto all true ones
ICP_ROUNDS = 2  # the box is taken anew at the yaw that ICP found


@dataclass(frozen=True)
class Cloud:
    """Points of a mesh for protocol B.

    Attributes:
        vertices: [V, 3] of the mesh, which give its box. points: [N, 3] on its surface, same scale.
    """

    vertices: np.ndarray
    points: np.ndarray

    @classmethod
    def of(cls, mesh: Any, seed: int) -> Cloud:
        mesh = normalized(mesh)
        return cls(arrays(mesh)[0], sample(mesh, seed, N_POINTS).points)

    def turned(self, yaw_deg: float) -> np.ndarray:
        """The points [N, 3] turned around +y, in the [-1, 1]^3 box of the turned mesh."""
        rotation = trimesh.transformations.rotation_matrix(np.radians(yaw_deg), (0, 1, 0))[:3, :3]
        vertices = self.vertices @ rotation.T
        low, high = vertices.min(0), vertices.max(0)
        return (self.points @ rotation.T - (low + high) / 2) * (2 / (high - low).max())


def f_scores(truth: np.ndarray, pred: np.ndarray, thresholds: tuple[float, ...]) -> list[float]:
    """F-scores of point sets [A, 3] and [B, 3] at several distances.

    Harmonic means of precision (share of predicted points near the truth) and recall (the reverse).
    """
    forth, back = nearest(truth, pred)[0], nearest(pred, truth)[0]
    scores = []
    for threshold in thresholds:
        recall, precision = (forth <= threshold).mean(), (back <= threshold).mean()
        total = precision + recall
        scores.append(float(2 * precision * recall / total) if total else 0.0)
    return scores


def align(truth: Cloud, pred: Cloud) -> tuple[np.ndarray, float]:
    """The predicted points [N, 3] in the truth's [-1, 1]^3 box, best turned and fitted, and the yaw in degrees."""
    fixed = truth.turned(0.0)
    yaws = np.arange(0, 360, YAW_STEP_DEG)
    few = Cloud(pred.vertices, pred.points[:N_COARSE])
    coarse = [chamfer(fixed[:N_COARSE], few.turned(yaw)) for yaw in yaws]
    best = np.argsort(coarse, kind="stable")[:N_REFINED]
    fits = [_refined(fixed, pred, float(yaws[i])) for i in best]
    _, moved, yaw_deg = min(fits, key=lambda fit: fit[0])
    return moved, yaw_deg


def _refined(fixed: np.ndarray, pred: Cloud, yaw_deg: float) -> tuple[float, np.ndarray, float]:
    """ICP from a yaw: chamfer distance, fitted points and final yaw in (-180, 180] degrees."""
    tried = []
    for _ in range(ICP_ROUNDS):
        start = pred.turned(yaw_deg)
        tried.append((chamfer(fixed, start), start, yaw_deg))  # ICP minimizes another distance
        matrix, _, _ = trimesh.registration.icp(
            start[:N_ICP], fixed, threshold=1e-7, max_iterations=40, scale=False, reflection=False
        )
        moved = trimesh.transform_points(start, matrix)
        yaw_deg += np.degrees(np.arctan2(matrix[0, 2] - matrix[2, 0], matrix[0, 0] + matrix[2, 2]))
        tried.append((chamfer(fixed, moved), moved, yaw_deg))
    distance, moved, yaw_deg = min(tried, key=lambda fit: fit[0])
    return distance, moved, float(-((180 - yaw_deg) % 360 - 180))


def protocol_b(truth: Cloud, pred: Cloud) -> dict[str, float]:
    """``b_cd``, ``b_f0.1``, ``b_f0.2``, ``b_f0.5`` after alignment, and the ``b_yaw_deg`` found."""
    moved, yaw_deg = align(truth, pred)
    fixed = truth.turned(0.0)
    scores = f_scores(fixed, moved, THRESHOLDS)
    named = {f"b_f{threshold}": score for threshold, score in zip(THRESHOLDS, scores)}
    return {"b_cd": chamfer(fixed, moved), **named, "b_yaw_deg": yaw_deg}
