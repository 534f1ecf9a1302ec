"""The shape that is optimized: an SDF and offsets on the nodes of a tetrahedral grid."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from sv3d_pipe.artifacts import Mesh
from sv3d_pipe.geometry.meshes import component_labels, face_areas
from sv3d_pipe.geometry.signed_distance import signed_distance
from sv3d_pipe.geometry.tets import TetGrid, deform, marching_tetrahedra


class DeformableSolid(nn.Module):
    """A deformable marching-tetrahedra solid, started from a mesh.

    Args:
        mesh: the starting surface; it should be closed.
        cells: cubes along the longest side of the grid.
    """

    def __init__(self, mesh: Mesh, cells: int):
        super().__init__()
        self.grid = TetGrid.around(mesh.vertices, cells, margin=max(cells // 16, 2))
        start = signed_distance(mesh, self.grid) / self.grid.cell
        self.register_buffer("nodes", self.grid.nodes())
        self.register_buffer("boundary", self.grid.boundary())
        self.register_buffer("start", start)
        self.sdf = nn.Parameter(start.clone())  # [X * Y * Z] in cells, negative inside
        self.offsets = nn.Parameter(torch.zeros(len(start), 3))  # [X * Y * Z, 3] in cells

    def values(self) -> torch.Tensor:
        """[X * Y * Z] the SDF in cells, kept positive on the border of the box: the surface is closed."""
        return torch.where(self.boundary, self.sdf.clamp(min=0.5), self.sdf)

    def surface(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Vertices [V, 3] in world units, differentiable, and faces [F, 3]."""
        nodes = deform(self.nodes, self.offsets, self.grid.cell)
        return marching_tetrahedra(self.grid, nodes, self.values())


def largest_components(
    vertices: np.ndarray, faces: np.ndarray, share: float = 0.0003
) -> tuple[np.ndarray, int]:
    """Drop the pieces of a mesh whose area is below `share` of the largest piece's.

    The share is about what a single wrong node of the grid makes. The end of a thin tail or spire that
    broke off is still part of the object; export asks the pictures about loose pieces.

    Returns:
        the kept faces [F', 3] and the number of pieces dropped.
    """
    piece = component_labels(faces)  # [F]
    area = np.bincount(piece, face_areas(vertices[faces]))
    dropped = area < share * area.max()
    return faces[~dropped[piece]], int(dropped.sum())
