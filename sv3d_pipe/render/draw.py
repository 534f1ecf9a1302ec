"""Textured meshes seen from orbit cameras: the pictures that models are trained and judged on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from sv3d_pipe.cameras import Cameras
from sv3d_pipe.geometry.meshes import face_normals
from sv3d_pipe.geometry.raster import rasterize
from sv3d_pipe.pictures import to_linear, to_srgb
from sv3d_pipe.render._paint_numba import paint_bare, paint_lit
from sv3d_pipe.render.lighting import Studio, corner_normals
from sv3d_pipe.render.objects import Object, from_trimesh, load_object

__all__ = ["Light", "Object", "from_trimesh", "load_object", "nearest_texels", "render_views"]
SUBPIXELS_AT_ONCE = 4_000_000  # some 30 bytes each while a picture is drawn


@dataclass(frozen=True)
class Light:
    """One distant white light and an ambient rest: rgb * (ambient + (1 - ambient) * max(n.l, 0))."""

    direction: tuple[float, float, float]
    ambient: float

    @classmethod
    def random(cls, rng: np.random.Generator) -> Light:
        """From above the front half-space, never dark: ambient between 0.55 and 1."""
        direction = rng.normal(size=3) + (0, 1.0, 0.5)
        return cls(tuple(direction / np.linalg.norm(direction)), float(rng.uniform(0.55, 1.0)))


def render_views(
    obj: Object, cameras: Cameras, size: int, light: Light | Studio | None = None, supersample: int = 3
) -> np.ndarray:
    """Anti-aliased pictures of an object.

    Args:
        light: None shows the bare texture. A Light multiplies sRGB colors, triangle by triangle; a Studio
            shades smooth surfaces in linear light.
        supersample: pictures are drawn this many times larger and averaged.
    Returns:
        [N, size, size, 4] float32 straight-alpha RGBA.
    """
    pictures = np.zeros((len(cameras), size, size, 4), np.float32)  # premultiplied: background is 0
    paint = _painter(obj, light)
    fine = size * supersample
    at_once = max(1, SUBPIXELS_AT_ONCE // fine**2)
    vertices, faces = torch.from_numpy(obj.vertices), torch.from_numpy(obj.faces)
    for first in range(0, len(cameras), at_once):
        views = slice(first, first + at_once)
        raster = rasterize(vertices, faces, cameras[views], fine)
        paint(raster.face_ids.numpy(), raster.barycentrics.numpy(), cameras[views], pictures[views])
    pictures[..., :3] /= np.maximum(pictures[..., 3:], 1e-6)
    if isinstance(light, Studio):
        seen = pictures[..., 3] > 0
        pictures[seen, :3] = to_srgb(pictures[seen, :3])
    return pictures


def _painter(obj: Object, light: Light | Studio | None) -> Callable[..., None]:
    """What fills pictures [N, S, S, 4] from the sub-pixels' triangles and barycentrics under a light."""
    uv, texture = obj.corner_uv.astype(np.float32), obj.texture.astype(np.float32)
    if not isinstance(light, Studio):

        def paint(ids, barycentrics, cameras, out):
            brightness = (
                np.zeros((len(cameras), 0), np.float32) if light is None else _shade(obj, light, cameras)
            )
            paint_bare(ids, barycentrics, uv, texture, brightness, out)

        return paint
    corners, normals = obj.vertices[obj.faces], corner_normals(obj.vertices, obj.faces)
    texture, gloss = to_linear(texture), np.asarray(light.gloss, np.float32)

    def paint_studio(ids, barycentrics, cameras, out):
        surface = (uv, texture, corners, normals)
        eyes = np.ascontiguousarray(cameras.origins)
        paint_lit(ids, barycentrics, *surface, eyes, light.lamps, light.ambient, gloss, out)

    return paint_studio


def nearest_texels(texture: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """Nearest texels [P, 3] at texture coordinates uv [P, 2] (v up, wrapped)."""
    height, width, _ = texture.shape
    x = (np.floor(uv[:, 0] * width).astype(np.int64)) % width
    y = (np.floor((1 - uv[:, 1]) * height).astype(np.int64)) % height
    return texture[y, x]


def _shade(obj: Object, light: Light, cameras: Cameras) -> np.ndarray:
    """[N, F] brightness of triangles; normals are turned towards the camera that sees them."""
    corners = obj.vertices[obj.faces]  # [F, 3, 3]
    normals = face_normals(corners)
    normals /= np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-12)
    toward = cameras.origins[:, None] - corners.mean(1)  # [N, F, 3]
    side = np.sign((normals * toward).sum(-1))
    lambert = np.maximum(side * (normals * np.asarray(light.direction, np.float32)).sum(-1), 0)
    return (light.ambient + (1 - light.ambient) * lambert).astype(np.float32)
