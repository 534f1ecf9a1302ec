"""The separate objects of a photo, each with its own cut-out."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from sv3d_pipe.prep.matting.find import LEAST, bounds, close_look, find

SMALLEST = 0.06  # area of an object beside the largest one's, below which it is clutter
SMALLEST_SHARE = 4e-3  # and of the photo's
SAME = 0.5  # IoU above which two cut-outs are of one object
NEW = 0.5  # share of a cut-out that none before it holds, or it is a part of theirs
MOST = 8  # objects


@dataclass(frozen=True)
class Found:
    """An object.

    Attributes:
        alpha: [H, W] float32 in [0, 1], at the photo's size.
        box: left, top, right, bottom in pixels, the last two exclusive.
    """

    alpha: np.ndarray
    box: tuple[int, int, int, int]


def find_objects(rgb: np.ndarray) -> list[Found]:
    """All objects of some size, the most prominent first.

    What stands out comes first, its separate parts each for itself; then the network is asked, at a point in the middle
    of what is left of all objects, what stands there.

    Args:
        rgb: [H, W, 3] float32 in [0, 1].
    """
    first = find(rgb)
    found: list[Found] = []
    for mask in _parts(first.alpha):
        box = bounds(mask)
        if box is not None:
            _add(found, close_look(rgb, box))
    left = (first.others > LEAST).astype(np.uint8)
    for one in found:
        left[one.alpha > LEAST] = 0
    for _ in range(MOST):
        inside = cv2.distanceTransform(np.pad(left, 1), cv2.DIST_L2, 5)[1:-1, 1:-1]
        if inside.max() < 0.01 * max(left.shape):
            break
        y, x = np.unravel_index(inside.argmax(), inside.shape)
        alpha = find(rgb, point=(x + 0.5, y + 0.5)).alpha
        _add(found, alpha)
        left[alpha > LEAST] = 0
        cv2.circle(left, (int(x), int(y)), max(1, int(inside.max())), 0, -1)  # so that it ends
    largest = max((float(one.alpha.sum()) for one in found), default=0.0)
    return [one for one in found if one.alpha.sum() >= SMALLEST * largest][:MOST]


def _parts(alpha: np.ndarray) -> list[np.ndarray]:
    """Separate parts of a cut-out, the most prominent first: large, and near the middle."""
    count, labels, stats, centers = cv2.connectedComponentsWithStats((alpha > LEAST).astype(np.uint8))
    height, width = alpha.shape
    away = np.hypot(centers[1:, 0] / width - 0.5, centers[1:, 1] / height - 0.5)
    order = np.argsort(-stats[1:, cv2.CC_STAT_AREA] * np.exp(-2 * away**2)) + 1
    return [np.where(labels == label, alpha, 0) for label in order if stats[label, cv2.CC_STAT_AREA]]


def _add(found: list[Found], alpha: np.ndarray) -> None:
    """Take an object, unless it is too small or was found already."""
    box, solid = bounds(alpha), alpha > LEAST
    if box is None or solid.mean() < SMALLEST_SHARE:
        return
    for other in found:
        both, either = solid & (other.alpha > LEAST), solid | (other.alpha > LEAST)
        if both.sum() > SAME * either.sum() or both.sum() > (1 - NEW) * solid.sum():
            return
    found.append(Found(alpha, box))
