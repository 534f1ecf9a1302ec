"""Marching tetrahedra and signed distances against solids whose measures are known."""

import importlib

import numpy as np
import pytest
import torch
import trimesh

from sv3d_pipe.artifacts import Mesh
from sv3d_pipe.geometry.signed_distance import BAND_CELLS, signed_distance, signed_distance_reference
from sv3d_pipe.geometry.tets import TetGrid, deform, marching_tetrahedra, marching_tetrahedra_reference


def cube_grid(cells: int, half: float = 1.0) -> TetGrid:
    return TetGrid((-half,) * 3, 2 * half / cells, (cells,) * 3)


def as_trimesh(vertices: torch.Tensor, faces: torch.Tensor) -> trimesh.Trimesh:
    return trimesh.Trimesh(vertices.detach().numpy(), faces.numpy(), process=False)


def to_mesh(mesh: trimesh.Trimesh) -> Mesh:
    return Mesh(
        np.asarray(mesh.vertices, np.float32),
        np.asarray(mesh.faces, np.int64),
        np.zeros((len(mesh.vertices), 3), np.float32),
    )


def turned(faces: torch.Tensor) -> set:
    """Faces as a set, each turned so that its smallest index comes first."""
    first = faces.argmin(-1)
    return {
        tuple(face[(start + i) % 3].item() for i in range(3)) for face, start in zip(faces, first.tolist())
    }


def test_sphere_has_its_area_and_volume_and_is_closed():
    grid = cube_grid(32)
    nodes = grid.nodes()
    mesh = as_trimesh(*marching_tetrahedra(grid, nodes, nodes.norm(dim=-1) - 0.7))
    assert mesh.is_watertight and mesh.is_winding_consistent
    assert mesh.euler_number == 2
    # Chords lie inside the sphere, so both fall short by order (cell / radius)^2 = 0.8 %.
    assert 0.99 < mesh.volume / (4 / 3 * np.pi * 0.7**3) < 1.0  # positive: normals point outward
    assert 0.99 < mesh.area / (4 * np.pi * 0.7**2) < 1.0


def test_torus_has_a_hole():
    grid = cube_grid(32)
    x, y, z = grid.nodes().unbind(-1)
    sdf = ((x.square() + z.square()).sqrt() - 0.6).square().add(y.square()).sqrt() - 0.25
    mesh = as_trimesh(*marching_tetrahedra(grid, grid.nodes(), sdf))
    assert mesh.is_watertight
    assert mesh.euler_number == 0
    assert mesh.volume == pytest.approx(2 * np.pi**2 * 0.6 * 0.25**2, rel=0.02)


def test_plane_is_exact():
    """A linear distance is reproduced, whatever the direction."""
    grid = cube_grid(6)
    normal = torch.tensor([0.36, 0.48, 0.8])
    vertices, faces = marching_tetrahedra(grid, grid.nodes(), grid.nodes() @ normal - 0.1)
    torch.testing.assert_close(vertices @ normal, torch.full((len(vertices),), 0.1))
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    cross = torch.linalg.cross(b - a, c - a)
    assert (cross @ normal >= -1e-7).all()


def test_tetrahedra_fill_the_box_with_positive_volumes():
    grid = TetGrid((0.0, 0.0, 0.0), 0.5, (2, 3, 4))
    corners = grid.nodes()[grid.tetrahedra()]
    volumes = torch.linalg.det(corners[:, 1:] - corners[:, :1]) / 6
    torch.testing.assert_close(volumes, torch.full_like(volumes, 0.125 / 6))
    assert volumes.sum().item() == pytest.approx(2 * 3 * 4 * 0.125)


def test_fast_equals_reference_in_values_and_gradients():
    grid = TetGrid((-1.0, -0.5, 0.0), 0.2, (6, 5, 7))
    generator = torch.Generator().manual_seed(1)
    results = []
    sdf_start = torch.randn(len(grid.nodes()), generator=generator)
    offsets_start = torch.randn(len(sdf_start), 3, generator=generator)
    weights = None
    for march in (marching_tetrahedra, marching_tetrahedra_reference):
        sdf, offsets = sdf_start.clone().requires_grad_(), offsets_start.clone().requires_grad_()
        vertices, faces = march(grid, deform(grid.nodes(), offsets, grid.cell), sdf)
        weights = torch.randn(vertices.shape, generator=generator) if weights is None else weights
        (vertices * weights).sum().backward()
        results.append((vertices.detach(), turned(faces), sdf.grad, offsets.grad))
    fast, slow = results
    assert len(fast[1]) > 1000
    assert fast[1] == slow[1]
    for a, b in ((fast[0], slow[0]), (fast[2], slow[2]), (fast[3], slow[3])):
        torch.testing.assert_close(a, b)


def test_deformation_stays_within_half_a_cell():
    grid = cube_grid(3)
    moved = deform(grid.nodes(), torch.full((64, 3), 1e6), grid.cell)
    torch.testing.assert_close(moved - grid.nodes(), torch.full((64, 3), grid.cell / 2))


def test_same_surface_as_kaolin():
    kaolin = pytest.importorskip("kaolin", exc_type=Exception)
    if importlib.util.find_spec("kaolin.ops") is None:
        pytest.skip(f"kaolin {getattr(kaolin, '__version__', '')} is the empty placeholder")
    from sv3d_pipe.geometry.kaolin_tets import marching_tetrahedra_kaolin

    grid = cube_grid(8)
    sdf = grid.nodes().norm(dim=-1) - 0.63
    ours = marching_tetrahedra(grid, grid.nodes(), sdf)
    theirs = marching_tetrahedra_kaolin(grid, grid.nodes(), sdf)
    torch.testing.assert_close(theirs[0], ours[0])
    assert as_trimesh(*theirs).volume == pytest.approx(as_trimesh(*ours).volume, rel=1e-2)


def test_distance_of_a_sphere():
    mesh = to_mesh(trimesh.creation.icosphere(subdivisions=5, radius=0.5))
    grid = TetGrid.around(mesh.vertices, 32)
    sdf = signed_distance(mesh, grid)
    exact = grid.nodes().norm(dim=-1) - 0.5
    near = exact.abs() < 1.9 * grid.cell
    assert (sdf - exact)[near].abs().max() < 1e-3  # the facets' own error is 3e-4
    assert (sdf - exact).abs().max() < 0.75 * grid.cell  # whole cells further away
    clear = exact.abs() > 1e-3
    assert ((sdf < 0) == (exact < 0))[clear].all()


def test_distance_equals_reference():
    box = trimesh.creation.box((0.7, 0.4, 0.55)).subdivide()
    knob = trimesh.creation.icosphere(subdivisions=2, radius=0.2)
    knob.apply_translation([0.3, 0.2, 0.1])  # overlaps the box: winding number 2 there
    mesh = to_mesh(trimesh.util.concatenate([box, knob]))
    grid = TetGrid.around(mesh.vertices, 20)
    fast, slow = signed_distance(mesh, grid), signed_distance_reference(mesh, grid)
    near = slow.abs() < 0.99 * BAND_CELLS * grid.cell
    torch.testing.assert_close(fast[near], slow[near], atol=1e-5, rtol=0)
    off_surface = slow.abs() > 1e-6  # the grid has nodes exactly on the box
    assert ((fast < 0) == (slow < 0))[off_surface].all()


def test_a_hole_does_not_turn_the_sign_away_from_it():
    sphere = trimesh.creation.icosphere(subdivisions=3, radius=0.5)
    holed = to_mesh(trimesh.Trimesh(sphere.vertices, sphere.faces[20:], process=False))
    whole = to_mesh(sphere)
    grid = TetGrid.around(whole.vertices, 24)
    expected = signed_distance(whole, grid)
    clear = expected.abs() > grid.cell  # the hole itself is two cells wide
    assert ((signed_distance(holed, grid) < 0) == (expected < 0))[clear].all()
