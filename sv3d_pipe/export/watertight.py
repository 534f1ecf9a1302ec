"""Closed meshes: is it one, how to make one of an open mesh, how to thin one out and keep it closed."""

from __future__ import annotations

import manifold3d
import numpy as np
import trimesh

from sv3d_pipe.artifacts import Mesh
from sv3d_pipe.geometry.signed_distance import BAND_CELLS, signed_distance
from sv3d_pipe.geometry.tets import TetGrid, marching_tetrahedra
from sv3d_pipe.geometry.winding import winding_number

SMALL_HOLES = 0.5  # holes are patched if their edges are together no longer than this share of the size
CELLS = 128  # cells along the longest side of the grid on which an open mesh is rebuilt
SHEET = 0.8  # half the thickness that open sheets are given, in cells
DOUBT = 0.2  # a winding number this far from 0, 1, 2... tells of an open sheet nearby
CLEAR = 0.05  # distance in cells that grid nodes keep from the surface, so that no two vertices coincide


def is_solid(mesh: Mesh) -> bool:
    """Closed and manifold, faces outward: trimesh and manifold3d both say so, and there is a volume."""
    body = mesh.to_trimesh()
    if not (len(mesh.faces) and body.is_watertight and body.is_winding_consistent):
        return False
    solid = _manifold(mesh)
    return solid.status() == manifold3d.Error.NoError and solid.volume() > 0


def _manifold(mesh: Mesh) -> manifold3d.Manifold:
    vertices, faces = (
        np.array(mesh.vertices, np.float32, order="C"),
        np.array(mesh.faces, np.uint32, order="C"),
    )
    return manifold3d.Manifold(manifold3d.Mesh(vert_properties=vertices, tri_verts=faces))


def patch(mesh: Mesh) -> Mesh | None:
    """The mesh without faces at edges that more than two share, its holes closed with fans of triangles.

    None if the holes are large (a fan would be jagged) or are not closed rings. The result need not be
    closed: a fan may share an edge with two other faces; patch again.
    """
    edges = mesh.to_trimesh().edges_sorted
    _, index, count = np.unique(edges, axis=0, return_inverse=True, return_counts=True)
    crowded = (count[index.reshape(-1)] > 2).reshape(-1, 3).any(1)  # [F]
    body = trimesh.Trimesh(mesh.vertices, mesh.faces[~crowded], process=False)
    single = trimesh.grouping.group_rows(body.edges_sorted, require_count=1)
    ends = mesh.vertices[body.edges_sorted[single]]  # [E, 2, 3]
    length = np.linalg.norm(ends[:, 0] - ends[:, 1], axis=-1).sum()
    if length > SMALL_HOLES * np.ptp(mesh.vertices, axis=0).max():
        return None
    try:
        fans = np.asarray(trimesh.repair.stitch(body), np.int64).reshape(-1, 3)
    except ValueError:  # it has found no ring of edges
        return None
    return Mesh(mesh.vertices, np.concatenate([mesh.faces[~crowded], fans]), mesh.rgb)


def rebuild(mesh: Mesh, cells: int = CELLS) -> Mesh:
    """A closed surface around what an open or tangled mesh wraps around; flat sheets become thin plates.

    The zero surface of the signed distance on a tetrahedral grid: closed and manifold by construction,
    true to about half a cell. Vertices are gray.
    """
    grid = TetGrid.around(mesh.vertices, cells, margin=2)
    nodes, distance = grid.nodes(), signed_distance(mesh, grid)  # [N, 3], [N]
    near = np.flatnonzero(np.abs(distance.numpy()) < BAND_CELLS * grid.cell)
    winding = winding_number(nodes[near].numpy(), mesh.vertices, mesh.faces)
    sheet = near[np.abs(winding - np.maximum(np.round(winding), 0)) > DOUBT]
    distance[sheet] = distance[sheet].abs() - SHEET * grid.cell
    floor = CLEAR * grid.cell
    distance = distance.where(distance.abs() > floor, floor - 2 * floor * (distance < 0).float())
    vertices, faces = marching_tetrahedra(grid, nodes, distance)
    return Mesh(vertices.numpy(), faces.numpy(), _gray(len(vertices)))


def thin_out(mesh: Mesh, max_faces: int) -> Mesh | None:
    """A closed mesh of at most ``max_faces`` by Manifold's edge collapse, which never opens it.

    The tolerance grows step by step up to a third of the size. Vertices are gray; None if nothing
    or too much is left.
    """
    solid = _manifold(mesh)
    tolerance = 1e-4 * float(np.ptp(mesh.vertices, axis=0).max())
    for _ in range(30):
        if solid.num_tri() <= max_faces:
            break
        solid = solid.simplify(tolerance)
        tolerance *= 1.3
    if not 0 < solid.num_tri() <= max_faces:
        return None
    thin = solid.to_mesh()
    vertices = np.array(thin.vert_properties[:, :3], np.float32)
    return Mesh(vertices, np.array(thin.tri_verts, np.int64), _gray(len(vertices)))


def _gray(count: int) -> np.ndarray:
    return np.full((count, 3), 0.5, np.float32)
