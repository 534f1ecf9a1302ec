"""Textured meshes seen from orbit cameras: the pictures that models are trained and judged on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from sv3d_pipe.cameras import FOV_DEG, Cameras
from sv3d_pipe.errors import UserError
from sv3d_pipe.raster import rasterize


@dataclass(frozen=True)
class Object:
    """A textured triangle mesh.

    Attributes:
        vertices: [V, 3] float32.
        faces: [F, 3] int64.
        corner_uv: [F, 3, 2] float32 texture coordinates per triangle corner, v up.
        texture: [H, W, 3] float32 in [0, 1], sRGB; row 0 is v = 1.
    """

    vertices: np.ndarray
    faces: np.ndarray
    corner_uv: np.ndarray
    texture: np.ndarray

    @property
    def radius(self) -> float:
        """Radius of the sphere around the origin that holds all vertices."""
        return float(np.linalg.norm(self.vertices, axis=-1).max())

    def camera_radius(self, fov_deg: float = FOV_DEG, margin: float = 1.03) -> float:
        """The camera distance from which the object fills the frame and is never clipped."""
        return margin * self.radius / np.sin(np.radians(fov_deg) / 2)


def load_object(path: Path) -> Object:
    """Read a mesh file with trimesh; a mesh without texture gets its vertex or face colors.

    The object is centered on its bounding box, the longest side made 1.
    Raises UserError when the file holds no triangles.
    """
    import trimesh

    try:
        mesh = trimesh.load(path, force="mesh", process=False)
    except Exception as error:  # trimesh raises whatever its many readers raise
        raise UserError(f"Cannot read the mesh {path}: {error}.") from None
    if len(getattr(mesh, "faces", ())) == 0:
        raise UserError(f"The mesh {path} has no triangles.")
    return from_trimesh(mesh)


def from_trimesh(mesh) -> Object:
    """A ``trimesh.Trimesh`` as an :class:`Object` (see :func:`load_object`)."""
    low, high = mesh.bounds
    vertices = ((mesh.vertices - (low + high) / 2) / (high - low).max()).astype(np.float32)
    faces = np.asarray(mesh.faces, np.int64)
    uv = getattr(mesh.visual, "uv", None)
    image = _base_color(mesh.visual) if uv is not None else None
    if image is None:
        colors = mesh.visual.to_color() if mesh.visual.kind == "texture" else mesh.visual
        return Object(vertices, faces, *_palette(np.asarray(colors.face_colors)[:, :3]))
    return Object(vertices, faces, np.asarray(uv, np.float32)[faces], image)


def _base_color(visual) -> np.ndarray | None:
    material = visual.material
    picture = getattr(material, "baseColorTexture", None) or getattr(material, "image", None)
    return None if picture is None else np.asarray(picture.convert("RGB"), np.float32) / 255


def _palette(face_rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Colors of faces [F, 3] uint8 as one row of texels, and every corner's place on it."""
    colors, index = np.unique(face_rgb, axis=0, return_inverse=True)
    u = (index.reshape(-1) + 0.5) / len(colors)
    corner_uv = np.stack([np.repeat(u[:, None], 3, 1), np.full((len(u), 3), 0.5)], -1)
    return corner_uv.astype(np.float32), colors[None].astype(np.float32) / 255


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
    obj: Object, cameras: Cameras, size: int, light: Light | None = None, supersample: int = 3
) -> np.ndarray:
    """Anti-aliased pictures of an object.

    Args:
        light: None shows the bare texture.
        supersample: pictures are drawn this many times larger and averaged.
    Returns:
        [N, size, size, 4] float32 straight-alpha RGBA.
    """
    fine = size * supersample
    raster = rasterize(torch.from_numpy(obj.vertices), torch.from_numpy(obj.faces), cameras, fine)
    covered = raster.covered.numpy()
    ids = raster.face_ids.numpy()[covered]  # [P]
    barycentrics = raster.barycentrics.numpy()[covered]  # [P, 3]
    uv = (obj.corner_uv[ids] * barycentrics[..., None]).sum(1)  # [P, 2]
    rgb = nearest_texels(obj.texture, uv)
    if light is not None:
        rgb = rgb * _shade(obj, light, cameras, ids, covered)[:, None]
    sheet = np.zeros((*covered.shape, 4), np.float32)  # premultiplied: background is 0
    sheet[covered, :3] = rgb
    sheet[covered, 3] = 1
    blocks = sheet.reshape(len(cameras), size, supersample, size, supersample, 4)
    small = blocks.mean((2, 4))
    small[..., :3] /= np.maximum(small[..., 3:], 1e-6)
    return small


def nearest_texels(texture: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """Nearest texels [P, 3] at texture coordinates uv [P, 2] (v up, wrapped)."""
    height, width, _ = texture.shape
    x = (np.floor(uv[:, 0] * width).astype(np.int64)) % width
    y = (np.floor((1 - uv[:, 1]) * height).astype(np.int64)) % height
    return texture[y, x]


def _shade(obj: Object, light: Light, cameras: Cameras, ids: np.ndarray, covered: np.ndarray) -> np.ndarray:
    """[P] brightness of the seen triangles; normals are turned towards the camera that sees them."""
    corners = obj.vertices[obj.faces]  # [F, 3, 3]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-12)
    normal = normals[ids]  # [P, 3]
    view = np.broadcast_to(np.arange(len(cameras))[:, None, None], covered.shape)[covered]  # [P]
    toward = cameras.origins[view] - corners[ids].mean(1)
    normal = normal * np.sign((normal * toward).sum(-1, keepdims=True))
    lambert = np.maximum(normal @ np.asarray(light.direction, np.float32), 0)
    return light.ambient + (1 - light.ambient) * lambert
