"""Orbits in shards: plain tar files as webdataset reads them.

``NAME.png`` is all views of an object one below the other, RGBA with straight alpha; ``NAME.photo0.png`` and so on
are its photos, if it has any; ``NAME.json`` says where the cameras stood. The bytes depend on nothing but the content:
no clock, no user, no order of completion.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from sv3d_pipe.errors import UserError

END_OF_TAR = bytes(1024)


@dataclass(frozen=True)
class AboutPhotos:
    """Large pictures of an object as people take them, in the light and from the distance of its views.

    Attributes:
        size: side in pixels.
        azimuth_deg, elevation_deg: [m] of the cameras.
        depth: [m] how deep the object is as seen in each, see :func:`sv3d_pipe.dataset.trajectories.depths`.
    """

    size: int = 0
    azimuth_deg: list[float] = field(default_factory=list)
    elevation_deg: list[float] = field(default_factory=list)
    depth: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class About:
    """What is known of one object's views besides their pixels.

    Attributes:
        name: unique within a data set, without dots.
        size: side of the pictures in pixels.
        azimuth_deg, elevation_deg: [n] of the cameras, see :mod:`sv3d_pipe.cameras`.
        radius: distance of all cameras from the object's center; its longest side is 1.
        fov_deg: full field of view.
        orbit: static, sine, dynamic, random or photos; the first three end at the view that is the photo's.
        textured: True if a mesh came with a picture for a texture, False if in flat colors or invented.
        background: sRGB in [0, 1] to lay the views on; white unless backgrounds are random.
        depth: [n] how deep the object is as seen in each view, see :func:`sv3d_pipe.dataset.trajectories.depths`.
        photos: may be empty.
    """

    name: str
    size: int
    azimuth_deg: list[float]
    elevation_deg: list[float]
    radius: float
    fov_deg: float
    orbit: str
    textured: bool
    background: list[float]
    depth: list[float]
    photos: AboutPhotos = field(default_factory=AboutPhotos)


@dataclass(frozen=True)
class Entry:
    """Where an object lies in its shard: the PNGs' places in the file, and its JSON already read.

    Attributes:
        views, photos: offset and length of the strip of views, and of each photo.
    """

    shard: Path
    views: tuple[int, int]
    photos: tuple[tuple[int, int], ...]
    about: About

    def read_views(self) -> np.ndarray:
        """[n, S, S, 4] uint8 RGBA. Raises UserError if the picture is damaged."""
        return self._read(self.views, len(self.about.azimuth_deg), self.about.size)

    def read_photo(self, number: int) -> np.ndarray:
        """[S, S, 4] uint8 RGBA. Raises UserError if the picture is damaged."""
        return self._read(self.photos[number], 1, self.about.photos.size)[0]

    def _read(self, place: tuple[int, int], count: int, size: int) -> np.ndarray:
        with open(self.shard, "rb") as file:
            file.seek(place[0])
            encoded = np.frombuffer(file.read(place[1]), np.uint8)
        strip = cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED) if len(encoded) else None
        if strip is None or strip.shape != (count * size, size, 4):
            raise UserError(f"The views of {self.about.name} in {self.shard} are damaged; render them again.")
        return cv2.cvtColor(strip, cv2.COLOR_BGRA2RGBA).reshape(-1, size, size, 4)


def sample_bytes(about: About, rgba: np.ndarray, photos: Sequence[np.ndarray] = ()) -> bytes:
    """An object's tar members, headers included, ready to be joined into a shard.

    Args:
        rgba: [n, S, S, 4] uint8. photos: each [P, P, 4] uint8.
    """
    document = json.dumps(asdict(about), separators=(",", ":")).encode()
    members = [_member(f"{about.name}.png", _png(rgba.reshape(-1, about.size, 4), len(rgba)))]
    members += [_member(f"{about.name}.photo{k}.png", _png(photo, 1)) for k, photo in enumerate(photos)]
    return b"".join(members) + _member(f"{about.name}.json", document)


def _png(strip: np.ndarray, views: int) -> bytes:
    bgra = cv2.cvtColor(np.ascontiguousarray(strip), cv2.COLOR_RGBA2BGRA)
    done, png = cv2.imencode(".png", bgra, [cv2.IMWRITE_PNG_COMPRESSION, 6])
    if not done:
        raise UserError(
            f"{views} views of {strip.shape[1]} pixels do not fit in one PNG; use fewer or smaller views."
        )
    return png.tobytes()


def _member(name: str, content: bytes) -> bytes:
    info = tarfile.TarInfo(name)  # owner, group and time stay 0
    info.size = len(content)
    return info.tobuf(tarfile.PAX_FORMAT) + content + bytes(-len(content) % tarfile.BLOCKSIZE)


def write_shard(path: Path, samples: Iterable[bytes]) -> None:
    """Join samples of :func:`sample_bytes` into a tar file that is there whole or not at all."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with open(partial, "wb") as file:
        for sample in samples:
            file.write(sample)
        file.write(END_OF_TAR)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def read_shard(path: Path) -> list[Entry]:
    """The objects of a shard in their order. Raises UserError if the file is damaged."""
    entries, pictures = [], defaultdict(list)
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                key, _, kind = member.name.partition(".")
                if kind.endswith("png"):
                    pictures[key].append((member.offset_data, member.size))
                elif kind == "json":
                    about = _about(json.load(io.BytesIO(tar.extractfile(member).read())))
                    views, *photos = pictures[key]
                    entries.append(Entry(path, views, tuple(photos), about))
            whole = path.stat().st_size >= tar.offset
    except (tarfile.TarError, ValueError, KeyError, TypeError, OSError):
        whole = False
    if not whole:
        raise UserError(
            f"The shard {path} is damaged or not made by img2mesh; run its `img2mesh render` again."
        )
    return entries


def _about(document: dict[str, Any]) -> About:
    document = {"depth": [], "photos": {}} | document  # which sets of earlier formats lack
    document["photos"] = AboutPhotos(**document["photos"])
    return About(**{name: document[name] for name in About.__dataclass_fields__})
