"""Numba kernel of :mod:`sv3d_pipe.nerf.stereo`: costs summed along scanlines."""

from __future__ import annotations

import numpy as np
from numba import njit, prange


@njit(cache=True, inline="always")
def _advance(path, cost, small, large):
    """The path's costs [D] one pixel on: a move to the next plane costs ``small``, a jump ``large``."""
    least = path.min()
    before = path[0]
    for d in range(len(path)):
        here = path[d]
        best = min(here, before + small, least + large)
        if d + 1 < len(path):
            best = min(best, path[d + 1] + small)
        before = here
        path[d] = cost[d] + best - least


@njit(parallel=True, cache=True)
def add_scanlines(cost, small, large, total):
    """Add to total [H, W, D] the path costs of every row of cost [H, W, D], from both of its ends."""
    height, width, planes = cost.shape
    for row in prange(height):
        path = np.zeros(planes, np.float32)
        for column in range(width):
            _advance(path, cost[row, column], small, large)
            total[row, column] += path
        path[:] = 0
        for column in range(width - 1, -1, -1):
            _advance(path, cost[row, column], small, large)
            total[row, column] += path
