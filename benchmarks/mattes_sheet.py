"""All test pictures and what each contender cut out, worst first, as one picture of limited size."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

GRAY = 0.5
BAND = 16  # pixels of a label
TILES = (
    216,
    180,
    152,
    128,
    104,
)  # pixels of a picture's side; the largest that stays below MOST_BYTES is taken
MOST_BYTES = 6_000_000


@dataclass(frozen=True)
class Entry:
    """One test picture's place on the sheet: a label, and the picture and its cut-outs, each [H, W, 3]."""

    label: str
    pictures: list[np.ndarray]


def on_gray(rgba: np.ndarray) -> np.ndarray:
    """Straight-alpha [H, W, 4] on middle gray: [H, W, 3]."""
    return rgba[..., :3] * rgba[..., 3:] + GRAY * (1 - rgba[..., 3:])


def thumbnail(rgb: np.ndarray) -> np.ndarray:
    """A picture [H, W, 3] in [0, 1] as 8 bits, small enough to keep many."""
    return _fitted((np.clip(rgb, 0, 1) * 255 + 0.5).astype(np.uint8), TILES[0])


def write(path: Path, heading: str, entries: list[Entry]) -> None:
    """Write the sheet as a PNG of 256 colors, its pictures as large as MOST_BYTES allows."""
    for tile in TILES:
        picture = Image.fromarray(_sheet(heading, entries, tile)).quantize(256, dither=Image.Dither.NONE)
        picture.save(path, optimize=True)
        if path.stat().st_size < MOST_BYTES:
            return


def _sheet(heading: str, entries: list[Entry], tile: int) -> np.ndarray:
    """The sheet [H, W, 3] in 8 bits, about square; a row is as high as its highest picture."""
    width = max(len(entry.pictures) for entry in entries) * tile + 6
    columns = max(1, round((len(entries) * tile / width) ** 0.5))
    bands = [np.full((BAND, columns * width, 3), 255, np.uint8)]
    _write(bands[0], heading, 2, 12)
    for start in range(0, len(entries), columns):
        row = entries[start : start + columns]
        pictures = [[_fitted(picture, tile) for picture in entry.pictures] for entry in row]
        high = max(picture.shape[0] for several in pictures for picture in several)
        bands.append(np.full((BAND + high, columns * width, 3), 255, np.uint8))
        for i, (entry, several) in enumerate(zip(row, pictures)):
            _write(bands[-1], entry.label, i * width + 2, 12)
            for j, picture in enumerate(several):
                h, w = picture.shape[:2]
                bands[-1][BAND : BAND + h, i * width + j * tile :][:, :w] = picture
    return np.concatenate(bands)


def _fitted(picture: np.ndarray, tile: int) -> np.ndarray:
    """A picture [H, W, 3] shrunk so that its longer side is ``tile``."""
    scale = tile / max(picture.shape[:2])
    size = [max(1, round(side * scale)) for side in picture.shape[1::-1]]
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)


def _write(sheet: np.ndarray, text: str, x: int, y: int) -> None:
    cv2.putText(sheet, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.36, (0, 0, 160), 1, cv2.LINE_AA)
