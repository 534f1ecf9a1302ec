"""How far one mesh is from another: chamfer distance and volume IoU by protocol A.

Protocol A is that of SyncDreamer and EscherNet, and SV3D's tables have its magnitudes: both meshes
normalized by their own bounding box (longest side 1, centered), no rotation search; chamfer distance
between the surfaces visible from 16 cameras; IoU of occupancies on a 64^3 grid over [-1, 1]^3.

It differs from SyncDreamer's code, which leaves the prediction's scale alone and turns the truth by
angles listed per object (EscherNet normalizes both, as here), takes the truth's depth from Blender, and
unprojects pixels at their corners, not at their centers as here.

Inside and outside are told apart by the generalized winding number (:mod:`sv3d_pipe.geometry.winding`),
which keeps its meaning for open and multi-shell scans; the signs of the public evaluation do not, and
are reported beside it (:mod:`sv3d_pipe.evaluate.sign_parity`).
A "mesh" here is a ``trimesh.Trimesh`` or anything else with ``vertices`` and ``faces``, or the pair
(vertices [V, 3], faces [F, 3]).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from sv3d_pipe.cameras import Cameras, orbit
from sv3d_pipe.geometry.extent import unit_box
from sv3d_pipe.geometry.meshes import compact
from sv3d_pipe.geometry.raster import rasterize
from sv3d_pipe.geometry.similarity import nearest
from sv3d_pipe.geometry.winding import winding_number

# SyncDreamer, eval_mesh.py: 16 cameras, 256^2, K = 280, distance 1.5, elevation 30.
N_CAMERAS = 16
ELEVATION_DEG = 30.0
DISTANCE = 1.5
SIZE = 256
FOV_DEG = float(2 * np.degrees(np.arctan(SIZE / 2 / 280)))  # 49.13
THINNING = 0.01
GRID = 64


def arrays(mesh: Any) -> tuple[np.ndarray, np.ndarray]:
    """The vertices [V, 3] float64 and faces [F, 3] int64 of any mesh this module accepts."""
    vertices, faces = mesh if isinstance(mesh, tuple) else (mesh.vertices, mesh.faces)
    return np.asarray(vertices, np.float64), np.asarray(faces, np.int64)


def normalized(mesh: Any) -> tuple[np.ndarray, np.ndarray]:
    """A mesh in a centered box of longest side 1; vertices that no face uses do not count."""
    vertices, faces = arrays(mesh)
    if len(faces) == 0:
        raise ValueError("the mesh has no faces")
    used, faces = compact(faces)
    return unit_box(vertices[used])[0], faces


def visible_points(mesh: Any, turn_deg: float = 0.0, phase: float = 0.5) -> np.ndarray:
    """The surface that the protocol's 16 cameras see, one averaged point per voxel of side 0.01.

    Args:
        mesh: inside the cameras' view, e.g. normalized.
        turn_deg: added to the cameras' azimuths; 0 is the protocol.
        phase: of the voxel grid, see :func:`thin`; 1/2 is the protocol.
    Returns:
        [P, 3] float64 points.
    """
    vertices, faces = arrays(mesh)
    azimuth_deg = np.arange(N_CAMERAS) * (360 / N_CAMERAS) + turn_deg
    cameras = orbit(azimuth_deg, ELEVATION_DEG, DISTANCE, FOV_DEG)
    raster = rasterize(torch.from_numpy(vertices).float(), torch.from_numpy(faces), cameras, SIZE)
    return thin(_unproject(cameras, raster.depth.numpy()), THINNING, phase)


def _unproject(cameras: Cameras, depth: np.ndarray) -> np.ndarray:
    """Finite pixels of depth maps [N, S, S] (along the viewing axis) as world points [P, 3]."""
    origins, directions = cameras.rays(depth.shape[1])
    forward = -cameras.c2w[:, :3, 2]
    cosine = np.einsum("nhwi,ni->nhw", directions, forward)
    seen = np.isfinite(depth)
    length = depth[seen] / cosine[seen]
    start = np.broadcast_to(origins[:, None, None], directions.shape)[seen]
    return start.astype(np.float64) + directions[seen] * length[:, None]


def thin(points: np.ndarray, voxel: float, phase: float = 0.5) -> np.ndarray:
    """One point per occupied voxel: the mean of those [P, 3] that fall into it.

    The smallest coordinates lie ``phase`` of a voxel inside the first voxel: 1/2 is Open3D's
    ``voxel_down_sample``, which the public evaluation uses. The grid thus depends on the points, and
    two nearly equal surfaces are thinned differently: see :func:`noise_floor`.
    """
    if len(points) == 0:
        return points
    cells = np.floor((points - points.min(0)) / voxel + phase).astype(np.int64)
    key = np.ravel_multi_index(tuple(cells.T), cells.max(0) + 1)
    index = np.unique(key, return_inverse=True)[1].reshape(-1)
    count = np.bincount(index)
    return np.stack([np.bincount(index, points[:, i]) for i in range(3)], -1) / count[:, None]


def chamfer(points_a: np.ndarray, points_b: np.ndarray) -> float:
    """Mean of the two mean nearest distances (not squared) between point sets [A, 3] and [B, 3].

    Infinite if one set is empty.
    """
    if len(points_a) == 0 or len(points_b) == 0:
        return float("inf")
    forth, back = nearest(points_a, points_b)[0], nearest(points_b, points_a)[0]
    return float((forth.mean() + back.mean()) / 2)


def occupancy(mesh: Any, grid: int = GRID) -> np.ndarray:
    """Which nodes of a grid over [-1, 1]^3 lie inside a mesh.

    Node i of an axis is at -1 + 2 i / grid, so a mesh of size 1 spans half the nodes per axis.
    Inside means that the winding number is beyond 1/2 in magnitude (a mesh turned inside out is
    as solid). Nodes outside the mesh's bounding box, or on it, are outside.

    Returns:
        [grid, grid, grid] bool, axes x, y, z.
    """
    vertices, faces = arrays(mesh)
    nodes = -1 + 2 * np.arange(grid) / grid
    low, high = vertices[faces].min((0, 1)) + 1e-6, vertices[faces].max((0, 1)) - 1e-6
    box = [np.flatnonzero((nodes > low[i]) & (nodes < high[i])) for i in range(3)]
    inside = np.zeros((grid, grid, grid), bool)
    index = np.stack(np.meshgrid(*box, indexing="ij"), -1).reshape(-1, 3)
    if len(index):
        inside[tuple(index.T)] = np.abs(winding_number(nodes[index], vertices, faces)) > 0.5
    return inside


def iou(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two boolean arrays; 1 if both are empty."""
    union = np.count_nonzero(a | b)
    return float(np.count_nonzero(a & b) / union) if union else 1.0


def protocol_a(gt: Any, pred: Any) -> dict[str, float]:
    """Chamfer distance ``cd`` and volume ``iou`` of two meshes, each normalized by its own box.

    A mesh compared with itself scores exactly 0 and 1; :func:`noise_floor` says what a perfect
    surface with other samples would score.
    """
    gt, pred = normalized(gt), normalized(pred)
    return {
        "cd": chamfer(visible_points(gt), visible_points(pred)),
        "iou": iou(occupancy(gt), occupancy(pred)),
    }


def noise_floor(mesh: Any) -> float:
    """Chamfer distance of a mesh to itself, sampled independently.

    The second sampling is from cameras turned by half a step, thinned on a grid moved by a quarter of
    a voxel, the mean of random moves. Distances near it are sampling noise, not shape.
    """
    mesh = normalized(mesh)
    again = visible_points(mesh, turn_deg=180 / N_CAMERAS, phase=0.25)
    return chamfer(visible_points(mesh), again)
