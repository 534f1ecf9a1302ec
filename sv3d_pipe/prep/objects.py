"""The separate objects of a photo, each with its own cut-out."""

from __future__ import annotations

import cv2
import numpy as np

from sv3d_pipe.prep.matting.find import LEAST, bounds, close_look, find
from sv3d_pipe.prep.parts import prominence, separate

SMALLEST = 0.06  # area of an object beside the largest one's, below which it is clutter
SMALLEST_SHARE = 4e-3  # and of the photo's
SAME = 0.5  # IoU above which two cut-outs are of one object
NEW = 0.5  # share of a cut-out that none before it holds, or it is a part of theirs
QUESTIONS = 8  # points asked at
SPOT = (
    0.01  # radius of what is left, as a share of the photo's longer side, below which nothing is asked of it
)


def objects_in(rgb: np.ndarray) -> list[np.ndarray]:
    """Alphas [H, W] float32 of the objects of an opaque picture [H, W, 3] in [0, 1], the most prominent first.

    What stands out comes first, its separate parts each for itself; then the network is asked, at a point in the middle
    of what is left of all objects, what stands there.
    """
    first, found = find(rgb), []
    for part in sorted(separate(first.alpha), key=prominence, reverse=True):
        box = bounds(part)
        if box is not None:
            _add(found, close_look(rgb, box))
    left = (first.others > LEAST).astype(np.uint8)
    for one in found:
        left[one > LEAST] = 0
    for _ in range(QUESTIONS):
        inside = cv2.distanceTransform(np.pad(left, 1), cv2.DIST_L2, 5)[1:-1, 1:-1]
        if inside.max() < SPOT * max(left.shape):
            break
        y, x = np.unravel_index(inside.argmax(), inside.shape)
        alpha = find(rgb, point=(x + 0.5, y + 0.5)).alpha
        _add(found, alpha)
        left[alpha > LEAST] = 0
        # So that no point is asked at twice.
        cv2.circle(left, (int(x), int(y)), max(1, int(inside.max())), 0, -1)
    largest = max((float(one.sum()) for one in found), default=0.0)
    return [one for one in found if one.sum() >= SMALLEST * largest]


def _add(found: list[np.ndarray], alpha: np.ndarray) -> None:
    """Take an object, unless it is too small or was found already."""
    solid = alpha > LEAST
    if solid.mean() < SMALLEST_SHARE:
        return
    for other in found:
        theirs = other > LEAST
        both = (solid & theirs).sum()
        if both > SAME * (solid | theirs).sum() or both > (1 - NEW) * solid.sum():
            return
    found.append(alpha)
