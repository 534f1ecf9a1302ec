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
from sv3d_pipe.geometry.bodies import require_body
from sv3d_pipe.geometry.meshes import compact, outward, same_places
from sv3d_pipe.refine.dmtet import DeformableSolid, largest_components
from sv3d_pipe.refine.shape_placement import (
    PlacedShape,
    angle_deg,
    axis_turns,
    mask_iou,
    placements,
    standing,
)
from sv3d_pipe.road.context import Context

LOOKS = 8  # views that judge a placement
GOOD_IOU = 0.97  # of the mesh as it stands, which is then not fitted
PREFERENCE = 0.01  # mask IoU by which a fitted placement must beat the mesh as it stands
LEAST_IOU = 0.4
POOR_IOU = 0.85  # below it the user is told
ALIKE = 0.01  # mask IoU by which the second best placement must be worse for nothing to be said
CLOSING_CELLS = 128
LEAST_KEPT = 0.8  # share of the open mesh's mask IoU that the closed one must keep


def load_shape(path: Path, surface: Mesh, views: Views, context: Context) -> tuple[Mesh, dict[str, Any]]:
    """A closed mesh in our world, from any mesh file of any size, turn and place.

    The mesh is tried as it stands (in our world, and in the capture's coordinates if there is a capture),
    then in all turns and sizes that bring it onto the surface, see
    :func:`sv3d_pipe.refine.shape_placement.placements`; what agrees best with the masks is taken.

    Args:
        surface: the object as the reconstruction has it.
    Returns:
        the mesh, and the metrics: shape_placed ("world", "capture" or e.g. "fitted y-up 90": the axis of the
        file that points up, and the turn about it), shape_iou (of the masks) and shape_closed (whether it had
        to be closed).
    Raises:
        UserError: the file cannot be read or holds no body, the mesh agrees with the views nowhere, or it encloses nothing.
    """
    mesh = _welded(Mesh.from_file(path, context.warn))
    require_body(mesh.vertices, mesh.faces, path)
    looks = _some(views)
    with context.bar("shape", len(axis_turns()) + 1) as bar:
        best, others = _best_placement(mesh, surface, looks, lambda: bar.update(1))
        bar.update(1)
    if best.iou < LEAST_IOU:
        raise UserError(
            f"{path} does not look like the object in the views (mask IoU {best.iou:.2f} at best); turn it so that "
            "+y is up and +z is the front, or give another mesh."
        )
    _tell(path, best, others, context)
    placed = best.mesh
    closed = is_closed(placed.faces)
    if not closed:
        placed = close(placed)
        after = 0.0 if placed is None else mask_iou(placed, looks)
        if after < LEAST_KEPT * best.iou:
            raise UserError(f"{path} is open and encloses no volume; close its holes in a mesh editor first.")
    placed = dataclasses.replace(placed, faces=outward(placed.vertices, placed.faces))
    return placed, {"shape_placed": best.name, "shape_iou": round(best.iou, 4), "shape_closed": not closed}


def _tell(path: Path, best: PlacedShape, others: list[PlacedShape], context: Context) -> None:
    """Say so if the placement is poor or another is as good."""
    if best.iou < POOR_IOU:
        context.warn(
            f"{path.name} agrees with the views only in part (mask IoU {best.iou:.2f}, placed {best.name}); look at the"
            " result, or place the mesh yourself: +y up, +z to the front, its longest side 1, its middle at 0."
        )
    elif others and best.iou - others[0].iou < ALIKE:
        turned = angle_deg(best.turn, others[0].turn)
        context.warn(
            f"{path.name} fits the outlines nearly as well turned by {turned:.0f} degrees (mask IoU {best.iou:.3f} as"
            f" placed, {others[0].iou:.3f} so); if the result faces the wrong way, turn the mesh by that before."
        )


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
    """Vertices at the same place made one, so that texture seams are not holes; empty faces and stray vertices dropped."""
    first, index = same_places(mesh.vertices)
    faces = index[mesh.faces]
    solid = (faces != np.roll(faces, 1, 1)).all(1)
    used, faces = compact(faces[solid])
    return Mesh(mesh.vertices[first][used], faces, mesh.rgb[first][used])


def _some(views: Views) -> Views:
    views = views.whole()
    kept = np.unique(np.linspace(0, len(views.rgba) - 1, LOOKS).round().astype(int))
    return Views(views.rgba[kept], views.cameras[kept], to_world=views.to_world)


def _best_placement(
    mesh: Mesh, surface: Mesh, views: Views, on_turn: Callable[[], None]
) -> tuple[PlacedShape, list[PlacedShape]]:
    """The placement to take, and others that are turned otherwise, the best first."""
    stands = [standing(mesh, "world", views)]
    if views.to_world is not None:
        vertices = mesh.vertices @ views.to_world[:3, :3].T + views.to_world[:3, 3]
        captured = dataclasses.replace(mesh, vertices=vertices.astype(np.float32))
        stands.append(standing(captured, "capture", views))
    best = max(stands, key=lambda placement: placement.iou)
    if best.iou > GOOD_IOU:
        return best, []
    fitted = placements(mesh, surface, views, on_turn)
    return (fitted[0], fitted[1:]) if fitted[0].iou > best.iou + PREFERENCE else (best, [])
