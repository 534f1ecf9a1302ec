"""Which grid nodes lie inside a mesh by the signs of the public evaluation: parity along +x.

SyncDreamer's evaluation takes the signs of mesh2sdf (``fix=False``): a node is inside if the ray that
reaches it from the far -x side has crossed an odd number of triangles. That is right for one closed
shell, and wrong behind every hole, where shells overlap, and where a face is missing or doubled: a scan
that is open may turn out hollow, or filled to the edge of the grid.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from sv3d_pipe.evaluate.protocol_a import GRID, arrays

NUDGE = (1.4e-7, 1.7e-7)  # in grid steps: rays are moved in y and z so that none meets an edge


def occupancy_by_signs(mesh: Any, grid: int = GRID) -> np.ndarray:
    """Which nodes of a grid over [-1, 1]^3 lie behind an odd number of triangles, seen along +x.

    Node i of an axis is at -1 + 2 i / grid, as in :func:`sv3d_pipe.evaluate.protocol_a.occupancy`.

    Returns:
        [grid, grid, grid] bool, axes x, y, z.
    """
    vertices, faces = arrays(mesh)
    corners = np.ascontiguousarray((vertices[faces] + 1) * (grid / 2))  # [F, 3, 3] in grid steps
    crossings = _crossings(corners, grid, *NUDGE)  # [grid, grid, grid], between node i - 1 and i
    return np.cumsum(crossings, 0) % 2 == 1


@njit(cache=True)
def _crossings(corners, grid, nudge_y, nudge_z):
    """How many triangles cross the grid line (y, z) in the half-open step up to each node."""
    count = np.zeros((grid, grid, grid), np.int64)
    for f in range(len(corners)):
        (ax, ay, az), (bx, by, bz), (cx, cy, cz) = corners[f, 0], corners[f, 1], corners[f, 2]
        area = (by - ay) * (cz - az) - (bz - az) * (cy - ay)
        if area == 0:
            continue
        first_y, last_y = max(0, int(np.floor(min(ay, by, cy)))), min(grid - 1, int(max(ay, by, cy)))
        first_z, last_z = max(0, int(np.floor(min(az, bz, cz)))), min(grid - 1, int(max(az, bz, cz)))
        for j in range(first_y, last_y + 1):
            for k in range(first_z, last_z + 1):
                y, z = j + nudge_y, k + nudge_z
                wa = ((by - y) * (cz - z) - (bz - z) * (cy - y)) / area
                wb = ((cy - y) * (az - z) - (cz - z) * (ay - y)) / area
                wc = ((ay - y) * (bz - z) - (az - z) * (by - y)) / area
                if wa < 0 or wb < 0 or wc < 0:
                    continue
                i = max(0, int(np.ceil(wa * ax + wb * bx + wc * cx)))
                if i < grid:
                    count[i, j, k] += 1
    return count
