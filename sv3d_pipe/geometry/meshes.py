"""Basics of triangle meshes, in numpy: used and coinciding vertices, connected faces, normals, volumes."""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components


def compact(faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numbers [V'] of the vertices that faces [F, 3] use, in order, and the faces [F, 3] int64 numbered by these."""
    used, index = np.unique(faces, return_inverse=True)
    return used, index.reshape(faces.shape).astype(np.int64)


def same_places(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For points [P, C]: the first of every place [Q], places in lexical order, and the place of every point [P]."""
    order = np.lexsort(points.T[::-1])  # twice as fast as numpy.unique(axis=0), which sorts whole rows
    sorted_points = points[order]
    new = np.ones(len(points), bool)
    new[1:] = (sorted_points[1:] != sorted_points[:-1]).any(1)
    place = np.empty(len(points), np.int64)
    place[order] = np.cumsum(new) - 1
    return order[new], place


def component_labels(faces: np.ndarray) -> np.ndarray:
    """[F] component of each face, numbered from 0; faces that share a vertex belong together."""
    count = int(faces.max(initial=-1)) + 1
    links = np.concatenate([faces[:, :2], faces[:, 1:]])
    graph = coo_matrix((np.ones(len(links), bool), links.T), (count, count))
    labels = connected_components(graph, directed=False)[1][faces[:, 0]]
    return np.unique(labels, return_inverse=True)[1].reshape(-1)


def face_normals(corners: np.ndarray) -> np.ndarray:
    """Normals [F, 3] of triangles with corners [F, 3, 3], twice the area long, in the type of the corners."""
    return np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])


def face_areas(corners: np.ndarray) -> np.ndarray:
    """Areas [F] of triangles with corners [F, 3, 3]."""
    return np.linalg.norm(face_normals(corners), axis=-1) / 2


def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """[V, 3] float32 unit normals: area-weighted mean of the faces around each vertex."""
    spread = np.repeat(face_normals(vertices[faces].astype(np.float64)), 3, 0)
    total = np.stack([np.bincount(faces.reshape(-1), spread[:, i], len(vertices)) for i in range(3)], -1)
    return unit(total)


def unit(vectors: np.ndarray) -> np.ndarray:
    """[N, 3] float32 vectors of length 1; (0, 1, 0) for zero vectors."""
    length = np.sqrt(np.einsum("ni,ni->n", vectors, vectors))[:, None]
    return np.where(length > 0, vectors / np.maximum(length, 1e-30), (0, 1, 0)).astype(np.float32)


def cone_volumes(corners: np.ndarray) -> np.ndarray:
    """Signed volumes [F] between the origin and triangles with corners [F, 3, 3], counter-clockwise from outside.

    Their sum is the volume of a closed mesh (divergence theorem), negative where it is inside out.
    """
    return np.einsum("fi,fi->f", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])) / 6


def outward(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Faces [F, 3] of a closed mesh, all turned if it is inside out."""
    inside_out = cone_volumes(vertices[faces].astype(np.float64)).sum() < 0
    return np.ascontiguousarray(faces[:, ::-1]) if inside_out else faces
