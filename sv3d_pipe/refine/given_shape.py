"""A mesh file as the shape that refinement starts from: placed where the views show the object, and closed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from sv3d_pipe.artifacts import Mesh, Views
from sv3d_pipe.errors import UserError
from sv3d_pipe.geometry.hull import GRID, carve, cell_centers
from sv3d_pipe.geometry.meshes import outward, same_places
from sv3d_pipe.refine.dmtet import DeformableSolid, largest_components
from sv3d_pipe.refine.mesh_picture import score
from sv3d_pipe.road.context import Context

LOOKS, LOOK_SIZE = 8, 96  # views that judge a placement, and their side in pixels
TURNS = (0, 90, 180, 270)  # degrees about the vertical
GOOD_IOU = 0.97  # of the mesh as it stands, which is then not fitted
SHARES = (1.0, 0.98, 0.96, 0.94, 0.92, 0.9, 0.88)  # of the hull's size, which exceeds the object's
PREFERENCE = 0.01  # mask IoU by which a fitted placement must beat the mesh as it stands
LEAST_IOU = 0.4
CLOSING_CELLS = 128
LEAST_KEPT = 0.8  # share of the open mesh's mask IoU that the closed one must keep
Z_UP = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])  # z-up to y-up


def load_shape(path: Path, views: Views, context: Context) -> tuple[Mesh, dict[str, Any]]:
    """A closed mesh in our world, from any mesh file.

    The mesh is tried as it stands (in our world, and in the capture's coordinates if there is a capture),
    then centered and scaled to the views' visual hull, y-up or z-up, in four turns about the vertical;
    what agrees best with the masks is taken.

    Returns:
        the mesh, and the metrics: shape_placed ("world", "capture" or e.g. "fitted y-up 90"), shape_iou
        (of the masks) and shape_closed (whether it had to be closed).
    Raises:
        UserError: the file cannot be read, the mesh agrees with the views nowhere, or it encloses nothing.
    """
    mesh = _welded(Mesh.from_file(path))
    looks = _some(views)
    with context.bar("shape", 2 + 2 * len(TURNS) + len(SHARES)) as bar:
        placed, name, iou = _best_placement(mesh, looks, lambda: bar.update(1))
    if iou < LEAST_IOU:
        raise UserError(
            f"{path} does not look like the object in the views (mask IoU {iou:.2f} at best); turn it so that "
            "+y is up and +z is the front, or give another mesh."
        )
    closed = is_closed(placed.faces)
    if not closed:
        placed = close(placed)
        after = 0.0 if placed is None else _iou(placed, looks)
        if after < LEAST_KEPT * iou:
            raise UserError(f"{path} is open and encloses no volume; close its holes in a mesh editor first.")
    placed = dataclasses.replace(placed, faces=outward(placed.vertices, placed.faces))
    return placed, {"shape_placed": name, "shape_iou": round(iou, 4), "shape_closed": not closed}


def is_closed(faces: np.ndarray) -> bool:
    """Whether every edge has a face on both sides, turning in opposite senses."""
    starts, ends = faces.ravel(), np.roll(faces, -1, 1).ravel()
    count = int(faces.max()) + 1
    return np.array_equal(np.sort(starts * count + ends), np.sort(ends * count + starts))


def close(mesh: Mesh) -> Mesh | None:
    """The surface of what the mesh encloses by winding numbers, its colors carried over; None if nothing."""
    vertices, faces = (x.detach().cpu().numpy() for x in DeformableSolid(mesh, CLOSING_CELLS).surface())
    if len(faces) == 0:
        return None
    faces, _ = largest_components(vertices, faces)
    rgb = mesh.rgb[cKDTree(mesh.vertices).query(vertices)[1]]
    return Mesh(vertices, faces, rgb)


def _welded(mesh: Mesh) -> Mesh:
    """Vertices at the same place made one, so that texture seams are not holes; empty faces dropped."""
    first, index = same_places(mesh.vertices)
    faces = index[mesh.faces]
    solid = (faces != np.roll(faces, 1, 1)).all(1)
    return Mesh(mesh.vertices[first], faces[solid].astype(np.int64), mesh.rgb[first])


def _some(views: Views) -> Views:
    views = views.whole()
    kept = np.unique(np.linspace(0, len(views.rgba) - 1, LOOKS).round().astype(int))
    return Views(views.rgba[kept], views.cameras[kept], to_world=views.to_world)


def _best_placement(mesh: Mesh, views: Views, on_look: Callable[[], None]) -> tuple[Mesh, str, float]:
    standing = {"world": mesh}
    if views.to_world is not None:
        vertices = mesh.vertices @ views.to_world[:3, :3].T + views.to_world[:3, 3]
        standing["capture"] = dataclasses.replace(mesh, vertices=vertices.astype(np.float32))
    name, iou = _best(standing, views, on_look)
    if iou > GOOD_IOU:
        return standing[name], name, iou
    fitted = _fitted(mesh, views)
    fit, _ = _best(fitted, views, on_look)
    sized = {share: _scaled(fitted[fit], share) for share in SHARES}
    share, fit_iou = _best(sized, views, on_look)
    return (sized[share], fit, fit_iou) if fit_iou > iou + PREFERENCE else (standing[name], name, iou)


def _scaled(mesh: Mesh, share: float) -> Mesh:
    """The mesh scaled about the middle of its box."""
    middle = (mesh.vertices.min(0) + mesh.vertices.max(0)) / 2
    return dataclasses.replace(mesh, vertices=middle + np.float32(share) * (mesh.vertices - middle))


def _best(candidates: dict[Any, Mesh], views: Views, on_look: Callable[[], None]) -> tuple[Any, float]:
    """The candidate whose masks agree best with the views', by name, and its IoU."""
    scores = {}
    for name, mesh in candidates.items():
        scores[name] = _iou(mesh, views)
        on_look()
    name = max(scores, key=scores.get)
    return name, scores[name]


def _fitted(mesh: Mesh, views: Views) -> dict[str, Mesh]:
    """The mesh with its box in the middle of the object's box and as large, y-up and z-up, in four turns."""
    radius = views.cameras.visible_radius
    hull = cell_centers(GRID, radius)[carve(views, radius).occupied.ravel()]
    if len(hull) == 0:
        return {"as it is": mesh}
    low, high = hull.min(0), hull.max(0)
    placed = {}
    for up, upright in {"y-up": np.eye(3), "z-up": Z_UP}.items():
        for turn in TURNS:
            c, s = round(np.cos(np.radians(turn))), round(np.sin(np.radians(turn)))
            rotation = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]) @ upright
            points = mesh.vertices @ rotation.T
            box_low, box_high = points.min(0), points.max(0)
            scale = (high - low).max() / (box_high - box_low).max()
            points = (points - (box_low + box_high) / 2) * scale + (low + high) / 2
            placed[f"fitted {up} {turn}"] = dataclasses.replace(mesh, vertices=points.astype(np.float32))
    return placed


def _iou(mesh: Mesh, views: Views) -> float:
    return score(mesh, views, min(LOOK_SIZE, views.size)).mask_iou
