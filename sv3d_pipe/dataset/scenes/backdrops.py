"""Backgrounds of scenes: crops of photographs, invented rooms, plain studios."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from sv3d_pipe.dataset.scenes.cutouts import is_held_out
from sv3d_pipe.errors import UserError
from sv3d_pipe.picture_kinds import SUFFIXES
from sv3d_pipe.pictures import read_image

LONGEST = 1400  # pixels of a photograph's longer side that are kept
KINDS, SHARES = ("photograph", "room", "studio"), (0.62, 0.2, 0.18)
SMALLEST_CROP = 0.25  # of a photograph's shorter side


class Backdrops:
    """Draws backgrounds.

    Args:
        photographs: pictures, of which most backgrounds are crops and rooms get their walls.
    """

    def __init__(self, photographs: list[Path]):
        self.pictures = [_bytes(read_image(path, LONGEST)[0]) for path in photographs]

    def draw(self, rng: np.random.Generator, height: int, width: int) -> tuple[np.ndarray, float]:
        """A background [H, W, 3] float32 in [0, 1], and the height of the line where its floor begins as a share of H."""
        kind = rng.choice(KINDS, p=SHARES) if self.pictures else rng.choice(KINDS[1:])
        if kind == "photograph":
            return self.crop(rng, height, width), float(rng.uniform(0.2, 0.6))
        if kind == "room":
            return self._room(rng, height, width)
        return _studio(rng, height, width)

    def crop(self, rng: np.random.Generator, height: int, width: int) -> np.ndarray:
        """A part of a photograph, mirrored half the time, in other colors: [H, W, 3]."""
        picture = self.pictures[rng.integers(len(self.pictures))]
        fits = min(picture.shape[0] / height, picture.shape[1] / width)
        scale = fits * np.exp(rng.uniform(np.log(SMALLEST_CROP), 0))
        high, wide = max(2, int(height * scale)), max(2, int(width * scale))
        y = rng.integers(picture.shape[0] - high + 1)
        x = rng.integers(picture.shape[1] - wide + 1)
        part = picture[y : y + high, x : x + wide].astype(np.float32) / 255
        part = cv2.resize(
            part, (width, height), interpolation=cv2.INTER_AREA if scale > 1 else cv2.INTER_CUBIC
        )
        return recolored(rng, part[:, ::-1] if rng.random() < 0.5 else part)

    def _room(self, rng: np.random.Generator, height: int, width: int) -> tuple[np.ndarray, float]:
        """A wall above a floor that recedes, each of one material, and light from one side."""
        line = float(rng.uniform(0.15, 0.65))
        edge = int(height * line)
        wall = self._material(rng, height, width)
        floor = self._material(rng, 2 * height, 2 * width)
        near, far = float(rng.uniform(1.0, 2.0)), float(rng.uniform(0.15, 0.5))  # its width in the picture
        corners = np.float32([[0, 0], [2 * width, 0], [2 * width, 2 * height], [0, 2 * height]])
        middle = width / 2
        seen = np.float32(
            [
                [middle - width / far / 2, edge],
                [middle + width / far / 2, edge],
                [middle + width / far * near, height],
                [middle - width / far * near, height],
            ]
        )
        laid = cv2.warpPerspective(
            floor, cv2.getPerspectiveTransform(corners, seen), (width, height), borderMode=cv2.BORDER_REFLECT
        )
        room = wall.copy()
        room[edge:] = laid[edge:]
        if rng.random() < 0.5:  # a skirting, or a dark gap
            thick = int(rng.integers(1, max(2, height // 30)))
            room[max(0, edge - thick) : edge] = rng.random(3)
        return np.clip(room * _light(rng, height, width), 0, 1), line

    def _material(self, rng: np.random.Generator, height: int, width: int) -> np.ndarray:
        """[H, W, 3] a plain color with grain, stripes, boards or tiles, or a part of a photograph."""
        color = rng.random(3).astype(np.float32) * 0.8 + 0.1
        kind = rng.choice(["plain", "plain", "grain", "boards", "tiles", "photograph"])
        if kind == "photograph" and self.pictures:
            return cv2.GaussianBlur(self.crop(rng, height, width), (0, 0), rng.uniform(0.5, 3))
        flat = np.broadcast_to(color, (height, width, 3)).astype(np.float32)
        if kind == "plain":
            return flat.copy()
        if kind == "grain":
            return np.clip(flat * (1 + rng.uniform(0.1, 0.5) * clouds(rng, height, width)[..., None]), 0, 1)
        pitch = int(rng.integers(max(8, width // 24), max(12, width // 4)))
        across = np.arange(width) // pitch
        down = (
            np.arange(height) // (pitch * int(rng.integers(1, 6)))
            if kind == "tiles"
            else np.zeros(height, int)
        )
        shades = rng.normal(1, rng.uniform(0.03, 0.25), (down.max() + 1, across.max() + 1)).astype(np.float32)
        material = flat * shades[down[:, None], across[None]][..., None]
        material[:, np.arange(width) % pitch == 0] *= rng.uniform(0.4, 1.2)
        if kind == "tiles":
            material[np.flatnonzero(np.diff(down, prepend=0))] *= rng.uniform(0.4, 1.2)
        return np.clip(material * (1 + 0.1 * clouds(rng, height, width)[..., None]), 0, 1)


def find_photographs(folders: list[Path], held_out: bool) -> list[Path]:
    """The pictures below folders that are trained on, or those that are held out.

    Raises:
        UserError: a folder has no picture.
    """
    found = []
    for folder in folders:
        pictures = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
        if not pictures:
            raise UserError(
                f"There are no pictures in {folder}; give a folder of photographs as backgrounds."
            )
        found += pictures
    # Looks at one place differ by numbers.
    return [path for path in found if is_held_out(path.stem.strip("0123456789_")) == held_out]


def _bytes(picture: np.ndarray) -> np.ndarray:
    return (picture[..., :3] * 255 + 0.5).astype(np.uint8)


def _studio(rng: np.random.Generator, height: int, width: int) -> tuple[np.ndarray, float]:
    """One color, often white, gray or black, that changes slowly; no line between wall and floor."""
    color = rng.choice([np.ones(3), np.full(3, rng.random()), rng.random(3), np.full(3, rng.uniform(0, 0.1))])
    plain = np.broadcast_to(color.astype(np.float32), (height, width, 3))
    if rng.random() < 0.6:
        plain = plain * _light(rng, height, width)
    if rng.random() < 0.3:
        plain = plain * (1 + rng.uniform(0.01, 0.06) * clouds(rng, height, width)[..., None])
    return np.clip(plain, 0, 1).astype(np.float32), float(rng.uniform(0.1, 0.6))


def _light(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """[H, W, 3] brightness that falls off from a lamp, and its tint."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    at = rng.uniform(-0.3, 1.3, 2) * (height, width)
    far = np.hypot(y - at[0], x - at[1]) / max(height, width)
    falls = 1 / (1 + rng.uniform(0, 1.5) * far**2)
    return (falls[..., None] * (1 + rng.normal(0, 0.06, 3)) * rng.uniform(0.8, 1.2)).astype(np.float32)


def clouds(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """[H, W] smooth noise of unit spread in a few octaves, coarse ones stronger."""
    total = np.zeros((height, width), np.float32)
    for octave in range(1, 6):
        grid = rng.normal(0, 1, (2**octave + 1, 2**octave + 1)).astype(np.float32)
        total += cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC) / octave
    return total / max(float(total.std()), 1e-6)


def recolored(rng: np.random.Generator, rgb: np.ndarray) -> np.ndarray:
    """[H, W, 3] in other light: exposure, contrast, tint and saturation changed a little."""
    gray = (rgb @ np.full(3, 1 / 3, np.float32))[..., None]
    rgb = gray + (rgb - gray) * np.float32(rng.uniform(0.5, 1.4))
    rgb = cv2.pow(np.clip(rgb, 0, 1), float(np.exp(rng.normal(0, 0.25))))
    gain = np.exp(rng.normal(0, 0.18) + rng.normal(0, 0.06, 3)).astype(np.float32)
    return np.clip(rgb * gain, 0, 1)
