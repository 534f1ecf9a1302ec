"""Fewer triangles: collapsed edges, or clustered vertices where nothing else brings a mesh down."""

from __future__ import annotations

import fast_simplification
import numpy as np
from scipy.spatial import cKDTree

from sv3d_pipe.artifacts import Mesh
from sv3d_pipe.errors import UserError
from sv3d_pipe.export.watertight import is_solid, thin_out
from sv3d_pipe.geometry.meshes import compact, same_places

PASSES = 6  # of edge collapse: each can take edges that the one before had to leave
LEAST = 0.5  # share of the faces asked for, below which parts were lost
FINEST = 512  # cells along the longest side when vertices are clustered


def simplify(mesh: Mesh, max_faces: int) -> Mesh:
    """Quadric edge collapse to at most ``max_faces``; a closed manifold mesh stays one.

    Collapsing may pinch a closed surface open, or stop early where borders are ragged: it is done again, gentler
    settings are tried in turn, then a coarser method that never opens a surface, then clustering, which always
    keeps the number; also where collapsing loses whole parts and so ends far below it. Colors come from the nearest old
    vertices.
    """
    if len(mesh.faces) <= max_faces:
        return mesh
    closed = is_solid(mesh)
    candidates = []
    for share, aggression in ((1.0, 7), (0.97, 5), (0.9, 3)):
        candidate = _collapsed(mesh, int(share * max_faces), aggression)
        if len(candidate.faces) <= max_faces:
            if len(candidate.faces) > LEAST * max_faces and (not closed or is_solid(candidate)):
                return recolored(candidate, mesh)
            candidates.append(candidate)
    thin = thin_out(mesh, max_faces) if closed else None
    if thin is None or len(thin.faces) <= LEAST * max_faces:
        thin = max([*candidates, clustered(mesh, max_faces)], key=lambda candidate: len(candidate.faces))
    return recolored(thin, mesh)


def _collapsed(mesh: Mesh, target: int, aggression: int) -> Mesh:
    """After as many passes as bring it nearer to ``target`` faces. Vertices are black."""
    points, faces, before = mesh.vertices, mesh.faces, len(mesh.faces) + 1
    for _ in range(PASSES):
        if not target < len(faces) < before:
            break
        before = len(faces)
        points, faces = fast_simplification.simplify(points, faces, target_count=target, agg=aggression)
    blank = np.zeros((len(points), 3), np.float32)
    return drop_bad_faces(Mesh(points.astype(np.float32), faces.astype(np.int64), blank))


def clustered(mesh: Mesh, max_faces: int) -> Mesh:
    """The mesh with all vertices of a cell of a grid made one, the grid as fine as ``max_faces`` allows.

    Closed meshes may open. Vertices are black. The mesh itself if the coarsest grid leaves nothing of it.
    """
    low, side = mesh.vertices.min(0), float(np.ptp(mesh.vertices, axis=0).max())
    best, fewest, most = mesh, 1, FINEST
    while fewest <= most:
        cells = (fewest + most) // 2
        place = same_places(np.floor((mesh.vertices - low) / side * cells).clip(max=cells - 1))[1]
        count = np.bincount(place)
        points = np.stack([np.bincount(place, mesh.vertices[:, i]) for i in range(3)], -1) / count[:, None]
        faces = place[mesh.faces]
        faces = faces[(faces != np.roll(faces, 1, 1)).all(1)]
        _, first = np.unique(np.sort(faces, 1), axis=0, return_index=True)
        if len(first) > max_faces:
            most = cells - 1
            continue
        fewest = cells + 1
        if len(first):
            best = used(points, faces[np.sort(first)], np.zeros((len(points), 3)))
    return best


def used(vertices: np.ndarray, faces: np.ndarray, rgb: np.ndarray) -> Mesh:
    """The mesh without vertices that no face uses."""
    kept, faces = compact(faces)
    return Mesh(vertices[kept].astype(np.float32), faces, rgb[kept].astype(np.float32))


def drop_bad_faces(mesh: Mesh) -> Mesh:
    """Without faces that use a vertex twice and without second copies of a face."""
    a, b, c = mesh.faces.T
    faces = mesh.faces[(a != b) & (b != c) & (c != a)]
    _, first = np.unique(np.sort(faces, 1), axis=0, return_index=True)
    if len(first) == 0:
        raise UserError("The mesh has no usable triangles; check the views it was fitted to.")
    return used(mesh.vertices, faces[np.sort(first)], mesh.rgb)


def recolored(mesh: Mesh, source: Mesh) -> Mesh:
    """The mesh with colors of the nearest vertices of another."""
    distance, index = cKDTree(source.vertices).query(mesh.vertices, k=min(3, len(source.vertices)))
    weight = 1 / (distance.reshape(len(mesh.vertices), -1) + 1e-6)
    colors = source.rgb[index.reshape(weight.shape)]  # [V, 3, 3]
    rgb = (colors * weight[..., None]).sum(1) / weight.sum(1, keepdims=True)
    return Mesh(mesh.vertices, mesh.faces, rgb.astype(np.float32))
