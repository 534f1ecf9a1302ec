"""Which objects a photo shows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sv3d_pipe.prep.edges import soften
from sv3d_pipe.prep.offline import segment
from sv3d_pipe.prep.parts import bounding_box, separate


@dataclass(frozen=True)
class Found:
    """An object in a picture.

    Attributes:
        alpha: [H, W] float32 in [0, 1].
        box: left, top, right, bottom in pixels, the last two exclusive.
    """

    alpha: np.ndarray
    box: tuple[float, float, float, float]


def find_objects(rgb: np.ndarray) -> list[Found]:
    """The objects of an opaque picture [H, W, 3] in [0, 1], the most prominent first: those of the offline cut-out."""
    alpha = soften(rgb, segment(rgb)[0])[..., 3]
    return [Found(part, bounding_box(part)) for part in separate(alpha)]
