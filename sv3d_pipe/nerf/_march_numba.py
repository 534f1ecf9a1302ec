"""Numba kernels of :mod:`sv3d_pipe.nerf.march` and :mod:`sv3d_pipe.nerf.composite`."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

CHUNK = 64  # rays per job


@njit(cache=True, inline="always")
def _clip(origin, direction, radius):
    """Entry and exit distance of the cube [-radius, radius]^3; entry >= exit if it is missed."""
    near, far = np.float32(0), np.float32(1e30)
    for axis in range(3):
        o, d = origin[axis], direction[axis]
        if d == 0:
            if abs(o) > radius:
                far = np.float32(-1)
            continue
        a, b = (-radius - o) / d, (radius - o) / d
        near, far = max(near, min(a, b)), min(far, max(a, b))
    return near, far


@njit(parallel=True, cache=True)
def march(origins, directions, jitter, occupied, radius, step, starts, t_starts, ray_indices, fill):
    """fill False: starts[r + 1] = number of samples of ray r. fill True: write them from starts[r] on."""
    n_rays, grid = len(origins), len(occupied)
    scale = np.float32(0.5) / radius * np.float32(grid)
    for job in prange((n_rays + CHUNK - 1) // CHUNK):
        for r in range(job * CHUNK, min((job + 1) * CHUNK, n_rays)):
            near, far = _clip(origins[r], directions[r], radius)
            found = 0
            t = near + jitter[r] * step
            k = 0
            while t + np.float32(0.5) * step < far:
                middle = t + np.float32(0.5) * step
                i = np.int64((origins[r, 0] + middle * directions[r, 0] + radius) * scale)
                j = np.int64((origins[r, 1] + middle * directions[r, 1] + radius) * scale)
                m = np.int64((origins[r, 2] + middle * directions[r, 2] + radius) * scale)
                i, j, m = min(max(i, 0), grid - 1), min(max(j, 0), grid - 1), min(max(m, 0), grid - 1)
                if occupied[i, j, m]:
                    if fill:
                        t_starts[starts[r] + found] = t
                        ray_indices[starts[r] + found] = r
                    found += 1
                k += 1
                t = near + (np.float32(k) + jitter[r]) * step
            if not fill:
                starts[r + 1] = found


@njit(parallel=True, cache=True)
def composite(sigma, rgb, lengths, starts, out, alpha, transmittance):
    """out [R, 3], alpha [R]; transmittance [S] in front of each sample is kept for the gradient."""
    n_rays = len(out)
    for job in prange((n_rays + CHUNK - 1) // CHUNK):
        for r in range(job * CHUNK, min((job + 1) * CHUNK, n_rays)):
            light = np.float32(1)
            for s in range(starts[r], starts[r + 1]):
                transmittance[s] = light
                after = light * np.exp(-sigma[s] * lengths[s])
                for c in range(3):
                    out[r, c] += (light - after) * rgb[s, c]
                light = after
            alpha[r] = 1 - light


@njit(parallel=True, cache=True)
def composite_gradient(
    sigma, rgb, lengths, starts, transmittance, grad_out, grad_alpha, grad_sigma, grad_rgb
):  # fmt: skip
    """d w_i / d sigma_i = length_i T_(i+1); d w_j / d sigma_i = -length_i w_j for j behind i."""
    n_rays = len(grad_alpha)
    for job in prange((n_rays + CHUNK - 1) // CHUNK):
        for r in range(job * CHUNK, min((job + 1) * CHUNK, n_rays)):
            behind = np.float32(0)
            for s in range(starts[r + 1] - 1, starts[r] - 1, -1):
                after = transmittance[s] * np.exp(-sigma[s] * lengths[s])
                weight = transmittance[s] - after
                value = grad_alpha[r]
                for c in range(3):
                    value += grad_out[r, c] * rgb[s, c]
                    grad_rgb[s, c] = weight * grad_out[r, c]
                grad_sigma[s] = lengths[s] * (after * value - behind)
                behind += weight * value
