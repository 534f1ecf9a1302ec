"""Whether a mesh from a file is a body at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sv3d_pipe.errors import UserError
from sv3d_pipe.geometry.meshes import compact, cone_volumes, face_areas, same_places

FLAT = 1e-5  # smallest extent, in any direction, over the largest: below it a mesh is a card
HOLLOW = 1e-6  # volume over area and largest extent of a closed mesh: below it both sides are one


def require_body(vertices: np.ndarray, faces: np.ndarray, path: Path) -> None:
    """Raise UserError if a mesh (vertices [V, 3], faces [F, 3]) is no body: a point, a line, a card, a double sheet."""
    areas = face_areas(vertices[faces].astype(np.float64))
    if not areas.any():
        raise UserError(f"The mesh {path} has no triangle with an area; choose another file.")
    used, faces = compact(faces[areas > 0])
    points = vertices[used].astype(np.float64)
    points = points - points.mean(0)
    spread = np.sqrt(np.maximum(np.linalg.eigvalsh(points.T @ points / len(points)), 0))  # [3] rising
    if spread[0] < FLAT * spread[-1]:
        raise UserError(f"The mesh {path} is flat and encloses nothing; choose a mesh of a body.")
    first, place = same_places(points)
    faces = place[faces]
    starts, ends = faces.ravel(), np.roll(faces, -1, 1).ravel()
    closed = np.array_equal(np.sort(starts * len(first) + ends), np.sort(ends * len(first) + starts))
    volume = abs(cone_volumes(points[first][faces]).sum())
    if closed and volume < HOLLOW * areas.sum() * np.ptp(points, axis=0).max():
        raise UserError(f"The mesh {path} is a double sheet: its sides coincide and enclose nothing.")
