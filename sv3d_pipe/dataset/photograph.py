"""From one mesh to one sample of a data set: dressed, lit, photographed, encoded. All by the object's seed."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sv3d_pipe.cameras import FOV_DEG
from sv3d_pipe.dataset.invented.inventions import invent
from sv3d_pipe.dataset.shards import About, AboutPhotos, sample_bytes
from sv3d_pipe.dataset.shoot import Shoot
from sv3d_pipe.dataset.trajectories import (
    Trajectory,
    content_radius,
    depths,
    draw_photos,
    draw_trajectory,
    sphere_radius,
)
from sv3d_pipe.errors import UserError
from sv3d_pipe.render.draw import render_views
from sv3d_pipe.render.lighting import Studio
from sv3d_pipe.render.objects import Object, load_object, stretched
from sv3d_pipe.render.textures import dress, is_textured

ONLY_BLENDER = (".fbx", ".blend", ".usd", ".usda", ".usdc", ".usdz")  # among the meshes, by suffix
PIXELS_AT_ONCE = 8_000_000  # as floats, all views of a large orbit would fill the memory
PHOTO_SIZE = 448  # side of photos; framing as prep does shrinks all but those of the deepest objects
DRESS, ORBIT, LIGHT, BACKGROUND, PHOTOS, STRETCH = range(
    6
)  # streams of random numbers; one does not disturb another


@dataclass(frozen=True)
class Job:
    """One object to photograph.

    Attributes:
        index: its place in the data set. name: unique, without dots.
        mesh: a file, or None for an invented object.
        seed: of everything random about it.
    """

    index: int
    name: str
    mesh: Path | None
    seed: int


def seed_of(seed: int, name: str) -> int:
    """The seed of one object; it depends on its name, not on its neighbors."""
    return zlib.crc32(f"{seed}:{name}".encode())


def photograph(job: Job, look: Shoot, blender: str | None = None) -> bytes:
    """The object's tar members, see :mod:`sv3d_pipe.dataset.shards`.

    Args:
        blender: the executable, for ``renderer="blender"``.
    Raises:
        UserError: the mesh cannot be read, or there is nothing to see.
    """
    return photograph_object(_object(job, blender), job, look, blender)


def _object(job: Job, blender: str | None) -> Object:
    if job.mesh is None:
        return invent(job.seed)
    if job.mesh.suffix.lower() not in ONLY_BLENDER:
        return load_object(job.mesh)
    if blender is None:
        raise UserError(f"{job.mesh.suffix} files need --renderer blender; or convert the file to glb")
    from sv3d_pipe.render.blender import load_with_blender

    return load_with_blender(job.mesh, blender)


def photograph_object(obj: Object, job: Job, look: Shoot, blender: str | None = None) -> bytes:
    """:func:`photograph` for an object in memory."""
    textured = job.mesh is not None and is_textured(obj)
    if look.textures == "random" and not textured and job.mesh is not None:
        obj = dress(obj, _stream(job, DRESS))
    if look.stretch > 1:
        obj = stretched(obj, look.stretch, _stream(job, STRETCH))
    trajectory = draw_trajectory(look.orbit, look.views, _stream(job, ORBIT))
    radius = content_radius(obj, trajectory) if look.distance == "content" else sphere_radius(obj)
    studio = Studio.random(_stream(job, LIGHT)) if look.lighting == "random" else None
    rgba = _render(obj, trajectory, radius, look, studio, blender)
    if not rgba[..., 3].any():
        raise UserError("nothing of it is visible")
    shots = draw_photos(look.photos, _stream(job, PHOTOS))
    photos = (
        _render(obj, shots, radius, replace(look, size=PHOTO_SIZE), studio, blender) if look.photos else ()
    )
    if not all(photo[..., 3].any() for photo in photos):
        raise UserError("nothing of it is visible in one of its photos")
    about = About(
        job.name,
        look.size,
        trajectory.azimuth_deg.tolist(),
        trajectory.elevation_deg.tolist(),
        radius,
        FOV_DEG,
        look.orbit,
        textured,
        _background(look, _stream(job, BACKGROUND)),
        depths(obj, trajectory.azimuth_deg).tolist(),
        AboutPhotos(
            PHOTO_SIZE,
            shots.azimuth_deg.tolist(),
            shots.elevation_deg.tolist(),
            depths(obj, shots.azimuth_deg).tolist(),
        ),
    )
    return sample_bytes(about, rgba, photos)


def _stream(job: Job, number: int) -> np.random.Generator:
    return np.random.default_rng([job.seed, number])


def _background(look: Shoot, rng: np.random.Generator) -> list[float]:
    """White for half of the objects and a random color for the others, as in the paper's two copies."""
    if look.background == "white" or rng.random() < 0.5:
        return [1.0, 1.0, 1.0]
    return np.round(rng.random(3), 3).tolist()


def _render(
    obj: Object,
    trajectory: Trajectory,
    radius: float,
    look: Shoot,
    studio: Studio | None,
    blender: str | None,
) -> np.ndarray:
    """[n, S, S, 4] uint8."""
    cameras = trajectory.cameras(radius)
    if look.renderer == "blender":
        from sv3d_pipe.render.blender import render_with_blender

        return render_with_blender(obj, cameras, look.size, studio, blender)
    supersample = 3 if look.size <= 256 else 2
    pictures = np.empty((len(cameras), look.size, look.size, 4), np.uint8)
    at_once = max(1, PIXELS_AT_ONCE // look.size**2)
    for i in range(0, len(cameras), at_once):
        views = slice(i, i + at_once)
        pictures[views] = render_views(obj, cameras[views], look.size, studio, supersample) * 255 + 0.5
    return pictures
