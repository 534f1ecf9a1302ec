"""Orbits in shards: plain tar files as webdataset reads them, two members per object.

``NAME.png`` is all views of an object one below the other, RGBA with straight alpha; ``NAME.json`` says where
the cameras stood. The bytes depend on nothing but the content: no clock, no user, no order of completion.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from sv3d_pipe.errors import UserError

END_OF_TAR = bytes(1024)


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
        depth: [n] how deep the object is as seen in each view, see :func:`sv3d_pipe.render.trajectories.depths`.
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


@dataclass(frozen=True)
class Entry:
    """Where an object lies in its shard: the PNG's place in the file, and its JSON already read."""

    shard: Path
    offset: int
    length: int
    about: About

    def read_views(self) -> np.ndarray:
        """[n, S, S, 4] uint8 RGBA. Raises UserError if the picture is damaged."""
        with open(self.shard, "rb") as file:
            file.seek(self.offset)
            encoded = np.frombuffer(file.read(self.length), np.uint8)
        strip = cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED) if len(encoded) else None
        size = self.about.size
        if strip is None or strip.shape != (len(self.about.azimuth_deg) * size, size, 4):
            raise UserError(f"The views of {self.about.name} in {self.shard} are damaged; render them again.")
        return cv2.cvtColor(strip, cv2.COLOR_BGRA2RGBA).reshape(-1, size, size, 4)


def sample_bytes(about: About, rgba: np.ndarray) -> bytes:
    """An object's two tar members, headers included, ready to be joined into a shard.

    Args:
        rgba: [n, S, S, 4] uint8.
    """
    strip = cv2.cvtColor(np.ascontiguousarray(rgba.reshape(-1, about.size, 4)), cv2.COLOR_RGBA2BGRA)
    done, png = cv2.imencode(".png", strip, [cv2.IMWRITE_PNG_COMPRESSION, 6])
    if not done:
        raise UserError(f"The {len(rgba)} views of {about.size} pixels are too many for one picture.")
    document = json.dumps(asdict(about), separators=(",", ":")).encode()
    return _member(f"{about.name}.png", png.tobytes()) + _member(f"{about.name}.json", document)


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
    entries, pictures = [], {}
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                key, _, kind = member.name.partition(".")
                if kind == "png":
                    pictures[key] = (member.offset_data, member.size)
                elif kind == "json":
                    about = _about(json.load(io.BytesIO(tar.extractfile(member).read())))
                    entries.append(Entry(path, *pictures[key], about))
            whole = path.stat().st_size >= tar.offset
    except (tarfile.TarError, ValueError, KeyError, TypeError, OSError):
        whole = False
    if not whole:
        raise UserError(f"The shard {path} is damaged or not one of ours; run its `img2mesh render` again.")
    return entries


def _about(document: dict[str, Any]) -> About:
    document = {"depth": []} | document  # which sets of format 1 lack
    return About(**{name: document[name] for name in About.__dataclass_fields__})
