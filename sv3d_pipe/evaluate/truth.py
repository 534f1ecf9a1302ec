"""Objects with known shape: found, placed in the world, photographed; and what stands in for a prediction."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trimesh

from sv3d_pipe.artifacts import Mesh, Views
from sv3d_pipe.cameras import RADIUS, Cameras, orbit
from sv3d_pipe.config import OrbitConfig
from sv3d_pipe.errors import UserError
from sv3d_pipe.geometry.bodies import require_body
from sv3d_pipe.geometry.extent import unit_box
from sv3d_pipe.geometry.raster import interpolate, rasterize
from sv3d_pipe.mesh_formats import READ
from sv3d_pipe.orbit.angles import camera_angles
from sv3d_pipe.placing.photo_camera import about_y
from sv3d_pipe.render.draw import Light, render_views
from sv3d_pipe.render.objects import Object, from_trimesh, load_object

MARGIN = 1.03  # the object's bounding sphere fills the cameras' visible sphere up to this factor
GRAY = 0.5
AMBIENT = 0.35


def find_objects(
    folder: Path, ids: tuple[str, ...] = (), limit: int | None = None, seed: int = 0
) -> dict[str, Path]:
    """The mesh files below a folder by name, sorted: all, or a random choice of ``limit`` of them.

    A name is the path within the folder without suffix, its parts joined by ``__``; with suffix
    where two files would share it.

    Args:
        ids: patterns such as ``gso_*``; only names that match one of them count.
    Raises:
        UserError: there is no such folder, or nothing in it fits.
    """
    if not folder.is_dir():
        raise UserError(f"There is no folder {folder}; give a folder of meshes.")
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in READ)
    found = chosen(names_of(folder, paths), ids, limit, seed)
    if not found:
        which = f"that match {', '.join(ids)} " if paths and ids else ""
        raise UserError(f"There are no meshes {which}in {folder}; it must hold {', '.join(READ)} files.")
    return found


def names_of(folder: Path, paths: list[Path]) -> dict[str, Path]:
    """Paths below a folder by the names that :func:`find_objects` gives them."""
    found: dict[str, Path] = {}
    for path in paths:
        name = "__".join(path.relative_to(folder).with_suffix("").parts)
        found[name + path.suffix if name in found else name] = path
    return found


def chosen(
    found: dict[str, Path], ids: tuple[str, ...] = (), limit: int | None = None, seed: int = 0
) -> dict[str, Path]:
    """Those whose names match one of ``ids`` (all without any), sorted: all, or a random ``limit`` of them."""
    names = [n for n in sorted(found) if not ids or any(fnmatch.fnmatch(n, pattern) for pattern in ids)]
    if limit is not None and limit < len(names):
        drawn = np.random.default_rng(seed).choice(len(names), limit, replace=False)
        names = [names[i] for i in sorted(drawn)]
    return {name: found[name] for name in names}


def visible_scale(obj: Object) -> float:
    """The factor that makes an object fill the frames of orbit cameras at the default radius."""
    return orbit(np.zeros(1), 0.0).visible_radius / (MARGIN * obj.radius)


def scaled(obj: Object, factor: float | Sequence[float], center: Any = 0.0) -> Object:
    """A copy with vertices ``factor * vertices + center``, each a number or [3]."""
    return replace(obj, vertices=(obj.vertices * factor + np.asarray(center)).astype(np.float32))


def place(
    path: Path, up: str = "y", warn: Callable[[str], None] | None = None, azimuth_deg: float = 0.0
) -> Object:
    """An object scaled so that orbit cameras at the default radius see all of it.

    The pictures are those of the unit-size object from its own :meth:`Object.camera_radius`.

    Args:
        up: the file's upward axis; z becomes y, and what faced -y then faces the photo's camera.
        warn: is told what is wrong with its colors.
        azimuth_deg: from where the file's object is seen by a camera at azimuth 0.
    Raises:
        UserError: it cannot be read, or is no body.
    """
    obj = upright(path, up, warn)
    if azimuth_deg:
        obj = seen_from(obj, azimuth_deg)
    return scaled(obj, visible_scale(obj))


def upright(path: Path, up: str = "y", warn: Callable[[str], None] | None = None) -> Object:
    """An object of longest side 1 with +y up, see :func:`place`."""
    obj = load_object(path, warn)
    require_body(obj.vertices, obj.faces, path)
    if up == "z":
        x, y, z = obj.vertices.T
        obj = replace(obj, vertices=np.stack([x, z, -y], -1))
    return obj


def seen_from(obj: Object, azimuth_deg: float) -> Object:
    """The object turned so that a camera at azimuth 0 sees what one at ``azimuth_deg`` saw; longest side 1, centered."""
    vertices = obj.vertices @ about_y(-azimuth_deg).T
    corners = vertices[obj.faces].reshape(-1, 3)
    box = np.stack([corners.min(0), corners.max(0)])
    return replace(obj, vertices=unit_box(vertices, box)[0].astype(np.float32))


def in_world(glb: Path, transform: dict) -> Object:
    """An exported mesh brought back to the world of the cameras.

    Args:
        transform: ``scale`` [3] and ``center`` [3] of export's metrics: world = scale * file + center.
    """
    mesh = trimesh.load(glb, force="mesh", process=False)
    obj = replace(from_trimesh(mesh), vertices=np.asarray(mesh.vertices))
    return scaled(obj, transform["scale"], transform["center"])


@dataclass(frozen=True)
class Angles:
    """An orbit's azimuths and elevations, [N] degrees; the last is the photo's."""

    azimuth_deg: np.ndarray
    elevation_deg: np.ndarray

    @classmethod
    def of(cls, config: OrbitConfig, seed: int) -> Angles:
        """Those of the orbit stage with these settings and this seed."""
        return cls(*camera_angles(config, seed))

    def between(self) -> Angles:
        """The views halfway between each and the next one."""
        step = (np.roll(self.azimuth_deg, -1) - self.azimuth_deg) % 360
        middle = (self.elevation_deg + np.roll(self.elevation_deg, -1)) / 2
        return Angles((self.azimuth_deg + step / 2) % 360, middle)

    def cameras(self) -> Cameras:
        return orbit(self.azimuth_deg, self.elevation_deg)


def true_views(obj: Object, angles: Angles, size: int) -> Views:
    """The object as the orbit's cameras see it, unlit."""
    cameras = angles.cameras()
    return Views(render_views(obj, cameras, size), cameras)


def render_mesh(mesh: Mesh, cameras: Cameras, size: int) -> np.ndarray:
    """A vertex-colored mesh, unlit and not anti-aliased: [N, size, size, 4] float32."""
    faces = torch.from_numpy(mesh.faces)
    raster = rasterize(torch.from_numpy(mesh.vertices), faces, cameras, size)
    rgb = interpolate(torch.from_numpy(mesh.rgb), faces, raster)
    return torch.cat([rgb, raster.covered[..., None].float()], -1).numpy()


def gray(mesh: Any) -> Object:
    """The bare shape of anything with ``vertices`` and ``faces``."""
    faces = np.asarray(mesh.faces, np.int64)
    corner_uv = np.full((len(faces), 3, 2), 0.5, np.float32)
    return Object(
        np.asarray(mesh.vertices, np.float32), faces, corner_uv, np.full((1, 1, 3), GRAY, np.float32)
    )


def render_clay(mesh: Any, cameras: Cameras, size: int) -> np.ndarray:
    """The bare shape, flat shaded, lit from behind and above each camera: [N, size, size, 4] float32."""
    shape = gray(mesh)
    shape = replace(shape, texture=np.full_like(shape.texture, 0.9))
    frames = []
    for i, c2w in enumerate(cameras.c2w):
        toward = c2w[:3, :3] @ (0.5, 0.6, 0.62)  # right, up, back
        light = Light(tuple(toward / np.linalg.norm(toward)), AMBIENT)
        frames.append(render_views(shape, cameras[i], size, light, supersample=2)[0])
    return np.stack(frames)


def ellipsoid(photo: np.ndarray, camera: Cameras) -> Object:
    """A gray ellipsoid whose outline, seen by the photo's camera, has the photo's box. Its depth is its width.

    Args:
        photo: [S, S, 4], taken from azimuth 0.
        camera: that one camera.
    """
    rows, columns = (np.flatnonzero((photo[..., 3] > 0.5).any(axis)) for axis in (1, 0))
    wanted = np.array([[columns[0], rows[0]], [columns[-1] + 1, rows[-1] + 1]])  # left top, right bottom
    pixel = RADIUS / camera.focal(len(photo))  # its size at the origin
    ball = trimesh.creation.icosphere(subdivisions=4, radius=1)
    half, center = (wanted[1] - wanted[0]) / 2 * pixel, np.zeros(3)
    for _ in range(30):  # fixed point: perspective and elevation change the outline a little
        ellipse = trimesh.Trimesh(
            ball.vertices * (half[0], half[1], half[0]) + center, ball.faces, process=False
        )
        outline = camera.project(np.asarray(ellipse.vertices), len(photo))[0][0]
        low, high = outline.min(0), outline.max(0)
        half = np.maximum(half * (wanted[1] - wanted[0]) / (high - low), 0.1 * half[0])
        shift = (wanted.sum(0) - low - high) / 2 * pixel
        center = center + shift[0] * camera.c2w[0, :3, 0] - shift[1] * camera.c2w[0, :3, 1]
    return gray(ellipse)
