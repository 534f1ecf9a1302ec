"""How the network is told which object is meant: a map of the box, and a mark at the point."""

from __future__ import annotations

import numpy as np

POINT_RADIUS = 0.02  # of the mark at a point, as a share of the picture's sides


def box_map(box: tuple[float, float, float, float], height: int, width: int) -> np.ndarray:
    """[H, W] float32: 1 inside of left, top, right, bottom in pixels, at least one pixel of the picture; 0 elsewhere."""
    left, top, right, bottom = box
    inside = np.zeros((height, width), np.float32)
    rows = slice(min(max(0, int(top)), height - 1), max(1, int(np.ceil(bottom))))
    columns = slice(min(max(0, int(left)), width - 1), max(1, int(np.ceil(right))))
    inside[rows, columns] = 1
    return inside


def point_map(x: float, y: float, height: int, width: int) -> np.ndarray:
    """[H, W] float32: a soft spot at a point in pixels, 1 in its middle."""
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32) + 0.5
    away = np.hypot((rows - y) / height, (columns - x) / width)
    return np.exp(-0.5 * (away / POINT_RADIUS) ** 2)
