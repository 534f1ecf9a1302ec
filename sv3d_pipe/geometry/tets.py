"""A regular grid of tetrahedra and the surface where a signed distance on its nodes changes sign.

Every cube is cut into the six tetrahedra of Kuhn: one per order of the axes, walking from the
cube's low corner to its high corner along x, y and z in that order. Neighboring cubes share their
face diagonals, so the surface is closed. Every edge of every tetrahedron then leads from a node to
the node one step along 1, 2 or 3 axes: seven edges per node, and no search for shared ones.

Sign: the distance is negative inside. Faces are counter-clockwise seen from outside.
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass

import numpy as np
import torch

from sv3d_pipe.geometry.mesh_tensors import take_rows, true_places

STEPS = np.array([[(d >> 2) & 1, (d >> 1) & 1, d & 1] for d in range(1, 8)])  # [7, 3] edge directions
TET_EDGES = list(itertools.combinations(range(4), 2))  # six edges of a tetrahedron


@dataclass(frozen=True)
class TetGrid:
    """A box of cubes with equal edges, each cut into six tetrahedra.

    Attributes:
        low: [3] world position of the lowest node.
        cell: edge of a cube in world units.
        cells: number of cubes along x, y, z, at least 2 each.
    """

    low: tuple[float, float, float]
    cell: float
    cells: tuple[int, int, int]

    @classmethod
    def around(cls, points: np.ndarray, cells: int, margin: int = 4) -> TetGrid:
        """The grid around points [P, 3]: `cells` cubes on the longest side, `margin` free at each end."""
        low, high = points.min(0), points.max(0)
        cell = float((high - low).max() / max(cells - 2 * margin, 1))
        counts = np.ceil((high - low) / cell).astype(int) + 2 * margin
        counts = np.minimum(counts, cells)
        start = (low + high) / 2 - counts * cell / 2
        return cls(tuple(start.tolist()), cell, tuple(counts.tolist()))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of nodes along each axis."""
        return tuple(count + 1 for count in self.cells)

    @property
    def strides(self) -> tuple[int, int, int]:
        """Distance in the flat node index of one step along each axis (z runs fastest)."""
        _, y, z = self.shape
        return y * z, z, 1

    def nodes(self, device: str | torch.device = "cpu") -> torch.Tensor:
        """[X * Y * Z, 3] positions of the nodes."""
        axes = [lo + self.cell * torch.arange(n, device=device) for lo, n in zip(self.low, self.shape)]
        return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3).float()

    def boundary(self, device: str | torch.device = "cpu") -> torch.Tensor:
        """[X * Y * Z] bool: the nodes on the outside of the box."""
        inner = torch.zeros(self.shape, dtype=torch.bool, device=device)
        inner[1:-1, 1:-1, 1:-1] = True
        return ~inner.reshape(-1)

    def tetrahedra(self, device: str | torch.device = "cpu") -> torch.Tensor:
        """[6 * cubes, 4] nodes of all tetrahedra, each of positive volume. Large: for tests and kaolin."""
        x, y, z = (torch.arange(count, device=device) for count in self.cells)
        sx, sy, sz = self.strides
        cubes = (x[:, None, None] * sx + y[None, :, None] * sy + z * sz).reshape(-1, 1, 1)
        path, odd = _kuhn(self.strides)
        path[odd] = path[odd][:, [0, 2, 1, 3]]
        return (cubes + torch.from_numpy(path).to(device)).reshape(-1, 4)


def _kuhn(strides: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The six paths through a cube as node offsets [6, 4], and which of them have negative volume [6]."""
    paths, odd = [], []
    for order in itertools.permutations(range(3)):
        paths.append(np.cumsum([0] + [strides[axis] for axis in order]))
        odd.append(np.linalg.det(np.eye(3)[list(order)]) < 0)
    return np.stack(paths), np.array(odd)


def _case_table() -> tuple[np.ndarray, np.ndarray]:
    """Triangles of a positive tetrahedron for each of the 16 patterns of inside corners.

    Bit i of the case is set when corner i is inside. One corner alone is cut off by the triangle of
    its three edges; two against two by the quadrilateral of the four edges between them. The turning
    sense is found on an actual tetrahedron: the normal must point from the inside to the outside corners.

    Returns:
        table [16, 2, 3] indices into TET_EDGES (0 where unused) and counts [16] of triangles.
    """
    corners = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [1, 1, 1]], float)  # the path x, y, z: positive
    middles = np.array([(corners[a] + corners[b]) / 2 for a, b in TET_EDGES])
    edge = {frozenset(pair): i for i, pair in enumerate(TET_EDGES)}
    table, counts = np.zeros((16, 2, 3), np.int64), np.zeros(16, np.int64)
    for case in range(1, 15):
        inside = [i for i in range(4) if case >> i & 1]
        outside = [i for i in range(4) if not case >> i & 1]
        if len(inside) == 2:
            (a, b), (c, d) = inside, outside
            ring = [edge[frozenset(pair)] for pair in ((a, c), (a, d), (b, d), (b, c))]
            triangles = [ring[:3], [ring[0], ring[2], ring[3]]]
        else:
            triangles = [[edge[frozenset((i, o))] for i in inside for o in outside]]
        outward = corners[outside].mean(0) - corners[inside].mean(0)
        for t, triangle in enumerate(triangles):
            p, q, r = middles[triangle]
            table[case, t] = triangle if np.cross(q - p, r - p) @ outward > 0 else triangle[::-1]
        counts[case] = len(triangles)
    return table, counts


_TABLE, _COUNTS = _case_table()


def marching_tetrahedra(
    grid: TetGrid, nodes: torch.Tensor, sdf: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The zero surface of a signed distance that is linear in every tetrahedron.

    Only cubes with a change of sign are looked at. Differentiable in `nodes` and `sdf`.

    Args:
        nodes: [X * Y * Z, 3] positions of the nodes (moved ones too, see :func:`deform`).
        sdf: [X * Y * Z], negative inside; 0 counts as outside.
    Returns:
        vertices [V, 3], ordered by the edges they lie on, and faces [F, 3] int64. The surface is
        closed unless the inside reaches the outside of the box.
    """
    device = sdf.device
    inside = (sdf.detach() < 0).reshape(grid.shape)
    crossed = torch.zeros(*grid.shape, 7, dtype=torch.bool, device=device)
    for d, (dx, dy, dz) in enumerate(STEPS):
        x, y, z = (count + 1 - step for count, step in zip(grid.cells, (dx, dy, dz)))
        crossed[:x, :y, :z, d] = inside[:x, :y, :z] != inside[dx:, dy:, dz:]
    table = _CubeTable.on(grid.strides, str(device))
    case = _cube_cases(inside, table)  # [X, Y, Z]
    triangles = table.counts[case.reshape(-1)]  # [X * Y * Z]
    n_vertices, n_faces = torch.stack([crossed.sum(), triangles.sum()]).tolist()  # the one wait of the host
    edges = true_places(crossed.reshape(-1), n_vertices)  # [V], node * 7 + direction
    vertex_of = torch.empty(crossed.numel(), dtype=torch.int64, device=device)
    vertex_of[edges] = torch.arange(n_vertices, device=device)
    low = edges // 7
    vertices = _crossing(nodes, sdf, low, low + table.steps[edges % 7])
    cube = torch.repeat_interleave(triangles, output_size=n_faces)  # [F] the low corner's node
    number = torch.arange(n_faces, device=device) - (triangles.cumsum(0) - triangles)[cube]
    keys = table.keys[case.reshape(-1)[cube], number] + 7 * cube[:, None]  # [F, 3]
    return vertices, vertex_of[keys]


def _crossing(nodes: torch.Tensor, sdf: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """[V, 3] where the linear distance is zero between nodes a and b of different sign."""
    here, there = take_rows(sdf, a), take_rows(sdf, b)
    share = (here / (here - there))[:, None]
    start = take_rows(nodes, a)
    return start + share * (take_rows(nodes, b) - start)


def _cube_cases(inside: torch.Tensor, table: _CubeTable) -> torch.Tensor:
    """[X, Y, Z] int64: which corners of the cube above each node are inside, bit 4 x + 2 y + z; 0 at the far ends."""
    x, y, z = (count - 1 for count in inside.shape)
    corners = [inside[i : i + x, j : j + y, k : k + z] for i, j, k in itertools.product((0, 1), repeat=3)]
    case = (torch.stack(corners, -1) * table.bits).sum(-1)
    return torch.nn.functional.pad(case, (0, 1) * 3)


@dataclass(frozen=True)
class _CubeTable:
    """The triangles of a cube for each of the 256 patterns of inside corners, on a device.

    Attributes:
        bits: [8] uint8 value of each corner in a pattern.
        counts: [256] int64 number of triangles.
        keys: [256, 12, 3] int64 the edges of their corners, from the cube's low node: offset * 7 + direction.
        steps: [7] int64 node offset along each direction.
    """

    bits: torch.Tensor
    counts: torch.Tensor
    keys: torch.Tensor
    steps: torch.Tensor

    @classmethod
    @functools.lru_cache(maxsize=8)
    def on(cls, strides: tuple[int, int, int], device: str) -> _CubeTable:
        """Tetrahedron after tetrahedron, each with its triangles in the order of the table of 16 cases."""
        edge_keys, (_, odd) = _edge_keys(strides), _kuhn(strides)
        corners = [
            np.cumsum([0] + [4 >> axis for axis in order]) for order in itertools.permutations(range(3))
        ]
        counts, keys = np.zeros(256, np.int64), np.zeros((256, 12, 3), np.int64)
        for pattern in range(256):
            for tet, path in enumerate(corners):
                case = sum((pattern >> corner & 1) << i for i, corner in enumerate(path))
                for triangle in _TABLE[case, : _COUNTS[case]]:
                    turned = triangle[::-1] if odd[tet] else triangle
                    keys[pattern, counts[pattern]] = edge_keys[tet, turned]
                    counts[pattern] += 1
        bits, steps = np.left_shift(1, np.arange(8)).astype(np.uint8), STEPS @ np.array(strides)
        return cls(*(torch.from_numpy(a).to(device) for a in (bits, counts, keys, steps)))


def _edge_keys(strides: tuple[int, int, int]) -> np.ndarray:
    """[6 tetrahedra, 6 edges] of ``offset of the edge's low node * 7 + direction``."""
    keys = np.zeros((6, 6), np.int64)
    for tet, order in enumerate(itertools.permutations(range(3))):
        corner = np.vstack([np.zeros((1, 3), int), np.cumsum(np.eye(3, dtype=int)[list(order)], 0)])
        for e, (a, b) in enumerate(TET_EDGES):
            direction = (corner[b] - corner[a]) @ (4, 2, 1) - 1
            keys[tet, e] = corner[a] @ strides * 7 + direction
    return keys


def marching_tetrahedra_reference(
    grid: TetGrid, nodes: torch.Tensor, sdf: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The slow twin of :func:`marching_tetrahedra`: every tetrahedron, shared edges found by sorting.

    The same vertices in the same order; the faces in another order, starting at any corner.
    """
    tets = grid.tetrahedra(sdf.device).sort(-1).values  # the order of the paths
    corners = grid.nodes(sdf.device)[tets]  # [T, 4, 3]
    negative = torch.linalg.det(corners[:, 1:] - corners[:, :1]) < 0
    inside = sdf.detach() < 0
    triangles = []
    for case in range(1, 15):
        chosen = (inside[tets].long() << torch.arange(4, device=sdf.device)).sum(-1) == case
        for triangle in _TABLE[case, : _COUNTS[case]]:
            pairs = torch.stack([tets[chosen][:, TET_EDGES[e]] for e in triangle], 1)  # [T, 3, 2]
            pairs = torch.where(negative[chosen][:, None, None], pairs.flip(1), pairs)
            triangles.append(pairs.reshape(-1, 2))
    edges, index = torch.unique(torch.cat(triangles), dim=0, return_inverse=True)
    return _crossing(nodes, sdf, edges[:, 0], edges[:, 1]), index.reshape(-1, 3)


def deform(nodes: torch.Tensor, offsets: torch.Tensor, cell: float) -> torch.Tensor:
    """Nodes moved by at most half a cell along each axis, so that no tetrahedron's corners swap places.

    Args:
        nodes: [P, 3].
        offsets: [P, 3] in cells, free; small ones are taken as they are.
    """
    return nodes + 0.5 * cell * torch.tanh(2 * offsets)
