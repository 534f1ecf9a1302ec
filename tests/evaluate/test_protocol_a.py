"""Protocol A on shapes whose distances and volumes are known."""

import numpy as np
import pytest
import trimesh

from sv3d_pipe.evaluate.protocol_a import (
    chamfer,
    iou,
    noise_floor,
    occupancy,
    protocol_a,
    thin,
    visible_points,
)
from sv3d_pipe.geometry.extent import unit_box


def sphere(radius):
    return trimesh.creation.icosphere(subdivisions=4, radius=radius)


def box(extents, shift=(0, 0, 0)):
    mesh = trimesh.creation.box(extents)
    mesh.apply_translation(shift)
    return mesh


def lopsided():
    """A body with one arm: no symmetry hides a wrong axis."""
    return trimesh.util.concatenate([box((0.8, 0.31, 0.24)), box((0.16, 0.5, 0.16), (0.2, 0.25, 0.1))])


def test_chamfer_by_hand():
    a = np.array([[0.0, 0, 0], [1, 0, 0]])
    b = np.array([[0.0, 0, 0], [1, 0, 3]])
    # a to b: 0 and 1 (to the origin), mean .5; b to a: 0 and 3, mean 1.5; both: 1.
    assert chamfer(a, b) == pytest.approx(1.0)
    assert chamfer(a, a) == 0
    assert chamfer(a, np.zeros((0, 3))) == np.inf


def test_thin_averages_within_voxels():
    # The first voxel reaches from half a voxel below the smallest coordinates to half a voxel above.
    points = np.array([[1.0, 2, 3], [1.004, 2.002, 3], [1.006, 2, 3]])
    np.testing.assert_allclose(thin(points, 0.01), [[1.002, 2.001, 3], [1.006, 2, 3]])
    np.testing.assert_allclose(thin(points, 0.01, phase=0.0), [points.mean(0)])
    moved = thin(points + (0.0037, 5, -7), 0.01)  # the grid moves with the points
    np.testing.assert_allclose(moved - (0.0037, 5, -7), thin(points, 0.01))
    assert thin(np.zeros((0, 3)), 0.01).shape == (0, 3)


def test_normalize_by_hand():
    vertices = np.array([[1.0, 2, 3], [5, 4, 3], [1, 2, 4]])  # box 4 x 2 x 1 around (3, 3, 3.5)
    np.testing.assert_allclose(
        unit_box(vertices)[0], [[-0.5, -0.25, -0.125], [0.5, 0.25, -0.125], [-0.5, -0.25, 0.125]]
    )


def test_visible_points_lie_on_the_surface_and_leave_out_the_underside():
    points = visible_points(sphere(0.4))
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), 0.4, atol=0.003)
    # From elevation 30 at distance 1.5 the sphere is seen down to the angle 30 - acos(.4 / 1.5) = -44.5 deg.
    # The outermost pixel may lie half a pixel inside the outline, which is up to 6 deg short of it.
    assert 0.4 * np.sin(np.radians(-44.5)) - 1e-3 < points[:, 1].min() < 0.4 * np.sin(np.radians(-38.5))
    assert points[:, 1].max() == pytest.approx(0.4, abs=0.005)


def test_visible_points_keep_the_axes():
    points = visible_points(lopsided())
    body = np.abs(points) - (0.4, 0.155, 0.12)
    arm = np.abs(points - (0.2, 0.25, 0.1)) - (0.08, 0.25, 0.08)
    distance = np.minimum(np.abs(body.max(1)), np.abs(arm.max(1)))
    assert distance.max() < 0.005  # averaged within a voxel: corners are cut
    assert points[:, 1].max() == pytest.approx(0.5, abs=0.001)
    assert points[:, 2].min() == pytest.approx(-0.12, abs=0.001)


def test_concentric_spheres():
    # The small sphere is seen a little further down than the big one: the mean is R - r to 2 %.
    assert chamfer(visible_points(sphere(0.5)), visible_points(sphere(0.4))) == pytest.approx(0.1, rel=0.02)
    # Cell noise of a 64^3 grid: sphere 0.8 against 0.6.
    assert iou(occupancy(sphere(0.8)), occupancy(sphere(0.6))) == pytest.approx((0.6 / 0.8) ** 3, abs=0.01)


def test_cubes_offset_by_half():
    # Placed so that faces fall between nodes: 32 nodes per side, 16 shared, 16 / 48.
    a, b = (
        box((1, 1, 1), (-0.25 + 1 / 64,) * 3),
        box((1, 1, 1), (0.25 + 1 / 64, -0.25 + 1 / 64, -0.25 + 1 / 64)),
    )
    assert occupancy(a).sum() == 32**3
    assert iou(occupancy(a), occupancy(b)) == pytest.approx(1 / 3)


def test_occupancy_places_nodes_and_axes():
    inside = occupancy(box((0.05, 0.05, 0.05), (0.5, -0.25, 0)))
    # x = .5 is node 48, y = -.25 node 24, z = 0 node 32; the box reaches .025 < 1/32 around it.
    np.testing.assert_array_equal(np.argwhere(inside), [[48, 24, 32]])


def test_open_and_inverted_meshes_stay_solid():
    closed = box((1, 1, 1), (1 / 64,) * 3)
    keep = closed.face_normals[:, 1] > -0.5  # no bottom
    opened = trimesh.Trimesh(closed.vertices, closed.faces[keep], process=False)
    inverted = (closed.vertices, closed.faces[:, ::-1])
    assert iou(occupancy(closed), occupancy(inverted)) == 1
    assert iou(occupancy(closed), occupancy(opened)) > 0.85  # a cap above the hole is lost
    shells = trimesh.util.concatenate([closed, box((0.5, 0.5, 0.5), (0.3, 1 / 64, 1 / 64))])
    apart = occupancy(closed) | occupancy(box((0.5, 0.5, 0.5), (0.3, 1 / 64, 1 / 64)))
    np.testing.assert_array_equal(occupancy(shells), apart)


def test_identical_meshes_and_noise_floor():
    mesh = lopsided()
    assert protocol_a(mesh, mesh) == {"cd": 0.0, "iou": 1.0}
    # Two samplings with one point per voxel of .01 in a plane are a few thousandths apart.
    assert 0.001 < noise_floor(mesh) < 0.005


def test_scale_shift_and_input_form_do_not_matter():
    mesh, other = lopsided(), sphere(0.3)
    moved = mesh.copy()
    moved.apply_scale(7.3)
    moved.apply_translation((3, -2, 1))
    first, second = protocol_a(mesh, other), protocol_a((moved.vertices, moved.faces), other)
    assert first["cd"] == pytest.approx(second["cd"], abs=1e-4)
    assert first["iou"] == pytest.approx(second["iou"], abs=0.005)


def test_symmetry():
    a, b = lopsided(), sphere(0.3)
    assert protocol_a(a, b) == pytest.approx(protocol_a(b, a))


def test_unused_vertices_do_not_count():
    mesh = sphere(0.3)
    stray = (np.concatenate([mesh.vertices, [[9.0, 9, 9]]]), mesh.faces)
    assert protocol_a(mesh, stray) == {"cd": 0.0, "iou": 1.0}


def test_turned_mesh_scores_worse():
    mesh = lopsided()
    turned = mesh.copy()
    turned.apply_transform(trimesh.transformations.rotation_matrix(np.pi / 2, (0, 1, 0)))
    score = protocol_a(mesh, turned)
    assert score["cd"] > 0.05 and score["iou"] < 0.6


def test_empty_mesh_is_refused():
    with pytest.raises(ValueError, match="no faces"):
        protocol_a((np.zeros((3, 3)), np.zeros((0, 3), int)), sphere(1))
    with pytest.raises(ValueError, match="no extent"):
        protocol_a((np.ones((3, 3)), np.array([[0, 1, 2]])), sphere(1))
