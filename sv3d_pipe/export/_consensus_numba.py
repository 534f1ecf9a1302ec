"""Numba kernel of :mod:`sv3d_pipe.export.bake`: the colors that most views agree on."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

ROUNDS = 6  # of Weiszfeld's iteration


@njit(parallel=True, cache=True)
def consensus(colors, trust, sharpness, usual, rgb, weight, agreeing):
    """The mean rgb [P, 3] of colors [N, P, 3], each trusted by trust [N, P] and by its nearness to their median.

    The median is the geometric one (Weiszfeld 1937), weighted by trust. A color that is ``usual`` away from it
    keeps a quarter of its say. weight [P] is the sum of trust ** sharpness; agreeing [P], trust that is near the median.
    """
    views, points = trust.shape
    for p in prange(points):
        middle = np.zeros(3, np.float32)
        total = np.float32(0)
        for n in range(views):
            total += trust[n, p]
            for c in range(3):
                middle[c] += trust[n, p] * colors[n, p, c]
        if total <= 0:
            continue
        middle /= total
        for _ in range(ROUNDS):
            moved = np.zeros(3, np.float32)
            total = np.float32(0)
            for n in range(views):
                if trust[n, p] > 0:
                    away = np.float32(1e-4)
                    for c in range(3):
                        away += (colors[n, p, c] - middle[c]) ** 2
                    say = trust[n, p] / np.sqrt(away)
                    total += say
                    for c in range(3):
                        moved[c] += say * colors[n, p, c]
            middle = moved / total
        total = np.float32(0)
        for n in range(views):
            if trust[n, p] > 0:
                away = np.float32(0)
                for c in range(3):
                    away += (colors[n, p, c] - middle[c]) ** 2
                near = usual**2 / (usual**2 + away)
                say = trust[n, p] ** sharpness
                weight[p] += say
                agreeing[p] += trust[n, p] * near
                say *= near * near
                total += say
                for c in range(3):
                    rgb[p, c] += say * colors[n, p, c]
        for c in range(3):
            rgb[p, c] /= max(total, np.float32(1e-12))
