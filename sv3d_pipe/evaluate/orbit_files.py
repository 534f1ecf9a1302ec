"""Orbits that somebody painted, as files: their frames, the elevation they were taken from, the mesh they should give."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import imageio.v2 as imageio
import numpy as np
from PIL import Image, ImageSequence

from sv3d_pipe.config import ASSUMED_ELEVATION_DEG
from sv3d_pipe.deep_pictures import scaled_size
from sv3d_pipe.errors import UserError
from sv3d_pipe.evaluate.truth import chosen, names_of
from sv3d_pipe.inputs import read_json, require_file
from sv3d_pipe.mesh_formats import READ
from sv3d_pipe.pictures import read_image
from sv3d_pipe.road.sources import content_sha256

FILMS = (".mp4", ".gif")
FEWEST = 9  # frames: four to predict, as many between them, and the photo's
LARGEST = 1024  # side of a frame that is not shrunk
MOST_PIXELS = 32_000_000  # of all frames of an orbit, after that
STEEPEST_DEG = 80.0


@dataclass(frozen=True)
class OrbitFiles:
    """A static orbit: azimuths grow by 360 / N degrees, and the last of the N frames is the photo's view.

    Attributes:
        path: an mp4 or a gif, or a folder of PNGs, in the order of the numbers in their names.
        elevation_deg: of all its cameras. truth: a mesh file of the object; None if there is none.
    """

    path: Path
    elevation_deg: float
    truth: Path | None = None

    def content(self) -> list[Any]:
        """What scores depend on: hashes of the files, in order, and the elevation."""
        files = _pictures(self.path) if self.path.is_dir() else [self.path]
        truth = None if self.truth is None else content_sha256(self.truth)
        return [[content_sha256(file) for file in files], self.elevation_deg, truth]

    def frames(self) -> np.ndarray:
        """[N, S, S, 4] float32, straight alpha; alpha is 1 everywhere in frames on white.

        Raises UserError if the files cannot be read, or are not an orbit of square frames of one size.
        """
        frames = [_with_alpha(frame) for frame in self._read()]
        shapes = {frame.shape for frame in frames}
        if len(frames) < FEWEST:
            raise UserError(f"{self.path} has {len(frames)} frames; an orbit needs at least {FEWEST}.")
        if len(shapes) > 1 or frames[0].shape[0] != frames[0].shape[1]:
            raise UserError(f"The frames of {self.path} must be square and all of one size.")
        return np.stack(frames)

    def _read(self) -> list[np.ndarray]:
        """All frames. Raises UserError if they are too large together."""
        frames, pixels = [], 0
        for frame in self._each():
            frames.append(frame)
            pixels += frame.shape[0] * frame.shape[1]
            if pixels > MOST_PIXELS:
                raise UserError(
                    f"The frames of {self.path} have more than {MOST_PIXELS:,} pixels together; shrink them."
                )
        return frames

    def _each(self) -> Iterator[np.ndarray]:
        """The frames one by one, [H, W, 3 or 4] float32, at most LARGEST pixels wide and high."""
        if self.path.is_dir():
            yield from (read_image(file, LARGEST)[0] for file in _pictures(self.path))
            return
        require_file(self.path)
        try:
            if self.path.suffix.lower() == ".gif":
                with Image.open(self.path, formats=("GIF",)) as film:
                    for frame in ImageSequence.Iterator(film):
                        yield _small(np.asarray(frame.convert("RGBA")))
            else:
                with imageio.get_reader(self.path) as film:
                    for frame in film:
                        yield _small(np.asarray(frame))
        except (OSError, ValueError, RuntimeError, IndexError, Image.DecompressionBombError) as error:
            raise UserError(f"Cannot read the frames of {self.path} ({type(error).__name__}).") from None


def _small(frame: np.ndarray) -> np.ndarray:
    """A frame [H, W, 3 or 4] uint8 as float32 in [0, 1], shrunk to LARGEST."""
    size = scaled_size(frame.shape[1], frame.shape[0], LARGEST)
    if size != frame.shape[1::-1]:
        frame = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
    return frame / np.float32(255)


def _with_alpha(frame: np.ndarray) -> np.ndarray:
    return frame if frame.shape[-1] == 4 else np.concatenate([frame, np.ones_like(frame[..., :1])], -1)


def _pictures(folder: Path) -> list[Path]:
    """The PNGs of a folder, 2 before 10."""

    def key(path: Path) -> list[Any]:
        return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path.stem)]

    return sorted((p for p in folder.iterdir() if p.suffix.lower() == ".png"), key=key)


def find_orbits(
    folder: Path,
    ids: tuple[str, ...] = (),
    limit: int | None = None,
    seed: int = 0,
    elevation_deg: float = ASSUMED_ELEVATION_DEG,
    elevations: Path | None = None,
    truth: Path | None = None,
) -> dict[str, OrbitFiles]:
    """The orbits below a folder by name, chosen as :func:`sv3d_pipe.evaluate.truth.find_objects` does.

    An orbit is an mp4, a gif, or a folder of at least :data:`FEWEST` PNGs.

    Args:
        elevations: JSON of name -> degrees. For orbits that it does not name, ``<name>.json`` beside the
            orbit says it as ``{"elevation_deg": 5}``; where there is none either, ``elevation_deg`` counts.
        truth: one mesh for all orbits, or a folder of meshes named as the orbits are.
    Raises:
        UserError: no orbit fits, an elevation cannot be read, or there is no such mesh.
    """
    if not folder.is_dir():
        raise UserError(f"There is no folder {folder}; give a folder of orbits.")
    inside = sorted(folder.rglob("*"))
    paths = [p for p in inside if (p.suffix.lower() in FILMS if p.is_file() else _is_orbit(p))]
    found = chosen(names_of(folder, paths), ids, limit, seed)
    if not found:
        which = f"that match {', '.join(ids)} " if paths and ids else ""
        raise UserError(
            f"There are no orbits {which}in {folder}; it must hold .mp4 or .gif files or folders of PNG frames."
        )
    known = {} if elevations is None else _json(elevations)
    orbits = {}
    for name, path in found.items():
        beside = path.with_name(f"{path.name if path.is_dir() else path.stem}.json")
        if name in known:
            degrees = _degrees(known, name, elevations)
        elif beside.is_file():
            degrees = _degrees(_json(beside), "elevation_deg", beside)
        else:
            degrees = elevation_deg
        orbits[name] = OrbitFiles(path, degrees, _truth_of(name, truth))
    if truth is not None and all(orbit.truth is None for orbit in orbits.values()):
        raise UserError(f"{truth} holds no mesh named after an orbit, such as {next(iter(orbits))}.glb.")
    return orbits


def _is_orbit(folder: Path) -> bool:
    return len(_pictures(folder)) >= FEWEST


def _json(path: Path) -> dict[str, Any]:
    try:
        document = read_json(path)
    except UserError:
        document = None
    if not isinstance(document, dict):
        raise UserError(f'{path} must be a JSON object of elevations, such as {{"name": 5}}.')
    return document


def _degrees(document: dict[str, Any], key: str, path: Path | None) -> float:
    value = document.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= STEEPEST_DEG:
        raise UserError(
            f"{path} must give {key} as degrees between -{STEEPEST_DEG:.0f} and {STEEPEST_DEG:.0f}."
        )
    return float(value)


def _truth_of(name: str, truth: Path | None) -> Path | None:
    if truth is None or truth.is_file():
        return truth
    if not truth.is_dir():
        raise UserError(f"There is no mesh or folder {truth}; check the path.")
    return next((path for suffix in READ if (path := truth / f"{name}{suffix}").is_file()), None)
