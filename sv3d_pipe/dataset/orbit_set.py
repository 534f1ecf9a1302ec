"""Orbit data sets as `img2mesh render` writes them, read back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from sv3d_pipe.dataset.shards import Entry, read_shard


@dataclass(frozen=True)
class Record:
    """The views of one object.

    Attributes:
        name: unique within its data set.
        rgba: [n, S, S, 4] uint8, straight alpha.
        azimuth_deg, elevation_deg: [n] float32. On a static, sine or dynamic orbit the views follow each
            other and the last is the photo's; azimuths are the object's own, the photo's is not 0.
        textured: False if the mesh came in flat colors or was invented.
        radius: distance of the cameras; the object's longest side is 1.
        orbit: static, sine, dynamic, random or photos.
        background: sRGB in [0, 1] that the views are to be laid on.
        depth: [n] float32, how deep the object is as seen in each view; [0] in a data set that does not say.
        photos: large pictures in the same light; may be empty.
    """

    name: str
    rgba: torch.Tensor
    azimuth_deg: torch.Tensor
    elevation_deg: torch.Tensor
    textured: bool
    radius: float
    orbit: str
    background: tuple[float, float, float]
    depth: torch.Tensor
    photos: Photos


@dataclass(frozen=True)
class Photos:
    """An object's photos, decoded when asked for.

    Attributes:
        azimuth_deg, elevation_deg, depth: [m] float32, as those of views.
    """

    azimuth_deg: torch.Tensor
    elevation_deg: torch.Tensor
    depth: torch.Tensor
    entry: Entry

    def __len__(self) -> int:
        return len(self.azimuth_deg)

    def __getitem__(self, number: int) -> torch.Tensor:
        """[P, P, 4] uint8, straight alpha. Raises UserError if the picture is damaged."""
        return torch.from_numpy(self.entry.read_photo(number))


class OrbitSet:
    """All objects of a data set; ``orbits[i]`` is a :class:`Record`.

    The list of objects is read at once, their pictures on demand; decoded pictures are kept
    until they fill ``keep_gb``.

    Args:
        folder: holds shards (``*.tar``) written by ``img2mesh render``, also of several data sets below it.
        keep_gb: memory for decoded pictures.
    Raises:
        UserError: a shard is damaged.
    """

    def __init__(self, folder: Path, keep_gb: float = 4.0):
        self.entries = [entry for path in sorted(Path(folder).rglob("*.tar")) for entry in read_shard(path)]
        self.room = keep_gb * 2**30
        self.kept: dict[int, Record] = {}

    @property
    def textured(self) -> np.ndarray:
        """[len] bool, known without decoding a picture."""
        return np.array([entry.about.textured for entry in self.entries], bool)

    def __getitem__(self, index: int) -> Record:
        if index in self.kept:
            return self.kept[index]
        entry = self.entries[index]
        about, rgba = entry.about, torch.from_numpy(entry.read_views())
        azimuth_deg, elevation_deg = _float32(about.azimuth_deg), _float32(about.elevation_deg)
        angles = about.photos.azimuth_deg, about.photos.elevation_deg, about.photos.depth
        photos = Photos(*map(_float32, angles), entry)
        look = about.textured, about.radius, about.orbit, tuple(about.background)
        record = Record(about.name, rgba, azimuth_deg, elevation_deg, *look, _float32(about.depth), photos)
        if self.room >= rgba.nbytes:
            self.room -= rgba.nbytes
            self.kept[index] = record
        return record

    def __len__(self) -> int:
        return len(self.entries)


def _float32(values: list[float]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32)
