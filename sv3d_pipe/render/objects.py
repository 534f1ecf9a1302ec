"""Textured meshes, read from files: one mesh, one texture, whatever the file was made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from sv3d_pipe.cameras import FOV_DEG
from sv3d_pipe.errors import UserError
from sv3d_pipe.geometry.extent import unit_box
from sv3d_pipe.geometry.meshes import compact
from sv3d_pipe.meshes.read import MOST_TEXELS, plain_rgb, read_meshes
from sv3d_pipe.pictures import to_linear, to_srgb

MOST_REPEATS = 8  # of a texture that runs across one triangle several times


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


def load_object(path: Path, warn: Callable[[str], None] | None = None) -> Object:
    """Read a mesh file; a mesh without texture gets its material's color, or its vertex or face colors.

    The object is centered on its bounding box, the longest side made 1. Several materials are joined in
    one texture; transparency and all but the base color are left out.

    Args:
        warn: is told what is wrong with its colors.
    Raises:
        UserError: the file cannot be read or holds no triangles, see :func:`sv3d_pipe.meshes.read.read_meshes`.
    """
    meshes = read_meshes(path, warn)
    corners = np.concatenate([mesh.vertices[mesh.faces].reshape(-1, 3) for mesh in meshes])
    if np.ptp(corners, axis=0).max() == 0:
        raise UserError(f"The mesh {path} has no extent, or coordinates that are not numbers.")
    return from_trimesh(meshes[0]) if len(meshes) == 1 else _join(meshes)


def stretched(obj: Object, most: float, rng: np.random.Generator) -> Object:
    """An object drawn out along its axes, by factors whose logarithms are uniform and at most ln(most) apart."""
    factors = np.exp(rng.uniform(0, np.log(most), 3))
    return replace(obj, vertices=unit_box(obj.vertices * factors)[0].astype(np.float32))


def from_trimesh(mesh: Any) -> Object:
    """A ``trimesh.Trimesh`` as an :class:`Object` (see :func:`load_object`)."""
    vertices = unit_box(mesh.vertices, mesh.bounds)[0].astype(np.float32)
    return Object(vertices, np.asarray(mesh.faces, np.int64), *_surface(mesh))


def _surface(mesh: Any, known: dict[Any, np.ndarray] | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The texture coordinates of corners [F, 3, 2], not wrapped, and the texture [H, W, 3].

    Args:
        known: textures of other meshes by picture and color; more are added.
    """
    uv = getattr(mesh.visual, "uv", None)
    image = _base_color(mesh.visual, {} if known is None else known) if uv is not None else None
    if image is not None:
        return np.asarray(uv, np.float32)[np.asarray(mesh.faces, np.int64)], image
    if mesh.visual.kind == "texture":
        return np.full((len(mesh.faces), 3, 2), 0.5, np.float32), plain_rgb(mesh.visual)[None, None]
    return _palette(np.asarray(mesh.visual.face_colors)[:, :3])


def _base_color(visual: Any, known: dict[Any, np.ndarray]) -> np.ndarray | None:
    """A material's picture [H, W, 3] in [0, 1], tinted by its factor (glTF: in linear light)."""
    material = visual.material
    picture = getattr(material, "baseColorTexture", None) or getattr(material, "image", None)
    if picture is None:
        return None
    factor = _factor(visual)
    key = (id(picture), None if factor is None else factor.tobytes())
    if key not in known:
        rgb = np.asarray(picture.convert("RGB"), np.float32) / 255
        known[key] = rgb if factor is None else to_srgb(to_linear(rgb) * factor)
    return known[key]


def _factor(visual: Any) -> np.ndarray | None:
    """A glTF material's base color factor [3], linear light; None if there is none or it is white."""
    factor = getattr(getattr(visual, "material", None), "baseColorFactor", None)
    if factor is None:
        return None
    factor = np.asarray(factor)[:3].astype(np.float32) / (255 if np.asarray(factor).dtype.kind in "ui" else 1)
    return None if (factor == 1).all() else factor


def _palette(face_rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Colors of faces [F, 3] uint8 as one row of texels, and every corner's place on it."""
    colors, index = np.unique(face_rgb, axis=0, return_inverse=True)
    u = (index.reshape(-1) + 0.5) / len(colors)
    corner_uv = np.stack([np.repeat(u[:, None], 3, 1), np.full((len(u), 3), 0.5)], -1)
    return corner_uv.astype(np.float32), colors[None].astype(np.float32) / 255


def _join(meshes: list[Any]) -> Object:
    """Several meshes as one, their textures below each other in an atlas."""
    known: dict[Any, np.ndarray] = {}
    surfaces = [_unrepeated(*_surface(mesh, known)) for mesh in meshes]
    distinct = {id(texture): texture for _, texture, _ in surfaces}
    hashes = {key: hash((texture.shape, texture.tobytes())) for key, texture in distinct.items()}
    keys = [(hashes[id(texture)], repeats) for _, texture, repeats in surfaces]
    unique = list(dict.fromkeys(keys))
    textures = _tiled([surfaces[keys.index(key)][1:] for key in unique])
    textures = _shrunk(textures)
    width, heights = max(t.shape[1] for t in textures), [t.shape[0] for t in textures]
    atlas = np.concatenate([np.pad(t, ((0, 0), (0, width - t.shape[1]), (0, 0)), "edge") for t in textures])
    tops = np.cumsum([0, *heights])
    placed = []
    for (uv, _, _), key in zip(surfaces, keys):
        number = unique.index(key)
        height, own_width = textures[number].shape[:2]
        x = np.clip(uv[..., 0] * own_width, 0.05, own_width - 0.05)
        y = tops[number] + np.clip((1 - uv[..., 1]) * height, 0.05, height - 0.05)
        placed.append(np.stack([x / width, 1 - y / len(atlas)], -1))
    starts = np.cumsum([0] + [len(mesh.vertices) for mesh in meshes])
    faces = np.concatenate([np.asarray(mesh.faces, np.int64) + start for mesh, start in zip(meshes, starts)])
    used, faces = compact(faces)
    vertices = unit_box(np.concatenate([mesh.vertices for mesh in meshes])[used])[0].astype(np.float32)
    return Object(vertices, faces, np.concatenate(placed).astype(np.float32), atlas)


def _unrepeated(uv: np.ndarray, texture: np.ndarray) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
    """Coordinates within [0, 1] of the texture repeated across and up as often as one triangle runs across it."""
    uv = uv - np.floor(uv.min(1, keepdims=True) + 1e-6)
    across, up = np.clip(np.ceil(uv.max((0, 1)) - 1e-3), 1, MOST_REPEATS).astype(int)
    return uv / (across, up), texture, (int(across), int(up))


def _tiled(textures: list[tuple[np.ndarray, tuple[int, int]]]) -> list[np.ndarray]:
    """Textures repeated across and up; made smaller before if they would become too large together."""
    texels = sum(t.shape[0] * t.shape[1] * across * up for t, (across, up) in textures)
    scale = min(1.0, (MOST_TEXELS / texels) ** 0.5)
    return [np.tile(_resized(t, scale), (up, across, 1)) for t, (across, up) in textures]


def _shrunk(textures: list[np.ndarray]) -> list[np.ndarray]:
    """The textures, made smaller together if their atlas would be too large."""
    texels = max(t.shape[1] for t in textures) * sum(t.shape[0] for t in textures)
    scale = min(1.0, (MOST_TEXELS / texels) ** 0.5)
    return [_resized(texture, scale) for texture in textures]


def _resized(texture: np.ndarray, scale: float) -> np.ndarray:
    import cv2

    if scale == 1:
        return texture
    size = [max(1, int(side * scale)) for side in texture.shape[1::-1]]
    return cv2.resize(texture, size, interpolation=cv2.INTER_AREA)
