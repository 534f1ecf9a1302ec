"""Distances and normals of whole surfaces, and whether a mesh is sound, on shapes known by hand."""

import numpy as np
import pytest
import trimesh

from sv3d_pipe.evaluate.surface_samples import sample, soundness, surface_scores, topology


def sphere(radius):
    return trimesh.creation.icosphere(subdivisions=5, radius=radius)


def sheet(normal_axis, place=0.0):
    """A square of side 1 across an axis, in two triangles."""
    corners = np.insert(np.array([[0.0, 0], [1, 0], [1, 1], [0, 1]]), normal_axis, place, axis=1)
    return corners, np.array([[0, 1, 2], [0, 2, 3]])


def test_concentric_spheres_are_the_difference_of_radii_apart():
    score = surface_scores(sample(sphere(0.5), 0, 20_000), sample(sphere(0.4), 1, 20_000))
    assert score["surface_cd"] == pytest.approx(0.1, rel=0.01)
    assert score["normals"] > 0.995


def test_parallel_sheets():
    # All of one lies .3 above the other: distance .3, normals equal whichever way the triangles turn.
    up, down = sheet(2), (sheet(2, 0.3)[0], sheet(2)[1][:, ::-1])
    score = surface_scores(sample(up, 0), sample(down, 1))
    assert score["surface_cd"] == pytest.approx(0.3, abs=1e-3)
    assert score["normals"] == pytest.approx(1.0)


def test_sheets_at_a_right_angle_have_no_normal_in_common():
    # z = 0 and y = 0 over the unit square: a point at height t is t from the other sheet, in the mean 1/2.
    score = surface_scores(sample(sheet(2), 0), sample(sheet(1), 1))
    assert score["surface_cd"] == pytest.approx(0.5, abs=0.005)
    assert score["normals"] == pytest.approx(0.0, abs=1e-9)


def test_samples_are_uniform_by_area_and_fixed_by_the_seed():
    corners = np.array([[0.0, 0, 0], [3, 0, 0], [0, 1, 0], [9, 0, 0], [10, 0, 0], [9, 1, 0]])
    mesh = corners, np.array([[0, 1, 2], [3, 4, 5]])  # areas 1.5 and .5
    points = sample(mesh, 7, 20_000).points
    assert (points[:, 0] < 5).mean() == pytest.approx(0.75, abs=0.01)
    np.testing.assert_array_equal(points, sample(mesh, 7, 20_000).points)
    assert not np.array_equal(points, sample(mesh, 8, 20_000).points)


def test_symmetry():
    a, b = sample(sphere(0.5), 0, 5_000), sample(trimesh.creation.box((0.8, 0.6, 0.4)), 1, 5_000)
    assert surface_scores(a, b) == pytest.approx(surface_scores(b, a))


def test_soundness():
    cube = trimesh.creation.box((1, 1, 1))
    assert soundness(cube) == {"watertight": True, "components": 1, "faces": 12}
    torn = cube.vertices[cube.faces].reshape(-1, 3), np.arange(36).reshape(-1, 3)  # every triangle on its own
    assert soundness(torn) == {"watertight": True, "components": 1, "faces": 12}
    other = trimesh.creation.box((1, 1, 1))
    other.apply_translation((3, 0, 0))
    assert soundness(trimesh.util.concatenate([cube, other]))["components"] == 2
    assert soundness((cube.vertices, cube.faces[1:])) == {"watertight": False, "components": 1, "faces": 11}
    collapsed = np.vstack([cube.faces, [[0, 0, 1]]])  # a triangle without area is neither hole nor part
    assert soundness((cube.vertices, collapsed))["watertight"]


def test_topology():
    ball = sphere(0.5)
    assert topology(ball) == {"euler": 2, "floaters": 0.0}
    torn = ball.vertices[ball.faces].reshape(-1, 3), np.arange(3 * len(ball.faces)).reshape(-1, 3)
    assert topology(torn) == {"euler": 2, "floaters": 0.0}  # seams are no holes
    assert topology(trimesh.creation.torus(1.0, 0.3))["euler"] == 0
    crumb = sphere(0.1)
    crumb.apply_translation((2, 0, 0))
    both = topology(trimesh.util.concatenate([crumb, ball]))
    assert both == {"euler": 4, "floaters": pytest.approx(0.1**2 / (0.1**2 + 0.5**2), rel=1e-3)}
    assert topology((ball.vertices, ball.faces[1:]))["euler"] == 1
