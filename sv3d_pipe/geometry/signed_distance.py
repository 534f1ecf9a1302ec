"""Signed distance from a mesh to the nodes of a tetrahedral grid.

Near the surface the distance is exact (to the nearest triangle); further away it is the distance
to the nearest node on the other side, which is enough for a start. The sign is the majority of six
winding numbers, counted from both ends along x, y and z, so that small holes and overlapping parts
do no harm.
"""

from __future__ import annotations

import numpy as np
import torch
from numba import njit, prange
from scipy.ndimage import distance_transform_edt

from sv3d_pipe.artifacts import Mesh
from sv3d_pipe.geometry.tets import TetGrid

BAND_CELLS = 2.0  # the distance is exact up to here


def signed_distance(mesh: Mesh, grid: TetGrid) -> torch.Tensor:
    """[X * Y * Z] float32 distances in world units at the grid's nodes, negative inside the mesh."""
    corners = ((mesh.vertices[mesh.faces] - np.array(grid.low)) / grid.cell).astype(
        np.float64
    )  # [F, 3, 3] cells
    votes = np.zeros(grid.shape, np.int8)
    for axis in range(3):
        order = [(axis + 1) % 3, (axis + 2) % 3, axis]
        crossings = np.zeros([grid.shape[i] for i in order], np.int32)
        _count_crossings(np.ascontiguousarray(corners[:, :, order]), crossings)
        winding = np.cumsum(crossings, -1)  # of all crossings below a node
        from_above = winding[..., -1:] - winding
        both = (winding != 0).astype(np.int8) + (from_above != 0)
        votes += np.transpose(both, np.argsort(order))
    inside = votes > 3
    near = np.full(grid.shape, np.inf)
    _distance_band(corners, near, BAND_CELLS)
    far = _to_other_side(inside)
    distance = np.where(np.isfinite(near), near, np.maximum(far, BAND_CELLS))
    return torch.from_numpy((np.where(inside, -distance, distance) * grid.cell).astype(np.float32)).reshape(
        -1
    )


def _to_other_side(inside: np.ndarray) -> np.ndarray:
    """[X, Y, Z] distance in cells to the middle of the nearest edge that changes sign."""
    if inside.all() or not inside.any():
        return np.full(inside.shape, float(max(inside.shape)))
    return np.where(inside, distance_transform_edt(inside), distance_transform_edt(~inside)) - 0.5


@njit(cache=True)
def _count_crossings(corners, crossings):
    """Add +-1 at the first node above every crossing of the grid lines along the last axis.

    A hair's shift of the lines keeps them off corners that lie exactly on the grid.
    """
    nx, ny, nz = crossings.shape
    sx, sy = 1.234567e-6, 2.345678e-6
    for f in range(len(corners)):
        ax, ay, az = corners[f, 0, 0] - sx, corners[f, 0, 1] - sy, corners[f, 0, 2]
        bx, by, bz = corners[f, 1, 0] - sx, corners[f, 1, 1] - sy, corners[f, 1, 2]
        cx, cy, cz = corners[f, 2, 0] - sx, corners[f, 2, 1] - sy, corners[f, 2, 2]
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if area == 0:
            continue
        turn = 1 if area < 0 else -1  # going up: entering through a face that looks down
        for x in range(
            max(0, int(np.ceil(min(ax, bx, cx)))), min(nx - 1, int(np.floor(max(ax, bx, cx)))) + 1
        ):
            for y in range(
                max(0, int(np.ceil(min(ay, by, cy)))), min(ny - 1, int(np.floor(max(ay, by, cy)))) + 1
            ):
                wa = ((bx - x) * (cy - y) - (by - y) * (cx - x)) / area
                wb = ((cx - x) * (ay - y) - (cy - y) * (ax - x)) / area
                wc = 1 - wa - wb
                if wa < 0 or wb < 0 or wc < 0:
                    continue
                z = max(0, int(np.ceil(wa * az + wb * bz + wc * cz)))
                if z < nz:
                    crossings[x, y, z] += turn


@njit(parallel=True, cache=True)
def _distance_band(corners, near, band):
    """Lower `near` to the distance of every triangle within `band` of a node; slabs of x in parallel."""
    nx, ny, nz = near.shape
    for slab in prange(8):
        first, last = slab * nx // 8, (slab + 1) * nx // 8 - 1
        for f in range(len(corners)):
            a, b, c = corners[f, 0], corners[f, 1], corners[f, 2]
            x0 = max(first, int(np.ceil(min(a[0], b[0], c[0]) - band)))
            x1 = min(last, int(np.floor(max(a[0], b[0], c[0]) + band)))
            if x0 > x1:
                continue
            y0 = max(0, int(np.ceil(min(a[1], b[1], c[1]) - band)))
            y1 = min(ny - 1, int(np.floor(max(a[1], b[1], c[1]) + band)))
            z0 = max(0, int(np.ceil(min(a[2], b[2], c[2]) - band)))
            z1 = min(nz - 1, int(np.floor(max(a[2], b[2], c[2]) + band)))
            for x in range(x0, x1 + 1):
                for y in range(y0, y1 + 1):
                    for z in range(z0, z1 + 1):
                        d = _to_triangle(float(x), float(y), float(z), a, b, c)
                        if d <= band and d < near[x, y, z]:
                            near[x, y, z] = d


@njit(cache=True)
def _to_triangle(x, y, z, a, b, c):
    """Distance from a point to a triangle: to its plane if the foot lies inside, else to the nearest edge."""
    ux, uy, uz = b[0] - a[0], b[1] - a[1], b[2] - a[2]
    vx, vy, vz = c[0] - a[0], c[1] - a[1], c[2] - a[2]
    px, py, pz = x - a[0], y - a[1], z - a[2]
    uu, uv, vv = ux * ux + uy * uy + uz * uz, ux * vx + uy * vy + uz * vz, vx * vx + vy * vy + vz * vz
    pu, pv = px * ux + py * uy + pz * uz, px * vx + py * vy + pz * vz
    det = uu * vv - uv * uv
    if det > 1e-18:
        s, t = (vv * pu - uv * pv) / det, (uu * pv - uv * pu) / det
        if s >= 0 and t >= 0 and s + t <= 1:
            dx, dy, dz = px - s * ux - t * vx, py - s * uy - t * vy, pz - s * uz - t * vz
            return np.sqrt(dx * dx + dy * dy + dz * dz)
    best = _to_segment(x, y, z, a, b)
    return min(best, _to_segment(x, y, z, b, c), _to_segment(x, y, z, c, a))


@njit(cache=True)
def _to_segment(x, y, z, a, b):
    dx, dy, dz = b[0] - a[0], b[1] - a[1], b[2] - a[2]
    length = dx * dx + dy * dy + dz * dz
    t = 0.0
    if length > 0:
        t = min(max(((x - a[0]) * dx + (y - a[1]) * dy + (z - a[2]) * dz) / length, 0.0), 1.0)
    ex, ey, ez = x - a[0] - t * dx, y - a[1] - t * dy, z - a[2] - t * dz
    return np.sqrt(ex * ex + ey * ey + ez * ez)


def signed_distance_reference(mesh: Mesh, grid: TetGrid) -> torch.Tensor:
    """The slow twin of :func:`signed_distance`: every node against every triangle, sign by solid angles.

    Exact everywhere, so the two agree within BAND_CELLS of the surface.
    """
    nodes = grid.nodes().double()
    a, b, c = torch.from_numpy(mesh.vertices[mesh.faces]).double().unbind(1)  # [F, 3]
    rows = [_reference_rows(part, a, b, c) for part in nodes.split(256)]
    return torch.cat(rows).float()


def _reference_rows(p: torch.Tensor, a: torch.Tensor, b: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
    p = p[:, None]  # [P, 1, 3]
    pa, pb, pc = a - p, b - p, c - p  # [P, F, 3]
    la, lb, lc = (v.norm(dim=-1) for v in (pa, pb, pc))
    above = (pa * torch.linalg.cross(pb, pc)).sum(-1)
    below = la * lb * lc + (pa * pb).sum(-1) * lc + (pb * pc).sum(-1) * la + (pc * pa).sum(-1) * lb
    winding = torch.atan2(above, below).sum(-1) / (2 * torch.pi)  # van Oosterom and Strackee 1983
    best = torch.full(p.shape[:1], torch.inf, dtype=p.dtype)
    for start, end in ((a, b), (b, c), (c, a)):
        along = end - start
        t = (((p - start) * along).sum(-1) / (along * along).sum(-1)).clamp(0, 1)
        best = torch.minimum(best, (p - start - t[..., None] * along).norm(dim=-1).min(-1).values)
    normal = torch.linalg.cross(b - a, c - a)
    unit = normal / normal.norm(dim=-1, keepdim=True)
    sides = [
        (torch.linalg.cross((e - s)[None], p - s) * normal).sum(-1) >= 0 for s, e in ((a, b), (b, c), (c, a))
    ]
    height = torch.where(sides[0] & sides[1] & sides[2], (pa * unit).sum(-1).abs(), torch.inf)
    best = torch.minimum(best, height.min(-1).values)
    return torch.where(winding.abs() > 0.5, -best, best)
