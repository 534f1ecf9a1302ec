"""Textured meshes, read from files: one mesh, one texture, whatever the file was made of."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from sv3d_pipe.cameras import FOV_DEG
from sv3d_pipe.errors import UserError
from sv3d_pipe.geometry.extent import unit_box
from sv3d_pipe.geometry.meshes import compact
from sv3d_pipe.pictures import to_linear, to_srgb

MOST_TEXELS = 16_000_000  # of an atlas made of several textures
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


def load_object(path: Path) -> Object:
    """Read a mesh file with trimesh; a mesh without texture gets its vertex or face colors.

    The object is centered on its bounding box, the longest side made 1. Several materials are joined in
    one texture; transparency and all but the base color are left out.
    Raises UserError when the file cannot be read or holds no triangles.
    """
    import trimesh

    try:
        loaded = trimesh.load(path, process=False)
        meshes = loaded.dump() if isinstance(loaded, trimesh.Scene) else [loaded]
    except Exception as error:  # trimesh raises whatever its many readers raise
        raise UserError(f"Cannot read the mesh {path}: {error}.") from None
    meshes = [mesh for mesh in meshes if len(getattr(mesh, "faces", ())) > 0]
    if not meshes:
        raise UserError(f"The mesh {path} has no triangles.")
    corners = np.concatenate([mesh.vertices[mesh.faces].reshape(-1, 3) for mesh in meshes])
    if not np.isfinite(corners).all() or np.ptp(corners, axis=0).max() == 0:
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


def _surface(mesh: Any) -> tuple[np.ndarray, np.ndarray]:
    """The texture coordinates of corners [F, 3, 2], not wrapped, and the texture [H, W, 3]."""
    uv = getattr(mesh.visual, "uv", None)
    image = _base_color(mesh.visual) if uv is not None else None
    if image is not None:
        return np.asarray(uv, np.float32)[np.asarray(mesh.faces, np.int64)], image
    factor = _factor(mesh.visual)
    if factor is not None:
        return np.full((len(mesh.faces), 3, 2), 0.5, np.float32), to_srgb(factor)[None, None]
    colors = mesh.visual.to_color() if mesh.visual.kind == "texture" else mesh.visual
    return _palette(np.asarray(colors.face_colors)[:, :3])


def _base_color(visual: Any) -> np.ndarray | None:
    """A material's picture [H, W, 3] in [0, 1], tinted by its factor (glTF: in linear light)."""
    material = visual.material
    picture = getattr(material, "baseColorTexture", None) or getattr(material, "image", None)
    if picture is None:
        return None
    rgb, factor = np.asarray(picture.convert("RGB"), np.float32) / 255, _factor(visual)
    return rgb if factor is None else to_srgb(to_linear(rgb) * factor)


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
    surfaces = [_unrepeated(*_surface(mesh)) for mesh in meshes]
    keys = [(texture.shape, texture.tobytes()) for _, texture in surfaces]
    unique = list(dict.fromkeys(keys))
    textures = [surfaces[keys.index(key)][1] for key in unique]
    textures = _shrunk(textures)
    width, heights = max(t.shape[1] for t in textures), [t.shape[0] for t in textures]
    atlas = np.concatenate([np.pad(t, ((0, 0), (0, width - t.shape[1]), (0, 0)), "edge") for t in textures])
    tops = np.cumsum([0, *heights])
    placed = []
    for (uv, _), key in zip(surfaces, keys):
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


def _unrepeated(uv: np.ndarray, texture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates within [0, 1] and the texture repeated as often as one triangle runs across it."""
    uv = uv - np.floor(uv.min(1, keepdims=True) + 1e-6)
    across, up = np.clip(np.ceil(uv.max((0, 1)) - 1e-3), 1, MOST_REPEATS).astype(int)
    return uv / (across, up), np.tile(texture, (up, across, 1))


def _shrunk(textures: list[np.ndarray]) -> list[np.ndarray]:
    """The textures, made smaller together if their atlas would be too large."""
    import cv2

    texels = max(t.shape[1] for t in textures) * sum(t.shape[0] for t in textures)
    scale = min(1.0, (MOST_TEXELS / texels) ** 0.5)
    if scale == 1:
        return textures
    sizes = [[max(1, int(side * scale)) for side in texture.shape[1::-1]] for texture in textures]
    return [cv2.resize(t, size, interpolation=cv2.INTER_AREA) for t, size in zip(textures, sizes)]
