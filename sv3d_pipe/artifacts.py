"""What the stages hand to each other: Photo, Views, Field, Refined. Typed, validated, saved, loaded.

Images are float32 in [0, 1], sRGB, straight alpha. An artifact saves itself into a folder that
exists and is empty, and loads itself from it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from sv3d_pipe.cameras import Cameras, load_to_world, load_transforms, save_transforms
from sv3d_pipe.meshes.read import has_picture, plain_rgb, read_meshes
from sv3d_pipe.pictures import load_png, save_png

PHOTO_CAMERAS = "photos.json"  # beside transforms.json, in its format, where photos have cameras of their own
PHOTO_VIEWS = (
    "views.json"  # beside a prepared photo, where there are further ones: from where they were taken
)
CORRECTION = "correction.json"  # beside a refined mesh, where its views were corrected


def _check(name: str, array: np.ndarray, shape: tuple) -> None:
    fits = array.ndim == len(shape) and all(s is None or s == n for s, n in zip(shape, array.shape))
    if not fits:
        raise ValueError(f"{name} must have shape {list(shape)}, got {list(array.shape)}")


@dataclass(frozen=True)
class FurtherPhoto:
    """A further photo of the object, prepared as the first, by itself.

    Attributes:
        rgba: [S, S, 4] the object, centered, on a transparent background.
        azimuth_deg: from where it was taken; the first photo is at 0.
        elevation_deg: likewise, above the object's level; None is the first photo's.
        name: of its file, for messages.
    """

    rgba: np.ndarray
    azimuth_deg: float
    elevation_deg: float | None
    name: str


@dataclass(frozen=True)
class Photo:
    """The prepared input.

    Attributes:
        rgba: [S, S, 4] the object, centered, on a transparent background.
        further: more photos of it, of the same size.
    """

    rgba: np.ndarray
    further: tuple[FurtherPhoto, ...] = ()

    def __post_init__(self):
        size = self.rgba.shape[0]
        for rgba in (self.rgba, *(other.rgba for other in self.further)):
            _check("Photo.rgba", rgba, (size, size, 4))

    def save(self, folder: Path) -> None:
        save_png(folder / "photo.png", self.rgba)
        if not self.further:
            return
        (folder / "views").mkdir()
        told = []
        for number, other in enumerate(self.further, 1):
            file = f"views/{number}.png"
            save_png(folder / file, other.rgba)
            told.append(
                {
                    "file": file, "name": other.name, "azimuth_deg": other.azimuth_deg,
                    "elevation_deg": other.elevation_deg,
                }
            )  # fmt: skip
        (folder / PHOTO_VIEWS).write_text(json.dumps(told, indent=1))

    @classmethod
    def load(cls, folder: Path) -> Photo:
        told = json.loads((folder / PHOTO_VIEWS).read_text()) if (folder / PHOTO_VIEWS).exists() else []
        further = [FurtherPhoto(load_png(folder / view.pop("file")), **view) for view in told]
        return cls(load_png(folder / "photo.png"), tuple(further))


@dataclass(frozen=True)
class Views:
    """Pictures of the object with known cameras.

    Attributes:
        rgba: [N, S, S, 4] frames.
        cameras: their N cameras.
        photos: [K, P, P, 4] the input photos at full size, of which the LAST K frames are smaller copies, the photo
            from which all began last; None if there are none of higher resolution.
        photo_cameras: their own, K of them; by default those of the last frames.
        seen: [N, S, S] bool, False where a frame knows nothing because the border of a captured picture
            cuts the object there; None if all is known.
        to_world: [4, 4] similarity from the coordinates of a capture to ours; None if there was no capture.
    """

    rgba: np.ndarray
    cameras: Cameras
    photos: np.ndarray | None = None
    seen: np.ndarray | None = None
    to_world: np.ndarray | None = None
    photo_cameras: Cameras | None = None

    def __post_init__(self):
        _check("Views.rgba", self.rgba, (len(self.cameras), None, self.rgba.shape[1], 4))
        if self.photos is not None:
            _check("Views.photos", self.photos, (None, None, self.photos.shape[2], 4))
        if self.photo_cameras is None and len(self.cameras):
            object.__setattr__(self, "photo_cameras", self.cameras[-max(1, self.n_photos) :])
        if self.seen is not None:
            _check("Views.seen", self.seen, self.rgba.shape[:3])

    @property
    def size(self) -> int:
        return self.rgba.shape[1]

    @property
    def n_photos(self) -> int:
        return 0 if self.photos is None else len(self.photos)

    @property
    def photo(self) -> np.ndarray | None:
        """[P, P, 4] the photo from which all began; None if there is none of higher resolution than the frames."""
        return None if self.photos is None else self.photos[-1]

    @property
    def photo_camera(self) -> Cameras:
        """Its own; without photos, the last frame's."""
        return self.photo_cameras[-1]

    def whole(self, fewest: int = 3) -> Views:
        """Only the frames that are known everywhere; all of them if those would be fewer than ``fewest``."""
        kept = np.ones(len(self.rgba), bool) if self.seen is None else self.seen.all((1, 2))
        if kept.all() or kept.sum() < fewest:
            return self
        photos, cameras = (
            (self.photos, self.photo_cameras) if kept[-max(1, self.n_photos) :].all() else (None,) * 2
        )
        return Views(
            self.rgba[kept], self.cameras[kept], photos, to_world=self.to_world, photo_cameras=cameras
        )

    def save(self, folder: Path) -> None:
        names = self._save_frames(folder, "frames", self.rgba)
        masks = None if self.seen is None else self._save_frames(folder, "seen", self.seen.astype(np.float32))
        save_transforms(folder / "transforms.json", self.cameras, self.size, names, masks, self.to_world)
        if self.photos is not None:
            names = self._save_frames(folder, "photos", self.photos)
            if not self.photo_cameras.equals(self.cameras[-self.n_photos :]):
                save_transforms(folder / PHOTO_CAMERAS, self.photo_cameras, self.photos.shape[1], names)

    @staticmethod
    def _save_frames(folder: Path, name: str, pictures: np.ndarray) -> list[str]:
        (folder / name).mkdir()
        names = [f"{name}/{i:03d}.png" for i in range(len(pictures))]
        for path, picture in zip(names, pictures):
            save_png(folder / path, picture)
        return names

    @classmethod
    def load(cls, folder: Path) -> Views:
        cameras, names = load_transforms(folder / "transforms.json")
        frames = np.stack([load_png(folder / name) for name in names])
        masks = sorted((folder / "seen").glob("*.png"))
        seen = np.stack([load_png(path) > 0.5 for path in masks]) if masks else None
        files = sorted((folder / "photos").glob("*.png"))
        photos = np.stack([load_png(path) for path in files]) if files else None
        to_world = load_to_world(folder / "transforms.json")
        own = folder / PHOTO_CAMERAS
        photo_cameras = load_transforms(own)[0] if own.exists() else None
        return cls(frames, cameras, photos, seen, to_world, photo_cameras)


@dataclass(frozen=True)
class Mesh:
    """A triangle mesh with one color per vertex.

    Attributes:
        vertices: [V, 3] float32, world space.
        faces: [F, 3] int64 vertex indices, counter-clockwise seen from outside.
        rgb: [V, 3] float32 in [0, 1], sRGB.
    """

    vertices: np.ndarray
    faces: np.ndarray
    rgb: np.ndarray

    def __post_init__(self):
        _check("Mesh.vertices", self.vertices, (None, 3))
        _check("Mesh.faces", self.faces, (None, 3))
        _check("Mesh.rgb", self.rgb, (len(self.vertices), 3))

    def to_trimesh(self):
        """The same mesh as a ``trimesh.Trimesh`` (vertices are not merged)."""
        import trimesh

        colors = (np.clip(self.rgb, 0, 1) * 255 + 0.5).astype(np.uint8)
        return trimesh.Trimesh(self.vertices, self.faces, vertex_colors=colors, process=False)

    def save(self, folder: Path) -> None:
        self.to_trimesh().export(folder / "mesh.ply")

    @classmethod
    def load(cls, folder: Path) -> Mesh:
        return cls.from_file(folder / "mesh.ply")

    @classmethod
    def from_file(cls, path: Path, warn: Callable[[str], None] | None = None) -> Mesh:
        """A mesh file of a kind in :data:`sv3d_pipe.mesh_formats.READ`; vertex colors where it has them, gray otherwise.

        Args:
            warn: is told what is wrong with its colors.
        Raises:
            UserError: there is no such file, it cannot be read, or it holds no triangles; see
                :func:`sv3d_pipe.meshes.read.read_meshes`.
        """
        parts = [_with_vertex_colors(mesh) for mesh in read_meshes(path, warn)]
        starts = np.cumsum([0] + [len(part.vertices) for part in parts])
        faces = [part.faces + start for part, start in zip(parts, starts)]
        return cls(
            np.concatenate([part.vertices for part in parts]), np.concatenate(faces),
            np.concatenate([part.rgb for part in parts]),
        )  # fmt: skip


def _with_vertex_colors(mesh: Any) -> Mesh:
    """A ``trimesh.Trimesh`` whose texture, if it has one, is looked up at the vertices."""
    visual = mesh.visual
    if visual.kind != "texture":
        rgb = np.asarray(visual.vertex_colors)[:, :3] / np.float32(255)
    elif not has_picture(visual):
        rgb = np.tile(plain_rgb(visual), (len(mesh.vertices), 1))
    else:
        rgb = np.asarray(visual.to_color().vertex_colors)[:, :3] / np.float32(255)
    return Mesh(mesh.vertices.astype(np.float32), mesh.faces.astype(np.int64), rgb.astype(np.float32))


@dataclass(frozen=True)
class Field:
    """A fitted radiance field and the surface extracted from it.

    Attributes:
        weights: name -> tensor, the state of ``nerf.field.RadianceField``.
        shape: the constructor arguments of ``nerf.field.RadianceField``.
        mesh: the coarse surface.
    """

    weights: dict
    shape: dict
    mesh: Mesh = field(repr=False)

    def save(self, folder: Path) -> None:
        from safetensors.torch import save_file

        save_file(self.weights, folder / "field.safetensors", metadata={"shape": json.dumps(self.shape)})
        self.mesh.save(folder)

    @classmethod
    def load(cls, folder: Path) -> Field:
        from safetensors import safe_open

        with safe_open(folder / "field.safetensors", framework="pt") as file:
            weights = {name: file.get_tensor(name) for name in file.keys()}
            shape = json.loads(file.metadata()["shape"])
        return cls(weights, shape, Mesh.load(folder))


@dataclass(frozen=True)
class Correction:
    """What was wrong with the cameras and the colors of views.

    Attributes:
        c2w: [N, 4, 4] float32, the cameras that the N frames were really seen from.
        gains: [N, 3] float32, factors of their channels.
    """

    c2w: np.ndarray
    gains: np.ndarray

    def of(self, views: Views) -> Views:
        """The views as they should have been; of photos taken from where the last frames are seen, those too."""
        cameras, count = Cameras(self.c2w, views.cameras.fov_deg), views.n_photos
        changed = {"rgba": _brightened(views.rgba, self.gains), "cameras": cameras}
        if count and views.photo_cameras.equals(views.cameras[-count:]):
            photos = _brightened(views.photos, self.gains[-count:])
            changed |= {"photos": photos, "photo_cameras": cameras[-count:]}
        return replace(views, **changed)

    def save(self, folder: Path) -> None:
        document = {"transform_matrices": self.c2w.tolist(), "gains": self.gains.tolist()}
        (folder / CORRECTION).write_text(json.dumps(document, indent=1))

    @classmethod
    def load(cls, folder: Path) -> Correction | None:
        """None where there was nothing to correct."""
        if not (folder / CORRECTION).exists():
            return None
        document = json.loads((folder / CORRECTION).read_text())
        return cls(*(np.array(document[name], np.float32) for name in ("transform_matrices", "gains")))


def _brightened(rgba: np.ndarray, gains: np.ndarray) -> np.ndarray:
    """Pictures [N, S, S, 4] whose channels are multiplied by gains [N, 3]; where all are 1, the same object."""
    if (gains == 1).all():
        return rgba
    rgb = np.clip(rgba[..., :3] * gains[:, None, None], 0, 1)
    return np.concatenate([rgb, rgba[..., 3:]], -1)


@dataclass(frozen=True)
class Refined:
    """The refined mesh, and the correction of the views that it agrees with; None where they were right."""

    mesh: Mesh
    correction: Correction | None = None

    def views(self, views: Views) -> Views:
        """The views that the mesh agrees with, from those that were painted."""
        return views if self.correction is None else self.correction.of(views)

    def save(self, folder: Path) -> None:
        self.mesh.save(folder)
        if self.correction is not None:
            self.correction.save(folder)

    @classmethod
    def load(cls, folder: Path) -> Refined:
        return cls(Mesh.load(folder), Correction.load(folder))
