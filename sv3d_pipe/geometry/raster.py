"""Which triangle does each pixel see: a z-buffer on numba or by boxes, their plain torch twin, interpolation.

Used wherever a mesh is looked at: data rendering, refinement, baking, turntables, evaluation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numba import njit, prange

from sv3d_pipe.backend import pick
from sv3d_pipe.cameras import Cameras
from sv3d_pipe.geometry import _raster_boxes as boxes
from sv3d_pipe.geometry.mesh_tensors import take_rows


@dataclass(frozen=True)
class Raster:
    """What N cameras see of a mesh, at pixel centers.

    Attributes:
        face_ids: [N, H, W] int64, the nearest triangle; -1 where there is none.
        barycentrics: [N, H, W, 3] float32, perspective-correct weights of its corners; 0 outside.
        depth: [N, H, W] float32 along the viewing axis; inf outside.
    """

    face_ids: torch.Tensor
    barycentrics: torch.Tensor
    depth: torch.Tensor

    @property
    def covered(self) -> torch.Tensor:
        """[N, H, W] bool."""
        return self.face_ids >= 0


def visible_faces(vertices: torch.Tensor, faces: torch.Tensor, cameras: Cameras, size: int) -> torch.Tensor:
    """:attr:`Raster.face_ids` [N, size, size] alone, see :func:`rasterize`: what boxes can do with half the work."""
    if pick("rasterization", vertices.device) == "boxes":
        return boxes.face_ids(*_corners(vertices, cameras, size), faces.long(), size)
    return rasterize(vertices, faces, cameras, size).face_ids


def rasterize(vertices: torch.Tensor, faces: torch.Tensor, cameras: Cameras, size: int) -> Raster:
    """Z-buffer of a mesh in size x size images. Not differentiable: see :func:`interpolate`.

    Triangles that reach behind a camera are not drawn. Both faces of a triangle are drawn.

    Args:
        vertices: [V, 3] world space, float32, any device: on CUDA it is done there, by boxes; else on the CPU.
        faces: [F, 3] integer, on the same device.
    """
    if pick("rasterization", vertices.device) == "boxes":
        return Raster(*boxes.zbuffer(*_corners(vertices, cameras, size), faces.long(), size))
    points = vertices.detach().cpu().numpy().astype(np.float32)
    corners = np.ascontiguousarray(faces.cpu().numpy(), np.int64)
    xy, depth = cameras.project(points, size)  # [N, V, 2], [N, V]
    ids = np.full((len(cameras), size, size), -1, np.int64)
    barycentrics = np.zeros((len(cameras), size, size, 3), np.float32)
    nearest = np.full((len(cameras), size, size), np.inf, np.float32)
    _zbuffer(xy.astype(np.float32), depth.astype(np.float32), corners, ids, barycentrics, nearest)
    device = vertices.device
    return Raster(*(torch.from_numpy(a).to(device) for a in (ids, barycentrics, nearest)))


@torch.no_grad()
def _corners(vertices: torch.Tensor, cameras: Cameras, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Pixels [N, V, 2] and depths [N, V] of the vertices, on their device."""
    return cameras.on(vertices.device).project(vertices.float(), size)


@njit(parallel=True, cache=True)
def _zbuffer(xy, depth, faces, ids, barycentrics, nearest):
    n_cameras, size, _ = ids.shape
    bands = 4  # rows are shared out so that one view still uses several threads
    for job in prange(n_cameras * bands):
        n, band = job // bands, job % bands
        top, bottom = band * size // bands, (band + 1) * size // bands
        for f in range(len(faces)):
            a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
            za, zb, zc = depth[n, a], depth[n, b], depth[n, c]
            if za <= 1e-6 or zb <= 1e-6 or zc <= 1e-6:
                continue
            ax, ay = xy[n, a, 0], xy[n, a, 1]
            bx, by = xy[n, b, 0], xy[n, b, 1]
            cx, cy = xy[n, c, 0], xy[n, c, 1]
            y_first = max(top, int(np.ceil(min(ay, by, cy) - 0.5)))
            y_last = min(bottom - 1, int(np.floor(max(ay, by, cy) - 0.5)))
            if y_first > y_last:
                continue
            x_first = max(0, int(np.ceil(min(ax, bx, cx) - 0.5)))
            x_last = min(size - 1, int(np.floor(max(ax, bx, cx) - 0.5)))
            area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
            if x_first > x_last or area == 0:
                continue
            for y in range(y_first, y_last + 1):
                for x in range(x_first, x_last + 1):
                    px, py = x + 0.5, y + 0.5
                    wa = ((bx - px) * (cy - py) - (by - py) * (cx - px)) / area
                    wb = ((cx - px) * (ay - py) - (cy - py) * (ax - px)) / area
                    wc = 1.0 - wa - wb
                    if wa < 0 or wb < 0 or wc < 0:
                        continue
                    # 1/z is linear on the screen; dividing by it makes the weights perspective-correct.
                    inverse = wa / za + wb / zb + wc / zc
                    z = 1.0 / inverse
                    if z < nearest[n, y, x]:
                        nearest[n, y, x] = z
                        ids[n, y, x] = f
                        barycentrics[n, y, x, 0] = wa / za * z
                        barycentrics[n, y, x, 1] = wb / zb * z
                        barycentrics[n, y, x, 2] = wc / zc * z


def rasterize_reference(vertices: torch.Tensor, faces: torch.Tensor, cameras: Cameras, size: int) -> Raster:
    """The slow twin of :func:`rasterize`: every pixel against every triangle, in plain torch."""
    xy, depth = cameras.project(vertices.detach().cpu().numpy(), size)
    xy = torch.as_tensor(xy, dtype=torch.float32)[:, faces.cpu()]  # [N, F, 3, 2]
    z = torch.as_tensor(depth, dtype=torch.float32)[:, faces.cpu()]  # [N, F, 3]
    center = torch.arange(size) + 0.5
    p = torch.stack(torch.meshgrid(center, center, indexing="xy"), -1)[None, :, :, None]  # [1, H, W, 1, 2]
    a, b, c = (xy[:, None, None, :, i] for i in range(3))  # [N, 1, 1, F, 2]

    def cross(u, v):
        return u[..., 0] * v[..., 1] - u[..., 1] * v[..., 0]

    area = cross(b - a, c - a)
    weights = torch.stack([cross(b - p, c - p), cross(c - p, a - p)], -1) / area[..., None]
    weights = torch.cat([weights, 1 - weights.sum(-1, keepdim=True)], -1)  # [N, H, W, F, 3]
    drawn = (weights >= 0).all(-1) & (z > 1e-6).all(-1)[:, None, None] & (area != 0)
    shares = weights / z[:, None, None]
    distance = torch.where(drawn, 1 / shares.sum(-1), torch.inf)
    nearest, ids = distance.min(-1)  # [N, H, W]
    chosen = ids[..., None, None].expand(*ids.shape, 1, 3)
    barycentrics = shares.gather(3, chosen).squeeze(3) * nearest[..., None]
    hit = torch.isfinite(nearest)
    return Raster(
        torch.where(hit, ids, -1).to(vertices.device),
        torch.where(hit[..., None], barycentrics, 0).to(vertices.device),
        nearest.to(vertices.device),
    )


def interpolate(attributes: torch.Tensor, faces: torch.Tensor, raster: Raster) -> torch.Tensor:
    """Vertex attributes at the pixels; differentiable in ``attributes``.

    Args:
        attributes: [V, C], or [F, 3, C] with one value per triangle corner (texture coordinates).
        faces: [F, 3]; ignored for per-corner attributes.
    Returns:
        [N, H, W, C]; 0 where no triangle is seen.
    """
    ids = raster.face_ids.clamp(min=0)
    corners = take_rows(attributes, ids if attributes.ndim == 3 else faces[ids])  # [N, H, W, 3, C]
    return (corners * raster.barycentrics[..., None]).sum(-2)
