"""Spreading what is known at some vertices of a mesh over the others, along the surface."""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import splu


def laplacian(faces: np.ndarray, n_vertices: int) -> sparse.csc_matrix:
    """[V, V] graph Laplacian of the mesh: degree on the diagonal, -1 for each edge."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    ones = np.ones(2 * len(edges))
    both = np.concatenate([edges, edges[:, ::-1]])
    adjacency = sparse.coo_matrix((ones, both.T), (n_vertices, n_vertices)).tocsc()
    adjacency.data[:] = 1  # an edge between two faces was counted twice
    return (sparse.diags(np.asarray(adjacency.sum(1)).reshape(-1)) - adjacency).tocsc()


def diffuse(faces: np.ndarray, values: np.ndarray, weight: np.ndarray, decay: float = 1e-6) -> np.ndarray:
    """The smoothest vertex values that agree with the given ones: solve (W + L + decay) x = W v.

    Args:
        faces: [F, 3].
        values: [V, C] given values.
        weight: [V] how firmly each holds; 0 where nothing is known.
        decay: pull towards 0 far from known vertices.
    Returns:
        [V, C] float32; 0 in components without any known vertex.
    """
    system = laplacian(faces, len(values)) + sparse.diags(weight.astype(np.float64) + decay)
    return splu(system.tocsc()).solve(weight[:, None].astype(np.float64) * values).astype(np.float32)
