"""White fringes: how white pictures are along the object's outline."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import distance_transform_edt

OUTLINE = 2.0  # pixels inside the outline that count
ABOUT = (
    "mean distance from white (1 - the smallest channel, 0 to 1) of the pixels within 2 px inside the outline, "
    "of pictures on white, all views together"
)


def fringe(
    rgb: np.ndarray,  # [N, S, S, 3] in [0, 1], on white
    masks: np.ndarray,  # [N, S, S] bool, where the object is
) -> float:
    """Mean distance from white along the outline, in [0, 1]; small where an object of any color has a white fringe.

    A pixel's distance is 1 - min(r, g, b). It counts when its center lies at most :data:`OUTLINE` pixels from
    that of a pixel outside the mask; the picture's border is no outline. All pixels of all views count alike.
    White objects have a small value of their own, so compare it with that of other pictures of the same object.
    NaN where there is no outline.
    """
    total = count = 0.0
    for picture, mask in zip(rgb, masks):
        if mask.all():
            continue
        edge = mask & (distance_transform_edt(mask) <= OUTLINE)
        total += float((1 - picture[edge].min(-1)).sum())
        count += edge.sum()
    return total / count if count else float("nan")
