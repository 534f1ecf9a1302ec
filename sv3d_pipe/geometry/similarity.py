"""Rotation, move and scale that bring one set of points onto another."""

from __future__ import annotations

import numpy as np
import trimesh
from scipy.spatial import cKDTree

LEAF = 128  # points per leaf of a k-d tree: half the time of scipy's 10 between surfaces far apart
MOST_ROUNDS = 40
STANDSTILL = 1e-6  # mean movement of the points in a round, in units of theirs, that ends ICP


def nearest(points: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance [A] from each of [A, 3] to the nearest of [B, 3], and which one that is [A]."""
    return cKDTree(others, leafsize=LEAF).query(points)


def similarity(fixed: np.ndarray, moving: np.ndarray, rounds: int = MOST_ROUNDS) -> np.ndarray:
    """[4, 4] similarity that brings points [B, 3] onto others [A, 3] that they are near to, by ICP.

    Every round fits the pairs of nearest points of both directions, so that neither surface is drawn to
    the inside of the other.
    """
    total, moved = np.eye(4), moving
    for _ in range(rounds):
        there, here = nearest(moved, fixed)[1], nearest(fixed, moved)[1]
        pairs = np.concatenate([moved, moved[here]]), np.concatenate([fixed[there], fixed])
        matrix, _, _ = trimesh.registration.procrustes(*pairs, reflection=False, scale=True)
        total, before = matrix @ total, moved
        moved = trimesh.transform_points(moving, total)
        if np.abs(moved - before).mean() < STANDSTILL:
            break
    return total
