"""Pictures of a textured mesh, and of a GLB file as a stranger would load it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
import trimesh

from sv3d_pipe.cameras import Cameras
from sv3d_pipe.export.sampling import sample_texture
from sv3d_pipe.geometry.raster import rasterize

SUPERSAMPLE = 2


def render_textured(
    vertices: np.ndarray,
    faces: np.ndarray,
    uv: np.ndarray,
    texture: np.ndarray,
    cameras: Cameras,
    size: int,
) -> np.ndarray:
    """Unlit pictures of a textured mesh, bilinear and 2 x 2 supersampled; both sides are drawn.

    Args:
        vertices: [V, 3] world space.
        faces: [F, 3].
        uv: [V, 2], v up.
        texture: [H, W, 3] uint8, or float in [0, 1]; row 0 is v = 1.
    Returns:
        [N, size, size, 4] float32, sRGB, straight alpha.
    """
    picture = texture.astype(np.float32) / (255 if texture.dtype == np.uint8 else 1)
    points = torch.as_tensor(vertices, dtype=torch.float32)
    triangles = torch.as_tensor(faces, dtype=torch.int64)
    corner_uv = np.asarray(uv, np.float32)[np.asarray(faces)]  # [F, 3, 2]
    return np.stack(
        [_render_one(points, triangles, corner_uv, picture, cameras[i], size) for i in range(len(cameras))]
    )


def _render_one(vertices, faces, corner_uv, texture, camera, size) -> np.ndarray:
    raster = rasterize(vertices, faces, camera, size * SUPERSAMPLE)
    covered = raster.covered[0].numpy()
    ids, weights = raster.face_ids[0].numpy()[covered], raster.barycentrics[0].numpy()[covered]
    sheet = np.zeros((*covered.shape, 4), np.float32)  # premultiplied: the background is 0
    sheet[covered, :3] = sample_texture(texture, np.einsum("pkc,pk->pc", corner_uv[ids], weights))
    sheet[covered, 3] = 1
    small = cv2.resize(sheet, (size, size), interpolation=cv2.INTER_AREA)
    small[..., :3] /= np.maximum(small[..., 3:], 1e-6)
    return small


def file_views(
    glb: Path,
    cameras: Cameras,
    size: int,
    scale: Sequence[float] = (1.0, 1.0, 1.0),
    center: Sequence[float] = (0.0, 0.0, 0.0),
) -> np.ndarray:
    """A textured GLB file loaded back with trimesh and seen from N cameras.

    Args:
        cameras: in the world that the photo was taken in.
        scale, center: [3] file to world: world = scale * file + center (the export stage's metrics).
    Returns:
        [N, size, size, 4] float32, sRGB, straight alpha.
    """
    mesh = trimesh.load(glb, force="mesh", process=False)
    texture = np.asarray(mesh.visual.material.baseColorTexture.convert("RGB"))
    vertices = np.asarray(mesh.vertices) * scale + np.asarray(center)
    uv = np.asarray(mesh.visual.uv, np.float32)
    return render_textured(vertices, np.asarray(mesh.faces, np.int64), uv, texture, cameras, size)
