"""How deep a mesh is from front to back, which one photo hardly tells; and a mesh made as deep as somebody knows."""

from __future__ import annotations

import numpy as np

from sv3d_pipe.errors import UserError


def relative_depth(vertices: np.ndarray) -> float:
    """The extent along z of [V, 3] (+y up, +z front) over the larger of those along x and y: 0 flat, 1 a ball."""
    width, height, length = np.ptp(vertices.astype(np.float64), axis=0)
    return float(length / max(width, height))


def stretched(vertices: np.ndarray, wanted: float) -> tuple[np.ndarray, float]:
    """Vertices stretched along z, about the middle, to a :func:`relative_depth` of ``wanted``.

    Args:
        vertices: [V, 3], +y up and +z front.
        wanted: above 0.
    Returns:
        vertices [V, 3] float64, and the factor that z was stretched by.
    Raises:
        UserError: they lie in a plane that no stretching makes deeper.
    """
    before = relative_depth(vertices)
    if before == 0:
        raise UserError("The mesh is flat, so it cannot be stretched to a depth; leave out export.depth.")
    factor = wanted / before
    z = vertices[:, 2].astype(np.float64)
    middle = (z.min() + z.max()) / 2
    return np.column_stack([vertices[:, :2], middle + factor * (z - middle)]), factor
