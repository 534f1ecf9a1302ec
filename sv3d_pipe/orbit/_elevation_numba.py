"""Numba kernel of :mod:`sv3d_pipe.orbit.elevation`: how far rays of each view get into the hull of the others."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, inline="always")
def _read(distance, x, y):
    """Bilinear between pixel centers; beyond the border as at the border."""
    last = len(distance) - 1
    x, y = min(max(x - 0.5, 0.0), last - 1e-3), min(max(y - 0.5, 0.0), last - 1e-3)
    i, j = int(x), int(y)
    u, v = x - i, y - j
    upper = distance[j, i] * (1 - u) + distance[j, i + 1] * u
    lower = distance[j + 1, i] * (1 - u) + distance[j + 1, i + 1] * u
    return upper * (1 - v) + lower * v


@njit(cache=True, nogil=True)
def reach_hull(
    distances, w2c, focal, view, origins, directions, near, step, samples, steepest, dissent, reached
):
    """Raise ``reached`` [R], per ray of a view [R], to the largest value over the ray's points of the distance
    [N, S, S] to the other views' outlines that all of them but ``dissent`` exceed, or to 0 if that is more.

    Sample n of a ray is at near + n * step. The distance changes by ``steepest`` at most from one to the next, so
    those that cannot be the largest are skipped.
    """
    count, size = len(distances), distances.shape[1]
    low = np.empty(dissent + 1)
    for r in range(len(view)):
        n = 0
        while n < samples and reached[r] < 0:
            x, y, z = origins[r] + (near + n * step) * directions[r]
            low[:] = np.inf
            for k in range(count):
                other = (view[r] + count // 4 + k) % count  # first those that look from aside
                if other == view[r]:
                    continue
                m = w2c[other]
                scale = -focal / (m[2, 0] * x + m[2, 1] * y + m[2, 2] * z + m[2, 3])
                right = m[0, 0] * x + m[0, 1] * y + m[0, 2] * z + m[0, 3]
                up = m[1, 0] * x + m[1, 1] * y + m[1, 2] * z + m[1, 3]
                value = _read(distances[other], size / 2 + right * scale, size / 2 - up * scale)
                for i in range(dissent + 1):
                    if value < low[i]:
                        low[i], value = value, low[i]
                if low[dissent] <= reached[r]:
                    break
            n += max(1, int((reached[r] - low[dissent]) / steepest))
            reached[r] = min(max(reached[r], low[dissent]), 0)
