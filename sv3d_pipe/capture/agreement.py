"""Which pictures of a capture contradict the others: a blank or wrong mask carves away what all others show."""

from __future__ import annotations

import numpy as np

from sv3d_pipe.artifacts import Views
from sv3d_pipe.geometry.hull import MASK_LEVEL, cell_centers, dilated, pixels_of

LEAST_SHARE = 0.5  # of the usual mask IoU with the common shape
MOST_LEFT_OUT = 0.2  # share of the pictures; if more contradict, nobody knows which are right


def contradicting(views: Views, occupied: np.ndarray, radius: float) -> np.ndarray:
    """[N] bool: views whose mask hardly agrees with the shape that most masks allow.

    Args:
        occupied: [G, G, G] bool, that shape over [-radius, radius]^3.
    """
    points = cell_centers(len(occupied), radius)[occupied.ravel()]
    agreed = np.array([_agreement(views, n, points, len(occupied)) for n in range(len(views.rgba))])
    return agreed < LEAST_SHARE * np.median(agreed)


def _agreement(views: Views, n: int, points: np.ndarray, grid: int) -> float:
    """IoU, where the view knows something, of its mask and the shape's cells [P, 3] drawn as large as they are."""
    size = views.size
    index, inside = pixels_of(points, views.cameras[n], size)
    drawn = np.zeros((size, size), bool)
    drawn.ravel()[index[inside]] = True
    drawn = dilated(drawn, int(np.ceil(0.6 * size / grid)))
    mask = views.rgba[n, ..., 3] > MASK_LEVEL
    known = np.ones_like(mask) if views.seen is None else views.seen[n]
    return float((drawn & mask & known).sum() / max(((drawn | mask) & known).sum(), 1))
