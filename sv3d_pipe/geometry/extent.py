"""The extent of a mesh: scaled to a box of side 1, its depth from front to back, stretched to a known depth."""

from __future__ import annotations

import numpy as np

from sv3d_pipe.errors import UserError


def unit_box(vertices: np.ndarray, bounds: np.ndarray | None = None) -> tuple[np.ndarray, float, np.ndarray]:
    """Vertices [V, 3] moved and scaled so that their box is centered at the origin, its longest side 1.

    Args:
        bounds: [2, 3] low and high corner of the box, where it is not that of all vertices.
    Returns:
        vertices [V, 3] float64, scale and center [3] with old = scale * new + center.
    Raises:
        ValueError: the box has no extent, or one that is not finite.
    """
    vertices = np.asarray(vertices, np.float64)
    low, high = (vertices.min(0), vertices.max(0)) if bounds is None else bounds
    center, scale = (low + high) / 2, float((high - low).max())
    if not (np.isfinite(scale) and scale > 0):
        raise ValueError("the mesh has no extent")
    return (vertices - center) / scale, scale, center


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
