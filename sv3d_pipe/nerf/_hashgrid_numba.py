"""Numba kernels of :mod:`sv3d_pipe.nerf.hashgrid`. Positions in [0, 1]^3, two features per entry."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

PRIME_Y = np.uint64(2654435761)
PRIME_Z = np.uint64(805459861)
BLOCK = 512  # points per job: one level's table stays in the cache while a block passes through it
ONE = np.float32(1)
NEXT = np.uint64(1)  # unsigned indices spare numba its check for negative ones


@njit(cache=True, inline="always")
def _cell(coordinate, resolution):
    """Index of the cell and position in it, of a coordinate in [0, resolution]."""
    index = min(np.int64(coordinate), resolution - 1)
    return np.uint64(index), coordinate - np.float32(index)


@njit(cache=True, inline="always")
def _rows(i, j, k, resolution, offset, size, dense):
    """Table rows of the cell's eight corners, x fastest."""
    if dense:
        side = np.uint64(resolution + 1)
        offset = np.uint64(offset)
        row = offset + (k * side + j) * side + i
        top = row + side * side
        return row, row + NEXT, row + side, row + side + NEXT, top, top + NEXT, top + side, top + side + NEXT
    mask, offset = np.uint64(size - 1), np.uint64(offset)
    y0, z0 = j * PRIME_Y, k * PRIME_Z
    y1, z1 = y0 + PRIME_Y, z0 + PRIME_Z
    a, b, c, d = y0 ^ z0, y1 ^ z0, y0 ^ z1, y1 ^ z1
    return (
        offset + ((i ^ a) & mask), offset + (((i + NEXT) ^ a) & mask),
        offset + ((i ^ b) & mask), offset + (((i + NEXT) ^ b) & mask),
        offset + ((i ^ c) & mask), offset + (((i + NEXT) ^ c) & mask),
        offset + ((i ^ d) & mask), offset + (((i + NEXT) ^ d) & mask),
    )  # fmt: skip


@njit(cache=True, inline="always")
def _weights(u, v, w):
    """Trilinear weights of the eight corners, x fastest."""
    a, b, c, d = (ONE - v) * (ONE - w), v * (ONE - w), (ONE - v) * w, v * w
    x = ONE - u
    return x * a, u * a, x * b, u * b, x * c, u * c, x * d, u * d


# The two loops over corners are written out: numba indexes a tuple by a variable only through memory.
@njit(cache=True, inline="always")
def _blend(table, feature, r, w):
    return (
        w[0] * table[r[0], feature] + w[1] * table[r[1], feature]
        + w[2] * table[r[2], feature] + w[3] * table[r[3], feature]
        + w[4] * table[r[4], feature] + w[5] * table[r[5], feature]
        + w[6] * table[r[6], feature] + w[7] * table[r[7], feature]
    )  # fmt: skip


@njit(cache=True, inline="always")
def _spread(out, feature, r, w, value):
    out[r[0], feature] += w[0] * value
    out[r[1], feature] += w[1] * value
    out[r[2], feature] += w[2] * value
    out[r[3], feature] += w[3] * value
    out[r[4], feature] += w[4] * value
    out[r[5], feature] += w[5] * value
    out[r[6], feature] += w[6] * value
    out[r[7], feature] += w[7] * value


@njit(parallel=True, cache=True)
def encode(points, table, resolutions, offsets, dense, out):
    """out [N, L, 2] = trilinear interpolation of table [E, 2] at points [N, 3], level by level."""
    n_points, n_levels = len(points), len(resolutions)
    for block in prange((n_points + BLOCK - 1) // BLOCK):
        for level in range(n_levels):
            resolution, offset = resolutions[level], offsets[level]
            size, is_dense = offsets[level + 1] - offset, dense[level]
            scale = np.float32(resolution)
            for n in range(block * BLOCK, min((block + 1) * BLOCK, n_points)):
                i, u = _cell(points[n, 0] * scale, resolution)
                j, v = _cell(points[n, 1] * scale, resolution)
                k, w = _cell(points[n, 2] * scale, resolution)
                rows = _rows(i, j, k, resolution, offset, size, is_dense)
                weights = _weights(u, v, w)
                out[n, level, 0] = _blend(table, 0, rows, weights)
                out[n, level, 1] = _blend(table, 1, rows, weights)


@njit(parallel=True, cache=True)
def table_gradient(points, grad, order, resolutions, offsets, dense, out):
    """out [E, 2] += the gradient of the table. One level per job: no two threads write one entry."""
    for job in prange(len(order)):
        level = order[job]
        resolution, offset = resolutions[level], offsets[level]
        size, is_dense = offsets[level + 1] - offset, dense[level]
        scale = np.float32(resolution)
        for n in range(len(points)):
            first, second = grad[n, level, 0], grad[n, level, 1]
            if first == 0 and second == 0:
                continue
            i, u = _cell(points[n, 0] * scale, resolution)
            j, v = _cell(points[n, 1] * scale, resolution)
            k, w = _cell(points[n, 2] * scale, resolution)
            rows = _rows(i, j, k, resolution, offset, size, is_dense)
            weights = _weights(u, v, w)
            _spread(out, 0, rows, weights, first)
            _spread(out, 1, rows, weights, second)


@njit(parallel=True, cache=True)
def point_gradient(points, table, grad, resolutions, offsets, dense, out):
    """out [N, 3] += the gradient of the positions."""
    n_points, n_levels = len(points), len(resolutions)
    for block in prange((n_points + BLOCK - 1) // BLOCK):
        for level in range(n_levels):
            resolution, offset = resolutions[level], offsets[level]
            size, is_dense = offsets[level + 1] - offset, dense[level]
            scale = np.float32(resolution)
            for n in range(block * BLOCK, min((block + 1) * BLOCK, n_points)):
                i, u = _cell(points[n, 0] * scale, resolution)
                j, v = _cell(points[n, 1] * scale, resolution)
                k, w = _cell(points[n, 2] * scale, resolution)
                r = _rows(i, j, k, resolution, offset, size, is_dense)
                first, second = grad[n, level, 0] * scale, grad[n, level, 1] * scale
                f0 = table[r[0], 0] * first + table[r[0], 1] * second
                f1 = table[r[1], 0] * first + table[r[1], 1] * second
                f2 = table[r[2], 0] * first + table[r[2], 1] * second
                f3 = table[r[3], 0] * first + table[r[3], 1] * second
                f4 = table[r[4], 0] * first + table[r[4], 1] * second
                f5 = table[r[5], 0] * first + table[r[5], 1] * second
                f6 = table[r[6], 0] * first + table[r[6], 1] * second
                f7 = table[r[7], 0] * first + table[r[7], 1] * second
                x, y, z = ONE - u, ONE - v, ONE - w
                out[n, 0] += y * (z * (f1 - f0) + w * (f5 - f4)) + v * (z * (f3 - f2) + w * (f7 - f6))
                out[n, 1] += x * (z * (f2 - f0) + w * (f6 - f4)) + u * (z * (f3 - f1) + w * (f7 - f5))
                out[n, 2] += x * (y * (f4 - f0) + v * (f6 - f2)) + u * (y * (f5 - f1) + v * (f7 - f3))
