"""Another way to place vertices, to be compared with: one free vertex per cube instead of one per edge.

The dual surface of a cubic grid, its vertices weighted means of the cube's edge crossings with learned
weights, after FlexiCubes (Shen et al. 2023, section 3.2 and equation 3; without its splitting of
ambiguous cubes).
"""

from __future__ import annotations

import itertools

import torch
from torch import nn

from sv3d_pipe.artifacts import Mesh
from sv3d_pipe.refine.solid import Solid
from sv3d_pipe.refine.tets import deform

AXES = ((1, 2), (2, 0), (0, 1))  # the two axes across each axis, in turning order


class DualSolid(Solid):
    """:class:`Solid` with another surface: see the module."""

    def __init__(self, mesh: Mesh, cells: int):
        super().__init__(mesh, cells)
        self.weights = nn.Parameter(torch.zeros(*self.grid.cells, 12))  # free; one per cube and edge

    def surface(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Vertices [V, 3] in world units, differentiable, and faces [F, 3]."""
        nodes = deform(self.nodes, self.offsets, self.grid.cell).view(*self.grid.shape, 3)
        return dual_surface(nodes, self.values().view(self.grid.shape), self.weights)


def dual_surface(
    nodes: torch.Tensor, sdf: torch.Tensor, weights: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """One vertex in every cube that changes sign, one quad (two triangles) around every such edge.

    Args:
        nodes: [X, Y, Z, 3]; sdf: [X, Y, Z], positive on the border of the box.
        weights: [X - 1, Y - 1, Z - 1, 12] of the cube's edges, as :func:`cube_edges` lists them.
    """
    inside = sdf.detach() < 0
    x, y, z = (n - 1 for n in inside.shape)
    count = sum(
        inside[i : i + x, j : j + y, k : k + z].byte() for i, j, k in itertools.product((0, 1), repeat=3)
    )
    cube = ((count > 0) & (count < 8)).nonzero()  # [V, 3]
    index = torch.full((x, y, z), -1, device=sdf.device)
    index[tuple(cube.T)] = torch.arange(len(cube), device=sdf.device)
    return _vertices(nodes, sdf, inside, weights, cube), _quads(inside, index)


def cube_edges() -> list[tuple[tuple[int, int, int], tuple[int, int, int]]]:
    """The 12 edges of a cube, as offsets of their two corners."""
    edges = []
    for axis in range(3):
        for corner in itertools.product((0, 1), repeat=3):
            if corner[axis] == 0:
                edges.append((corner, tuple(c + (i == axis) for i, c in enumerate(corner))))
    return edges


def _vertices(nodes, sdf, inside, weights, cube):
    """[V, 3] weighted means of the crossings of the cubes' [V, 3] edges."""
    free = 1 + 0.99 * torch.tanh(weights[tuple(cube.T)])  # [V, 12] in (0, 2)
    total, shares = 0.0, 0.0
    for edge, (low, high) in enumerate(cube_edges()):
        a, b = (tuple((cube + torch.tensor(corner, device=cube.device)).T) for corner in (low, high))
        crossed = inside[a] != inside[b]
        away = torch.where(crossed, sdf[a] - sdf[b], 1.0)
        crossing = nodes[a] + (sdf[a] / away)[:, None] * (nodes[b] - nodes[a])
        share = torch.where(crossed, free[:, edge], 0.0)
        total, shares = total + share[:, None] * crossing, shares + share
    return total / shares[:, None]


def _quads(inside, index):
    """[F, 3] triangles between the four cubes around every edge that changes sign."""
    triangles = []
    for axis, (u, v) in enumerate(AXES):
        count = inside.shape[axis] - 1
        starts = inside.narrow(axis, 0, count)
        edge = (starts != inside.narrow(axis, 1, count)).nonzero()  # [E, 3] low corners
        ring = []
        for du, dv in ((0, 0), (-1, 0), (-1, -1), (0, -1)):
            move = torch.zeros(3, dtype=torch.long, device=edge.device)
            move[u], move[v] = du, dv
            ring.append(index[tuple((edge + move).T)])
        quad = torch.stack(ring, -1)  # counter-clockwise seen from the high end
        quad = torch.where(starts[tuple(edge.T)][:, None], quad, quad.flip(-1))
        triangles += [quad[:, [0, 1, 2]], quad[:, [0, 2, 3]]]
    return torch.cat(triangles)
