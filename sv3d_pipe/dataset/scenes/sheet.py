"""A sheet of training scenes, to be looked at before hours are spent on them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from sv3d_pipe.dataset.scenes.backdrops import Backdrops
from sv3d_pipe.dataset.scenes.compose import Scene, compose
from sv3d_pipe.dataset.scenes.cutouts import Cutouts
from sv3d_pipe.pictures import save_png

ROWS, COLUMNS = 4, 12
SIDE = 160  # of a scene on the sheet


def draw_sheet(path: Path, cutouts: Cutouts, backdrops: Backdrops, size: int, seed: int) -> None:
    """Scenes in rows, and below each the same with everything dimmed but what is meant; box blue, point red."""
    rng = np.random.default_rng([seed, 0])
    tiles = [_tile(compose(rng, cutouts, backdrops, size)) for _ in range(ROWS * COLUMNS)]
    rows = [np.concatenate(tiles[i : i + COLUMNS], 1) for i in range(0, len(tiles), COLUMNS)]
    save_png(path, np.concatenate(rows, 0))


def _tile(scene: Scene) -> np.ndarray:
    rgb = scene.rgb.astype(np.float32) / 255
    meant = rgb * (0.25 + 0.75 * scene.meant[..., None] / 255)
    meant[..., 2] = np.maximum(meant[..., 2], 0.35 / 255 * scene.told[0])
    meant[..., 0] = np.maximum(meant[..., 0], 1 / 255 * scene.told[1])
    both = np.concatenate([rgb, meant], 0)
    return cv2.resize(both, (SIDE, 2 * SIDE), interpolation=cv2.INTER_AREA)
