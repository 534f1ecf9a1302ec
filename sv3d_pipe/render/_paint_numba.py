"""From triangles at sub-pixels to colors at pixels: textured, lit, averaged. Kernels for draw.py and lighting.py.

Arithmetic is float32 throughout and in the order of the plain numpy expressions, so that unlit pictures
are equal to theirs bit by bit (tests/render/test_render_views.py has them).
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

ONE, HALF = np.float32(1), np.float32(0.5)


@njit(inline="always")
def _texel_of(face, weights, corner_uv, texture):
    """Row and column of the nearest texel, wrapped."""
    height, width = texture.shape[0], texture.shape[1]
    corners = corner_uv[face]
    u = corners[0, 0] * weights[0] + corners[1, 0] * weights[1] + corners[2, 0] * weights[2]
    v = corners[0, 1] * weights[0] + corners[1, 1] * weights[1] + corners[2, 1] * weights[2]
    row = np.int64(np.floor((ONE - v) * np.float32(height))) % height
    return row, np.int64(np.floor(u * np.float32(width))) % width


@njit(inline="always")
def _mix(corners, weights, out):
    """The interpolated vector of a triangle's corners [3, 3]."""
    for i in range(3):
        out[i] = corners[0, i] * weights[0] + corners[1, i] * weights[1] + corners[2, i] * weights[2]


@njit(inline="always")
def _normalize(vector):
    length = np.sqrt(vector[0] * vector[0] + vector[1] * vector[1] + vector[2] * vector[2])
    for i in range(3):
        vector[i] /= max(length, np.float32(1e-12))


@njit(parallel=True, cache=True)
def paint_bare(ids, barycentrics, corner_uv, texture, face_light, out):
    """Texels times a brightness per triangle, averaged over the sub-pixels of each pixel.

    Args:
        ids: [N, H, H] int64, -1 where there is nothing. barycentrics: [N, H, H, 3].
        face_light: [N, F], or [N, 0] for the bare texture.
        out: [N, S, S, 4] receives premultiplied RGBA; H is a multiple of S.
    """
    n_views, size = out.shape[0], out.shape[1]
    step = ids.shape[1] // size
    lit = face_light.shape[1] > 0
    share = np.float32(step * step)
    for job in prange(n_views * size):
        n, y = job // size, job % size
        for fine_y in range(y * step, (y + 1) * step):
            for fine_x in range(size * step):
                face = ids[n, fine_y, fine_x]
                if face < 0:
                    continue
                row, column = _texel_of(face, barycentrics[n, fine_y, fine_x], corner_uv, texture)
                light = face_light[n, face] if lit else ONE
                pixel = out[n, y, fine_x // step]
                for i in range(3):
                    pixel[i] += texture[row, column, i] * light
                pixel[3] += ONE
        for x in range(size):
            for i in range(4):
                out[n, y, x, i] /= share


@njit(parallel=True, cache=True)
def paint_lit(ids, barycentrics, corner_uv, texture, corners, normals, eyes, lamps, ambient, gloss, out):
    """Diffuse and glossy light per sub-pixel, in linear color: Lambert and Blinn-Phong.

    Args:
        ids, barycentrics, corner_uv, out: as for :func:`paint_bare`.
        texture: [H, W, 3] linear light.
        corners, normals: [F, 3, 3] positions and unit normals at the corners of triangles.
        eyes: [N, 3] camera centers.
        lamps: [L, 6] unit direction towards each distant lamp, and its color.
        ambient: [2, 3] light from below and from above.
        gloss: [2] strength and exponent of the highlights.
    """
    n_views, size = out.shape[0], out.shape[1]
    step = ids.shape[1] // size
    share = np.float32(step * step)
    for job in prange(n_views * size):
        n, y = job // size, job % size
        normal, point = np.empty(3, np.float32), np.empty(3, np.float32)
        diffuse, glossy = np.empty(3, np.float32), np.empty(3, np.float32)
        for fine_y in range(y * step, (y + 1) * step):
            for fine_x in range(size * step):
                face = ids[n, fine_y, fine_x]
                if face < 0:
                    continue
                weights = barycentrics[n, fine_y, fine_x]
                row, column = _texel_of(face, weights, corner_uv, texture)
                _mix(normals[face], weights, normal)
                _mix(corners[face], weights, point)
                _normalize(normal)
                for i in range(3):
                    point[i] = eyes[n, i] - point[i]
                _normalize(point)  # from here on the direction towards the eye
                _light(normal, point, lamps, ambient, gloss, diffuse, glossy)
                pixel = out[n, y, fine_x // step]
                for i in range(3):
                    pixel[i] += texture[row, column, i] * diffuse[i] + glossy[i]
                pixel[3] += ONE
        for x in range(size):
            for i in range(4):
                out[n, y, x, i] /= share


@njit(inline="always")
def _light(normal, toward, lamps, ambient, gloss, diffuse, glossy):
    """What a white matte surface sends back, and the highlights; a surface is lit on the side that is seen."""
    facing = normal[0] * toward[0] + normal[1] * toward[1] + normal[2] * toward[2]
    side = ONE if facing >= 0 else -ONE
    up = HALF + HALF * side * normal[1]
    for i in range(3):
        diffuse[i] = ambient[0, i] * (ONE - up) + ambient[1, i] * up
        glossy[i] = np.float32(0)
    for lamp in lamps:
        cosine = side * (normal[0] * lamp[0] + normal[1] * lamp[1] + normal[2] * lamp[2])
        if cosine <= 0:
            continue
        for i in range(3):
            diffuse[i] += lamp[3 + i] * cosine
        if gloss[0] > 0:
            x, y, z = lamp[0] + toward[0], lamp[1] + toward[1], lamp[2] + toward[2]
            length = np.sqrt(x * x + y * y + z * z)
            half = side * (normal[0] * x + normal[1] * y + normal[2] * z) / max(length, np.float32(1e-6))
            if half > 0:
                shine = gloss[0] * half ** gloss[1]
                for i in range(3):
                    glossy[i] += lamp[3 + i] * shine


@njit(cache=True)
def smooth_normals(face_normals, areas, faces, first, members, crease_cosine, out):
    """At each corner the mean normal of the triangles around its vertex that bend less than the crease.

    Args:
        face_normals: [F, 3] unit. areas: [F]. faces: [F, 3] indices of welded vertices.
        first: [V + 1], members: [3F]: triangles around vertex v are members[first[v]:first[v + 1]].
        out: [F, 3, 3] receives unit normals.
    """
    for f in range(len(faces)):
        for corner in range(3):
            vertex = faces[f, corner]
            total = np.zeros(3, np.float32)
            for k in range(first[vertex], first[vertex + 1]):
                other = face_normals[members[k]]
                own = face_normals[f]
                if own[0] * other[0] + own[1] * other[1] + own[2] * other[2] >= crease_cosine:
                    for i in range(3):
                        total[i] += other[i] * areas[members[k]]
            length = np.sqrt(total[0] * total[0] + total[1] * total[1] + total[2] * total[2])
            for i in range(3):
                out[f, corner, i] = total[i] / length if length > 0 else face_normals[f, i]
