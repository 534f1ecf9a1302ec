"""The connected parts of a cut-out, and which of them are objects of their own."""

from __future__ import annotations

import cv2
import numpy as np

VISIBLE = 0.05  # alpha above this belongs to the object's bounding box
SOLID = 0.1  # alpha above this joins pixels into one part
NEARBY = 0.05  # parts this near, as a share of the largest one's diagonal, belong to it
COMPARABLE = 0.25  # a second part above this share of the largest may be an object of its own


def bounding_box(alpha: np.ndarray) -> tuple[int, int, int, int]:
    """Left, top, right, bottom (the last two exclusive) of the visible part; zeros if there is none."""
    columns, rows = np.flatnonzero((alpha > VISIBLE).any(0)), np.flatnonzero((alpha > VISIBLE).any(1))
    if len(columns) == 0:
        return 0, 0, 0, 0
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def kept_parts(rgba: np.ndarray, labels: np.ndarray, stays: np.ndarray) -> np.ndarray:
    """A cut-out [H, W, 4] with only the parts that stay, and their faint edges.

    Args:
        labels: [H, W] numbers of parts. stays: [parts] bool.
    """
    rim = cv2.dilate(stays[labels].astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    return np.where(rim[..., None], rgba, 0)


def separate(alpha: np.ndarray) -> list[np.ndarray]:
    """Alphas [H, W] of the separate objects in a cut-out's alpha [H, W], the largest first.

    An object is a part of comparable size, with the smaller parts near it; what is neither is in none of them.
    """
    count, labels, stats, _ = cv2.connectedComponentsWithStats(
        (alpha > SOLID).astype(np.uint8), connectivity=8
    )
    areas = stats[:, cv2.CC_STAT_AREA].astype(float)
    areas[0] = 0
    large = [n for n in np.argsort(-areas, kind="stable") if n and areas[n] >= COMPARABLE * areas.max()]
    if len(large) < 2:
        return [alpha] * len(large)
    reach = NEARBY * np.hypot(stats[large[0], cv2.CC_STAT_WIDTH], stats[large[0], cv2.CC_STAT_HEIGHT])
    away = np.full((len(large), count), np.inf)  # of every part from every object
    for distances, n in zip(away, large):
        gap = cv2.distanceTransform((labels != n).astype(np.uint8), cv2.DIST_L2, 3)
        np.minimum.at(distances, labels.ravel(), gap.ravel())
    nearest = away.argmin(0)
    owner = np.where(away.min(0) <= reach, nearest, -1)
    owner[0] = -1
    return [kept_parts(alpha[..., None], labels, owner == k)[..., 0] for k in range(len(large))]


def prominence(alpha: np.ndarray) -> float:
    """How much an object [H, W] stands out: by its area, and how near it is to the middle."""
    height, width = alpha.shape
    rows, columns = np.nonzero(alpha > SOLID)
    if not len(rows):
        return 0.0
    away = np.hypot(columns.mean() / width - 0.5, rows.mean() / height - 0.5)
    return float(len(rows) * np.exp(-2 * away**2))
