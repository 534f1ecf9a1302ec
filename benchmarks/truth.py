"""Objects with known shape: found, placed in the world, photographed on an orbit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from sv3d_pipe.artifacts import Mesh, Views
from sv3d_pipe.cameras import Cameras, orbit, orbit_angles
from sv3d_pipe.raster import interpolate, rasterize
from sv3d_pipe.train.render import Object, load_object, render_views

MARGIN = 1.03  # the object's bounding sphere fills the cameras' visible sphere up to this factor


def find_objects(folder: Path, limit: int | None, seed: int) -> list[Path]:
    """The mesh files of a folder, or a random choice of ``limit`` of them, sorted by name."""
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".glb", ".gltf", ".obj", ".ply"))
    if limit is not None and limit < len(paths):
        chosen = np.random.default_rng(seed).choice(len(paths), limit, replace=False)
        paths = [paths[i] for i in sorted(chosen)]
    return paths


def place(path: Path) -> Object:
    """An object scaled so that orbit cameras at the default radius see all of it.

    The pictures are those of the unit-size object from its own :meth:`Object.camera_radius`.
    """
    obj = load_object(path)
    visible_radius = orbit(np.zeros(1), 0.0).visible_radius
    return replace(obj, vertices=obj.vertices * np.float32(visible_radius / (MARGIN * obj.radius)))


@dataclass(frozen=True)
class Angles:
    """An orbit's azimuths and elevations, [N] degrees; the last is the photo's."""

    azimuth_deg: np.ndarray
    elevation_deg: np.ndarray

    @classmethod
    def of(cls, kind: str, elevation_deg: float) -> Angles:
        return cls(*orbit_angles(kind, elevation_deg))

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
