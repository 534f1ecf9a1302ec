"""A mesh with a color field as RGBA pictures, differentiable in vertices and colors; and what they score."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from sv3d_pipe.artifacts import Mesh, Views
from sv3d_pipe.cameras import Cameras
from sv3d_pipe.geometry.raster import interpolate, rasterize, visible_faces
from sv3d_pipe.pictures import decibels, on_white
from sv3d_pipe.refine.silhouette import Outline, Topology
from sv3d_pipe.refine.surface_hits import Hits, Touched


@dataclass(frozen=True)
class MeshPicture:
    """N pictures of size S.

    Attributes:
        rgb: [N, S, S, 3] color of the surface seen in each pixel, 0 where there is none.
        coverage: [N, S, S] share of the pixel that the mesh covers.
        hits: the surface points behind the colors.
    """

    rgb: torch.Tensor
    coverage: torch.Tensor
    hits: Hits


def supersampling(size: int) -> int:
    """Sub-pixels per pixel side: small pictures need more of them for the same detail."""
    return 4 if size <= 128 else 2


def draw(
    vertices: torch.Tensor,
    faces: torch.Tensor,
    topology: Topology,
    color: Callable[[Hits], torch.Tensor],
    cameras: Cameras,
    size: int,
    face_ids: torch.Tensor | None = None,
) -> MeshPicture:
    """See a closed mesh from N cameras.

    Args:
        vertices: [V, 3], faces: [F, 3]; topology: of the faces.
        color: surface points to rgb [P, 3].
        face_ids: [N, fine, fine] what is seen at :func:`supersampling` times the size, if it is known.
    """
    if face_ids is None:
        face_ids = visible_faces(vertices, faces, cameras, size * supersampling(size))
    outline = Outline.of(vertices, faces, topology, cameras, size, supersampling(size))
    touched = Touched.of(face_ids, size)
    n_pieces, n_hits = torch.stack([outline.count, touched.count]).tolist()  # the host waits for both at once
    covered = outline.coverage(face_ids, n_pieces)
    hits = touched.hits(vertices, faces, cameras, n_hits)
    rgb = torch.zeros(covered.numel(), 3, device=vertices.device)
    if n_hits:
        rgb = rgb.index_copy(0, hits.index, color(hits))
    return MeshPicture(rgb.view(*covered.shape, 3), covered, hits)


@dataclass(frozen=True)
class Score:
    """How well a mesh agrees with the views.

    Attributes:
        mask_iou: sum of the smaller over the sum of the larger of the two masks, all pixels of all views.
        color_psnr_db: of the pictures on white.
    """

    mask_iou: float
    color_psnr_db: float


def score(mesh: Mesh, views: Views, size: int, device: str = "cpu") -> Score:
    """Compare a mesh and its vertex colors with the views, both at `size` (a divisor of views.size).

    Args:
        device: where the mesh is drawn.
    """
    fine = size * supersampling(size)
    vertices, faces, rgb = (torch.from_numpy(a).to(device) for a in (mesh.vertices, mesh.faces, mesh.rgb))
    seen = seen_at(views, size)
    smaller = larger = error = 0.0
    for n in range(len(views.cameras)):
        raster = rasterize(vertices, faces, views.cameras[n], fine)
        alpha = raster.covered.float()[0, ..., None]
        sheet = torch.cat([interpolate(rgb, faces, raster)[0] * alpha, alpha], -1).cpu().numpy()
        sheet = sheet.reshape(size, fine // size, size, fine // size, 4).mean((1, 3)) * seen[n, ..., None]
        target = shrink(views.rgba[n], size)
        smaller += np.minimum(sheet[..., 3], target[..., 3]).sum()
        larger += np.maximum(sheet[..., 3], target[..., 3]).sum()
        error += np.square(sheet[..., :3] + 1 - sheet[..., 3:] - on_white(target)).mean() / len(views.cameras)
    return Score(float(smaller / max(larger, 1e-9)), decibels(error))


def seen_at(views: Views, size: int) -> np.ndarray:
    """[N, size, size] bool: the pixels of views shrunk to `size` that are known altogether."""
    if views.seen is None:
        return np.ones((len(views.rgba), size, size), bool)
    if views.size == size:
        return views.seen
    import cv2

    shrunk = [
        cv2.resize(s.astype(np.float32), (size, size), interpolation=cv2.INTER_AREA) for s in views.seen
    ]
    return np.stack(shrunk) > 0.999


def shrink(rgba: np.ndarray, size: int) -> np.ndarray:
    """A straight-alpha picture at `size`; unchanged if it has that size."""
    from sv3d_pipe.pictures import resize_rgba

    return rgba if rgba.shape[0] == size else resize_rgba(rgba, size)
