"""How often does a surface wrap around a point: the generalized winding number.

1 inside a closed mesh whose faces point outwards, 0 outside, between the two near the holes of an
open one (Jacobson et al. 2013, equation 5). Far faces are summed up as dipoles, as in Barill et
al. 2018.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

CLUSTERS_PER_SIDE = 24
FAR = 3.0  # a cluster counts as a dipole beyond this many of its radii


def winding_number(points: np.ndarray, vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Winding numbers of points [P, 3] with respect to a mesh: [P] float64.

    Args:
        vertices: [V, 3].
        faces: [F, 3] integer, counter-clockwise seen from outside.
    """
    corners = np.ascontiguousarray(vertices[faces], np.float64)  # [F, 3, 3]
    order, starts, centers, radii, dipoles = _clusters(corners)
    return _sum(np.ascontiguousarray(points, np.float64), corners[order], starts, centers, radii, dipoles)


def _clusters(corners: np.ndarray):
    """Group faces by the cell of a coarse grid that holds their centroid.

    Returns:
        order [F] sorting faces by cluster, starts [C + 1] into it, and per cluster its center
        [C, 3] (area-weighted), radius [C] around that and dipole [C, 3] (sum of area normals).
    """
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]) / 2
    area = np.linalg.norm(normals, axis=-1) + 1e-30
    middle = corners.mean(1)
    low = middle.min(0)
    side = max((middle.max(0) - low).max(), 1e-12) / CLUSTERS_PER_SIDE
    cell = ((middle - low) / side).astype(np.int64).clip(max=CLUSTERS_PER_SIDE - 1)
    key = (cell[:, 0] * CLUSTERS_PER_SIDE + cell[:, 1]) * CLUSTERS_PER_SIDE + cell[:, 2]
    _, index, count = np.unique(key, return_inverse=True, return_counts=True)
    index = index.reshape(-1)

    def total(values):
        return np.stack([np.bincount(index, values[:, i]) for i in range(3)], -1)

    centers = total(middle * area[:, None]) / np.bincount(index, area)[:, None]
    radii = np.zeros(len(count))
    np.maximum.at(radii, index, np.linalg.norm(corners - centers[index, None], axis=-1).max(1))
    starts = np.concatenate([[0], np.cumsum(count)])
    return np.argsort(index, kind="stable"), starts, centers, radii, total(normals)


@njit(parallel=True, cache=True)
def _sum(points, corners, starts, centers, radii, dipoles):
    result = np.zeros(len(points))
    for p in prange(len(points)):
        x, y, z = points[p]
        total = 0.0
        for c in range(len(radii)):
            dx, dy, dz = centers[c, 0] - x, centers[c, 1] - y, centers[c, 2] - z
            square = dx * dx + dy * dy + dz * dz
            if square > (FAR * radii[c]) ** 2:
                flux = dx * dipoles[c, 0] + dy * dipoles[c, 1] + dz * dipoles[c, 2]
                total += flux / (square * np.sqrt(square))
            else:
                for f in range(starts[c], starts[c + 1]):
                    total += _solid_angle(corners[f], x, y, z)
        result[p] = total / (4 * np.pi)
    return result


@njit(cache=True, inline="always")
def _solid_angle(corners, x, y, z):
    """Signed solid angle of a triangle seen from (x, y, z): Van Oosterom and Strackee 1983."""
    ax, ay, az = corners[0, 0] - x, corners[0, 1] - y, corners[0, 2] - z
    bx, by, bz = corners[1, 0] - x, corners[1, 1] - y, corners[1, 2] - z
    cx, cy, cz = corners[2, 0] - x, corners[2, 1] - y, corners[2, 2] - z
    a = np.sqrt(ax * ax + ay * ay + az * az)
    b = np.sqrt(bx * bx + by * by + bz * bz)
    c = np.sqrt(cx * cx + cy * cy + cz * cz)
    volume = ax * (by * cz - bz * cy) + ay * (bz * cx - bx * cz) + az * (bx * cy - by * cx)
    ab = ax * bx + ay * by + az * bz
    bc = bx * cx + by * cy + bz * cz
    ca = cx * ax + cy * ay + cz * az
    return 2 * np.arctan2(volume, a * b * c + ab * c + bc * a + ca * b)


def winding_number_reference(points: np.ndarray, vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """The slow twin of :func:`winding_number`: every face exactly, in plain numpy."""
    corners = vertices[faces][None] - points[:, None, None]  # [P, F, 3, 3]
    a, b, c = corners[:, :, 0], corners[:, :, 1], corners[:, :, 2]
    length = np.linalg.norm(corners, axis=-1)  # [P, F, 3]
    volume = (a * np.cross(b, c)).sum(-1)
    divisor = length.prod(-1)
    for left, right, other in ((a, b, 2), (b, c, 0), (c, a, 1)):
        divisor = divisor + (left * right).sum(-1) * length[..., other]
    return np.arctan2(volume, divisor).sum(-1) / (2 * np.pi)
