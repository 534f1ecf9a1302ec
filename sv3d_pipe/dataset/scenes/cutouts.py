"""Where the objects of scenes come from: data sets of `img2mesh render`, and folders of pictures with alpha."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from sv3d_pipe.dataset.shards import Entry, read_shard
from sv3d_pipe.errors import UserError
from sv3d_pipe.pictures import read_image

LONGEST = 448  # pixels of an object's longer side that are kept
LEAST = 24  # pixels; what is shorter on either side is no object of a photo
MEANINGFUL = 0.02  # share of its box that a cut-out must hide, or it is a picture with a border
HELD_OUT = 0.06  # of all families and files is never trained on, and measured instead
KEPT = 400  # objects whose pictures are decoded at a time
AGAIN = 0.7  # of all draws are among these: to decode one takes longer than to make a scene of it


@dataclass(frozen=True)
class Source:
    """One object, of a data set or of a file.

    Attributes:
        family: objects of one family look alike, and are trained on or measured together.
    """

    family: str
    place: Entry | Path

    @property
    def held_out(self) -> bool:
        """Whether it is measured instead of trained on."""
        return is_held_out(self.family)


def is_held_out(family: str) -> bool:
    """Whether a family of objects, or the looks at one place, are measured on instead of trained on."""
    return zlib.crc32(f"held out:{family}".encode()) / 2**32 < HELD_OUT


def find_sources(folders: list[Path]) -> list[list[Source]]:
    """The objects below each folder.

    Raises:
        UserError: a folder has no object, or a shard is damaged.
    """
    found = []
    for folder in folders:
        entries = [entry for path in sorted(folder.rglob("*.tar")) for entry in read_shard(path)]
        renders = [Source(_family(entry.about.name), entry) for entry in entries]
        pictures = [Source(path.stem, path) for path in sorted(folder.rglob("*.png"))]
        if not renders + pictures:
            raise UserError(
                f"{folder} holds neither a data set of `img2mesh render` nor PNG pictures with transparent background."
            )
        found.append(renders + pictures)
    return found


def _family(name: str) -> str:
    """``quat_tank_tank2`` and ``quat_tank_tank`` are of one family; so are all parts of one set."""
    return "_".join(name.rstrip("0123456789_").split("_")[:3])


class Cutouts:
    """Draws objects; folders are equally likely, and so are the objects of a folder.

    Args:
        folders: of :func:`find_sources`, already without those that are not to be drawn.
    """

    def __init__(self, folders: list[list[Source]]):
        self.folders = [sources for sources in folders if sources]
        self.decoded: dict[tuple[int, int], list[np.ndarray]] = {}

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """[h, w, 4] float32, straight alpha, cut to what is visible."""
        while True:
            if len(self.decoded) > KEPT // 2 and rng.random() < AGAIN:
                views = self.decoded[list(self.decoded)[rng.integers(len(self.decoded))]]
            else:
                folder = rng.integers(len(self.folders))
                views = self._views(folder, int(rng.integers(len(self.folders[folder]))))
            if views:
                return views[rng.integers(len(views))].astype(np.float32) / 255

    def _views(self, folder: int, number: int) -> list[np.ndarray]:
        """Pictures of one object, [h, w, 4] uint8; none if it is no cut-out."""
        key = folder, number
        if key not in self.decoded:
            if len(self.decoded) >= KEPT:
                del self.decoded[next(iter(self.decoded))]
            place = self.folders[folder][number].place
            if isinstance(place, Entry):
                pictures = list(place.read_views())
            else:
                pictures = _read(place)
            self.decoded[key] = [view for picture in pictures if (view := _visible(picture)) is not None]
        return self.decoded[key]


def _read(path: Path) -> list[np.ndarray]:
    """The picture of a file, [h, w, 4] uint8; none if it cannot be read, is tiny or has no alpha."""
    try:
        picture, _ = read_image(path, 2 * LONGEST)
    except UserError:
        return []
    return [(picture * 255 + 0.5).astype(np.uint8)] if picture.shape[-1] == 4 else []


def _visible(rgba: np.ndarray) -> np.ndarray | None:
    """The box of what is visible, not larger than LONGEST; None if that is no cut-out of some size."""
    rows, columns = np.flatnonzero((rgba[..., 3] > 12).any(1)), np.flatnonzero((rgba[..., 3] > 12).any(0))
    if len(rows) < LEAST or len(columns) < LEAST:
        return None
    box = rgba[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    if (box[..., 3] < 128).mean() < MEANINGFUL:
        return None
    scale = LONGEST / max(box.shape[:2])
    if scale >= 1:
        return np.ascontiguousarray(box)
    size = max(1, round(box.shape[1] * scale)), max(1, round(box.shape[0] * scale))
    premultiplied = box.astype(np.float32)
    premultiplied[..., :3] *= premultiplied[..., 3:] / 255
    small = cv2.resize(premultiplied, size, interpolation=cv2.INTER_AREA)
    small[..., :3] /= np.maximum(small[..., 3:] / 255, 1 / 255)
    return np.clip(small + 0.5, 0, 255).astype(np.uint8)
