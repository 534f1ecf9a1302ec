"""Numba kernels of :mod:`sv3d_pipe.orbit.mini.volume_render`.

Volumes [B, z, y, x, 8] are channels-last, so that the channels of a voxel are one vector, and framed by
zeros, so that no corner needs a check. Sample n of a ray is at start + n * step, in voxels.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

CHANNELS = 8  # rgb, density, four features
DENSITY = 3
FAST = {"contract", "reassoc", "nsz"}  # but NaN stays NaN, and thereby outside


@njit(cache=True, fastmath=FAST)
def _cell(start, step, n, grid):
    """Whether sample n is inside; rows of the volume at the corners around it, and their weights."""
    n, end = np.float32(n), np.float32(grid - 1)
    x, y, z = start[0] + n * step[0], start[1] + n * step[1], start[2] + n * step[2]
    inside = 0 <= x < end and 0 <= y < end and 0 <= z < end
    i, j, k = np.int64(x), np.int64(y), np.int64(z)
    x, y, z = x - np.float32(i), y - np.float32(j), z - np.float32(k)
    u, v, w = np.float32(1) - x, np.float32(1) - y, np.float32(1) - z
    weights = u * v * w, x * v * w, u * y * w, x * y * w, u * v * z, x * v * z, u * y * z, x * y * z
    # Unsigned, for an index that cannot be negative needs no check.
    p, one, dy, dz = np.uint64((k * grid + j) * grid + i), np.uint64(1), np.uint64(grid), np.uint64(grid**2)
    q = p + dz
    return inside, (p, p + one, p + dy, p + dy + one, q, q + one, q + dy, q + dy + one), weights


@njit(cache=True, fastmath=FAST)
def _read(volume, rows, weights, values):
    for c in range(CHANNELS):
        values[c] = (
            weights[0] * volume[rows[0], c]
            + weights[1] * volume[rows[1], c]
            + weights[2] * volume[rows[2], c]
            + weights[3] * volume[rows[3], c]
            + weights[4] * volume[rows[4], c]
            + weights[5] * volume[rows[5], c]
            + weights[6] * volume[rows[6], c]
            + weights[7] * volume[rows[7], c]
        )


@njit(cache=True, fastmath=FAST)
def _add(row, weight, values):
    for c in range(CHANNELS):
        row[c] += weight * values[c]


@njit(cache=True, parallel=True, fastmath=FAST)
def render(volumes, starts, steps, samples, images):
    """starts, steps [B, T, R, 3] -> images [B, T, 8, R]."""
    batch, frames, rays = steps.shape[:3]
    grid, length = volumes.shape[1], np.float32(2 / samples)
    for job in prange(batch * frames):
        b, t = job // frames, job % frames
        volume = volumes[b].reshape(-1, CHANNELS)
        values, image = np.empty(CHANNELS, np.float32), np.empty(CHANNELS, np.float32)
        for r in range(rays):
            image[:] = 0
            light = np.float32(1)
            for n in range(samples):
                inside, rows, weights = _cell(starts[b, t, r], steps[b, t, r], n, grid)
                if not inside:
                    continue
                _read(volume, rows, weights, values)
                after = light * np.exp(-length * values[DENSITY])
                values[DENSITY] = 1  # alpha is the sum of the weights
                _add(image, light - after, values)
                light = after
            for c in range(CHANNELS):
                images[b, t, c, r] = image[c]


@njit(cache=True, parallel=True, fastmath=FAST)
def render_gradient(volumes, starts, steps, samples, images, grad_images, grad_volumes):
    """d w_i / d density_i = length T_(i+1); d w_j / d density_i = -length w_j for j behind i."""
    batch, frames, rays = steps.shape[:3]
    grid, length = volumes.shape[1], np.float32(2 / samples)
    for b in prange(batch):
        volume, grad_volume = volumes[b].reshape(-1, CHANNELS), grad_volumes[b].reshape(-1, CHANNELS)
        values, upstream = np.empty(CHANNELS, np.float32), np.empty(CHANNELS, np.float32)
        grad = np.empty(CHANNELS, np.float32)
        for t in range(frames):
            for r in range(rays):
                light, behind = np.float32(1), np.float32(0)
                for c in range(CHANNELS):
                    upstream[c] = grad_images[b, t, c, r]
                    behind += upstream[c] * images[b, t, c, r]
                for n in range(samples):
                    inside, rows, weights = _cell(starts[b, t, r], steps[b, t, r], n, grid)
                    if not inside:
                        continue
                    _read(volume, rows, weights, values)
                    after = light * np.exp(-length * values[DENSITY])
                    values[DENSITY] = 1
                    value = np.float32(0)
                    for c in range(CHANNELS):
                        value += upstream[c] * values[c]
                        grad[c] = (light - after) * upstream[c]
                    behind -= (light - after) * value
                    grad[DENSITY] = length * (after * value - behind)
                    for corner in range(8):
                        _add(grad_volume[rows[corner]], weights[corner], grad)
                    light = after
