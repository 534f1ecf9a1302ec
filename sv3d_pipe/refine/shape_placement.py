"""Where a foreign mesh belongs: any turn and size at once, by the surface that the views have already given."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
import trimesh

from sv3d_pipe.artifacts import Mesh, Views
from sv3d_pipe.geometry.raster import rasterize
from sv3d_pipe.geometry.similarity import nearest, similarity
from sv3d_pipe.refine.mesh_picture import shrink

COARSE_POINTS, FINE_POINTS = 600, 3000  # on each surface
COARSE_ROUNDS = 12  # of ICP, from every turn
FINALISTS = 5  # turns that are fitted finely
LOOK_SIZE = 96  # side of the pictures whose masks judge a placement
SHARES = (
    0.96,
    0.98,
    0.99,
    1.01,
    1.02,
    1.04,
)  # sizes beside ICP's own: the field's surface is a little too large
OTHER_DEG = 15.0  # placements turned against each other by more than this are different ones
PATIENCE = 0.9  # mask IoU below which turns between the 24 are tried, too
MORE_TURNS = 72


@dataclass(frozen=True)
class PlacedShape:
    """A way to place a mesh.

    Attributes:
        mesh: placed. name: "world", "capture", or "fitted" with which axis of the file points up and the turn
            about it in degrees that ICP began with. turn: [3, 3] rotation from the file. iou: of the masks.
    """

    mesh: Mesh
    name: str
    turn: np.ndarray
    iou: float


def placements(mesh: Mesh, surface: Mesh, views: Views, on_turn: Callable[[], None]) -> list[PlacedShape]:
    """Ways to bring a mesh onto the object, the best first, each turned otherwise than those before it.

    From each of the 24 turns that map axes to axes, ICP with scale (pairs from both surfaces) brings the mesh
    onto the surface; its size and place begin at those of the surface, so that the size never decides the turn.
    The nearest few are fitted finely, and the views' masks judge them. If they agree with none, turns between
    the 24 are tried.

    Args:
        surface: the object as the views have it. views: whose masks judge.
        on_turn: called after each of the 24 turns.
    """
    start, target = (_points(m, COARSE_POINTS) for m in (mesh, surface))
    tried = []
    for name, rotation in axis_turns().items():
        tried.append((name, *_fit(target, start, rotation, COARSE_ROUNDS)))
        on_turn()
    found = _finalists(mesh, surface, views, tried)
    if found[0].iou < PATIENCE:
        between = trimesh.transformations.random_rotation_matrix(
            np.random.default_rng(0).random((3, MORE_TURNS))
        )
        tried = [("fitted", *_fit(target, start, rotation, COARSE_ROUNDS)) for rotation in between[:, :3, :3]]
        found += _finalists(mesh, surface, views, tried)
    return distinct(found)


def axis_turns() -> dict[str, np.ndarray]:
    """The 24 rotations [3, 3] that map axes to axes, by which axis of the file they raise to +y, and the turn then."""
    raise_axis = {
        "y-up": np.eye(3),
        "z-up": np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]),
        "x-up": np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]),
    }
    over = np.diag([1.0, -1, -1])  # upside down
    turns = {}
    for (up, upright), head, degrees in itertools.product(raise_axis.items(), (1, -1), (0, 90, 180, 270)):
        c, s = round(np.cos(np.radians(degrees))), round(np.sin(np.radians(degrees)))
        about_y = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
        name = f"fitted {'' if head > 0 else '-'}{up} {degrees}"
        turns[name] = about_y @ (upright if head > 0 else over @ upright)
    return turns


def standing(mesh: Mesh, name: str, views: Views) -> PlacedShape:
    """The mesh where it is."""
    return PlacedShape(mesh, name, np.eye(3), mask_iou(mesh, views))


def distinct(found: list[PlacedShape]) -> list[PlacedShape]:
    """The best first, without those that are turned nearly as a better one is."""
    kept: list[PlacedShape] = []
    for placement in sorted(found, key=lambda p: -p.iou):
        if all(angle_deg(placement.turn, other.turn) > OTHER_DEG for other in kept):
            kept.append(placement)
    return kept


def angle_deg(turn: np.ndarray, other: np.ndarray) -> float:
    """Angle between rotations [3, 3]."""
    return float(np.degrees(np.arccos(np.clip((np.trace(turn @ other.T) - 1) / 2, -1, 1))))


def mask_iou(mesh: Mesh, views: Views) -> float:
    """Sum of the smaller over the sum of the larger of the mesh's and the views' masks."""
    size = min(LOOK_SIZE, views.size)
    vertices, faces = torch.from_numpy(mesh.vertices), torch.from_numpy(mesh.faces)
    covered = rasterize(vertices, faces, views.cameras, 2 * size).covered.float()
    ours = torch.nn.functional.avg_pool2d(covered[:, None], 2)[:, 0].numpy()
    theirs = np.stack([shrink(frame, size)[..., 3] for frame in views.rgba])
    return float(np.minimum(ours, theirs).sum() / max(np.maximum(ours, theirs).sum(), 1e-9))


def _points(mesh: Mesh, count: int) -> np.ndarray:
    """[count, 3] spread over the surface."""
    return trimesh.sample.sample_surface(mesh.to_trimesh(), count, seed=0)[0]


def _fit(
    target: np.ndarray, points: np.ndarray, rotation: np.ndarray, rounds: int
) -> tuple[np.ndarray, float]:
    """[4, 4] similarity of points [P, 3] onto the target [Q, 3], begun with a rotation; and their distance then."""
    middle, goal = points.mean(0), target.mean(0)
    scale = np.sqrt(np.square(target - goal).sum(-1).mean() / np.square(points - middle).sum(-1).mean())
    first = np.eye(4)
    first[:3, :3] = scale * rotation
    first[:3, 3] = goal - first[:3, :3] @ middle
    matrix = similarity(target, trimesh.transform_points(points, first), rounds) @ first
    moved = trimesh.transform_points(points, matrix)
    return matrix, float(nearest(moved, target)[0].mean() + nearest(target, moved)[0].mean())


def _finalists(
    mesh: Mesh, surface: Mesh, views: Views, tried: list[tuple[str, np.ndarray, float]]
) -> list[PlacedShape]:
    """The nearest few of (name, matrix, distance), fitted finely and judged by the masks."""
    points, target = (_points(m, FINE_POINTS) for m in (mesh, surface))
    found = []
    for name, matrix, _ in sorted(tried, key=lambda one: one[2])[:FINALISTS]:
        matrix = similarity(target, trimesh.transform_points(points, matrix)) @ matrix
        placed = replace(mesh, vertices=trimesh.transform_points(mesh.vertices, matrix).astype(np.float32))
        turn = matrix[:3, :3] / np.cbrt(np.linalg.det(matrix[:3, :3]))
        found.append(PlacedShape(placed, name, turn, mask_iou(placed, views)))
    best = max(found, key=lambda p: p.iou)
    sized = [replace(best, mesh=m, iou=mask_iou(m, views)) for m in (_scaled(best.mesh, s) for s in SHARES)]
    return [*found, *sized]


def _scaled(mesh: Mesh, share: float) -> Mesh:
    """The mesh scaled about the middle of its box."""
    middle = (mesh.vertices.min(0) + mesh.vertices.max(0)) / 2
    return replace(mesh, vertices=middle + np.float32(share) * (mesh.vertices - middle))
