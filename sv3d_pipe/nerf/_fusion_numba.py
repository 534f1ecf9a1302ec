"""Numba kernels of :mod:`sv3d_pipe.nerf.fusion`: depth of a density volume, fusion of depths."""

from __future__ import annotations

import numpy as np
from numba import njit, prange


@njit(cache=True, inline="always")
def _trilinear(volume, x, y, z):
    """Value at index coordinates (0 = first center), clamped to the volume."""
    nx, ny, nz = volume.shape
    x = min(max(x, np.float32(0)), np.float32(nx - 1.001))
    y = min(max(y, np.float32(0)), np.float32(ny - 1.001))
    z = min(max(z, np.float32(0)), np.float32(nz - 1.001))
    i, j, k = int(x), int(y), int(z)
    u, v, w = x - np.float32(i), y - np.float32(j), z - np.float32(k)
    one = np.float32(1)
    low = (volume[i, j, k] * (one - w) + volume[i, j, k + 1] * w) * (one - v) + (
        volume[i, j + 1, k] * (one - w) + volume[i, j + 1, k + 1] * w
    ) * v
    high = (volume[i + 1, j, k] * (one - w) + volume[i + 1, j, k + 1] * w) * (one - v) + (
        volume[i + 1, j + 1, k] * (one - w) + volume[i + 1, j + 1, k + 1] * w
    ) * v
    return low * (one - u) + high * u


@njit(parallel=True, cache=True)
def render_depth(density, filled, low, cell, c2w, focal, step, depth_limit, depth):
    """depth [N, S, S] along the viewing axis where the optical depth reaches ``depth_limit``; inf: never.

    density [X, Y, Z] has its centers at low + (index + 0.5) * cell; ``filled`` marks blocks of 4^3
    cells that are not empty.
    """
    n_cameras, size, _ = depth.shape
    nx, ny, nz = density.shape
    inverse = np.float32(1) / cell
    for job in prange(n_cameras * size):
        n, row = job // size, job % size
        ox, oy, oz = c2w[n, 0, 3] - low[0], c2w[n, 1, 3] - low[1], c2w[n, 2, 3] - low[2]
        for column in range(size):
            cx = (np.float32(column) + np.float32(0.5) - np.float32(size) / 2) / focal
            cy = (np.float32(size) / 2 - np.float32(row) - np.float32(0.5)) / focal
            dx = c2w[n, 0, 0] * cx + c2w[n, 0, 1] * cy - c2w[n, 0, 2]
            dy = c2w[n, 1, 0] * cx + c2w[n, 1, 1] * cy - c2w[n, 1, 2]
            dz = c2w[n, 2, 0] * cx + c2w[n, 2, 1] * cy - c2w[n, 2, 2]
            length = np.sqrt(dx * dx + dy * dy + dz * dz)
            near, far = np.float32(0), np.float32(1e30)
            for o, d, extent in ((ox, dx, nx * cell), (oy, dy, ny * cell), (oz, dz, nz * cell)):
                if abs(d) < 1e-9:
                    d = np.float32(1e-9)
                a, b = np.float32(-o / d), np.float32((extent - o) / d)
                near, far = max(near, min(a, b)), min(far, max(a, b))
            advance = np.float32(step / length)
            t = near + np.float32(0.5) * advance
            passed = np.float32(0)
            depth[n, row, column] = np.inf
            while t < far:
                x, y, z = (ox + t * dx) * inverse, (oy + t * dy) * inverse, (oz + t * dz) * inverse
                i, j = min(max(int(x), 0), nx - 1), min(max(int(y), 0), ny - 1)
                k = min(max(int(z), 0), nz - 1)
                if filled[i >> 2, j >> 2, k >> 2]:
                    half = np.float32(0.5)
                    more = np.float32(step) * _trilinear(density, x - half, y - half, z - half)
                    if passed + more >= depth_limit:
                        part = (depth_limit - passed) / more
                        depth[n, row, column] = t + (part - half) * advance
                        break
                    passed += more
                t += advance


@njit(parallel=True, cache=True)
def fuse(depth, w2c, focal, low, cell, truncation, sdf):
    """sdf [X, Y, Z] = mean over the cameras in front of each center, in units of the truncation.

    Centers at low + index * cell. A center that lies deeper than the truncation behind every
    surface gets -1; one that some camera sees through to the background counts there as +1.
    """
    n_cameras, size, _ = depth.shape
    nx, ny, nz = sdf.shape
    for i in prange(nx):
        for j in range(ny):
            for k in range(nz):
                x, y, z = low[0] + i * cell, low[1] + j * cell, low[2] + k * cell
                total, seen = 0.0, 0
                for n in range(n_cameras):
                    m = w2c[n]
                    away = -(m[2, 0] * x + m[2, 1] * y + m[2, 2] * z + m[2, 3])
                    if away <= 1e-6:
                        continue
                    u = (m[0, 0] * x + m[0, 1] * y + m[0, 2] * z + m[0, 3]) / away * focal + size * 0.5
                    v = size * 0.5 - (m[1, 0] * x + m[1, 1] * y + m[1, 2] * z + m[1, 3]) / away * focal
                    if u < 0 or v < 0 or u >= size or v >= size:
                        continue
                    distance = (depth[n, int(v), int(u)] - away) / truncation
                    if distance < -1:
                        continue
                    total += min(distance, 1.0)
                    seen += 1
                sdf[i, j, k] = total / seen if seen else -1.0
