"""The z-buffer for GPUs, in plain torch: every pixel of every triangle's box on the screen is a candidate."""

from __future__ import annotations

import torch

CANDIDATES = 2**23  # looked at together: about 1.2 GB of memory
PIXELS = 2**22  # given their barycentrics together: about 1 GB
NOTHING = torch.iinfo(torch.int64).max
# A pixel center so close to an edge, in barycentrics, belongs to both sides: float32 could give it to neither.
EDGE = 1e-6


def zbuffer(
    xy: torch.Tensor, depth: torch.Tensor, faces: torch.Tensor, size: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The nearest triangle at every pixel center. The host waits once, for the number of candidates.

    Candidates are compared in float32; the barycentrics and depths of those that win are computed in float64, for
    the same reason and in the same order as numba does.

    Args:
        xy: [N, V, 2] float32 pixels; depth: [N, V] float32; faces: [F, 3] int64.
    Returns:
        face_ids [N, size, size] int64, barycentrics [N, size, size, 3] and depth [N, size, size] float32, as in
        :class:`sv3d_pipe.geometry.raster.Raster`.
    """
    keys = _nearest(xy, depth, faces, size)
    together = max(PIXELS // size**2, 1)
    parts = [
        _winners(*part, faces)
        for part in zip(xy.split(together), depth.split(together), keys.split(together))
    ]
    return tuple(torch.cat(part) for part in zip(*parts))


def face_ids(xy: torch.Tensor, depth: torch.Tensor, faces: torch.Tensor, size: int) -> torch.Tensor:
    """The first of what :func:`zbuffer` returns."""
    return _face_ids(_nearest(xy, depth, faces, size))


def _face_ids(keys: torch.Tensor) -> torch.Tensor:
    return torch.where(keys < NOTHING, keys & 0xFFFFFFFF, -1)


def _nearest(xy: torch.Tensor, depth: torch.Tensor, faces: torch.Tensor, size: int) -> torch.Tensor:
    """[N, size, size] int64 keys: the bits of the least depth, then the number of its triangle; else NOTHING."""
    nearest = torch.full((len(xy) * size * size,), NOTHING, dtype=torch.int64, device=xy.device)
    if len(faces):
        first, width, count = _boxes(xy, depth, faces, size)  # [N * F]
        ends = count.cumsum(0)
        total = int(ends[-1])  # the one wait
        planes = _planes(xy, depth, faces, first)  # [9, N * F]
        corner = first[1] * size + first[0]  # [N * F] in its picture
        boxes = torch.stack([corner, width, ends - count])  # [3, N * F]
        for start in range(0, total, CANDIDATES):
            part = (start, min(start + CANDIDATES, total))
            _compare(planes, boxes, ends, len(faces), size, part, nearest)
    return nearest.view(len(xy), size, size)


def _boxes(
    xy: torch.Tensor, depth: torch.Tensor, faces: torch.Tensor, size: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """First pixel (x, y) [2, N * F], width [N * F] and number of pixels [N * F] of every triangle's box, int64."""
    corners = xy[:, faces]  # [N, F, 3, 2]
    first = (corners.amin(2) - 0.5).ceil().clamp(0, size)  # [N, F, 2]
    last = (corners.amax(2) - 0.5).floor().clamp(-1, size - 1)
    extent = (last - first + 1).clamp(min=0)
    drawn = (depth[:, faces] > 1e-6).all(-1) & (_area(corners) != 0)  # [N, F]
    extent = torch.where(drawn[..., None], extent, 0).long()
    count = extent[..., 0] * extent[..., 1]
    first = torch.where(count[..., None] > 0, first, 0).long()
    return first.flatten(0, 1).T, extent[..., 0].flatten(), count.flatten()


def _area(corners: torch.Tensor) -> torch.Tensor:
    """Twice the signed area [...] of triangles [..., 3, 2]."""
    (ax, ay), (bx, by), (cx, cy) = (corner.unbind(-1) for corner in corners.unbind(-2))
    return (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)


def _planes(xy: torch.Tensor, depth: torch.Tensor, faces: torch.Tensor, first: torch.Tensor) -> torch.Tensor:
    """What is linear on the screen: the weights of corners a and b, and the inverse depth.

    Returns:
        [9, N * F] float32: three times the value at the center of the box's first pixel, and its growth from there
        along x and along y.
    """
    corners = xy[:, faces].flatten(0, 1)  # [N * F, 3, 2]
    area = _area(corners).double()
    center = first.T.double() + 0.5
    (ax, ay), (bx, by), (cx, cy) = ((c - center).unbind(-1) for c in corners.double().unbind(1))
    a = torch.stack([bx * cy - by * cx, by - cy, cx - bx]) / area  # [3, N * F]
    b = torch.stack([cx * ay - cy * ax, cy - ay, ax - cx]) / area
    c = torch.stack([1 - a[0] - b[0], -a[1] - b[1], -a[2] - b[2]])
    za, zb, zc = depth[:, faces].double().flatten(0, 1).unbind(-1)
    return torch.cat([a, b, a / za + b / zb + c / zc]).float()


def _compare(planes, boxes, ends, n_faces: int, size: int, part: tuple[int, int], nearest) -> None:
    """Put the candidates number `part[0]` to `part[1]` into `nearest` [N * S * S]: depth bits, then face number."""
    within = ends.clamp(*part)
    share = torch.cat([within[:1] - part[0], within.diff()])  # of each triangle in this part
    owner = torch.repeat_interleave(share, output_size=part[1] - part[0])  # [C] numbers of view and triangle
    corner, width, start = boxes.index_select(1, owner)
    number = torch.arange(*part, device=owner.device) - start
    row = torch.div(number, width, rounding_mode="floor")
    column = number - row * width
    view = torch.div(owner, n_faces, rounding_mode="floor")
    pixel = view * size * size + corner + row * size + column
    x, y = column.float(), row.float()
    a, b, inverse = (
        torch.addcmul(torch.addcmul(at_first, along_x, x), along_y, y)
        for at_first, along_x, along_y in planes.index_select(1, owner).view(3, 3, -1)
    )
    drawn = (torch.minimum(torch.minimum(a, b), 1 - a - b) >= -EDGE) & (inverse > 0)
    # The bits of positive floats grow with them; equal depths leave the choice to the lower number.
    key = (inverse.reciprocal().view(torch.int32).long() << 32) | (owner - view * n_faces)
    nearest.scatter_reduce_(0, pixel, torch.where(drawn, key, NOTHING), "amin", include_self=True)


def _winners(
    xy: torch.Tensor, depth: torch.Tensor, keys: torch.Tensor, faces: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What :func:`zbuffer` returns, of the cameras of xy [n, V, 2], from their keys [n, S, S]."""
    size, ids = keys.shape[-1], _face_ids(keys)
    seen = ids >= 0
    if not len(faces):
        return (
            ids,
            torch.zeros(*ids.shape, 3, device=xy.device),
            torch.full_like(ids, torch.inf, dtype=torch.float32),
        )
    rows = faces[ids.clamp(min=0)]  # [n, S, S, 3]
    rows = rows + (torch.arange(len(xy), device=xy.device) * xy.shape[1])[:, None, None, None]
    corners = xy.flatten(0, 1)[rows]  # [n, S, S, 3, 2]
    area = _area(corners)
    px = torch.arange(size, device=xy.device, dtype=torch.float64) + 0.5
    py = px[:, None]
    (ax, ay), (bx, by), (cx, cy) = (corner.unbind(-1) for corner in corners.unbind(-2))
    wa = ((bx - px) * (cy - py) - (by - py) * (cx - px)) / area
    wb = ((cx - px) * (ay - py) - (cy - py) * (ax - px)) / area
    shares = torch.stack([wa, wb, 1 - wa - wb], -1) / depth.flatten()[rows]  # [n, S, S, 3]
    z = 1 / (shares[..., 0] + shares[..., 1] + shares[..., 2])
    return (
        ids,
        torch.where(seen[..., None], shares * z[..., None], 0).float(),
        torch.where(seen, z, torch.inf).float(),
    )
