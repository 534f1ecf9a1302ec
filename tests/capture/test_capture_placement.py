"""Where the cameras look and how the capture is turned, by hand."""

import numpy as np
import pytest

from sv3d_pipe.cameras import orbit
from sv3d_pipe.capture.placement import (
    Placement,
    capture_from_glb,
    meeting_point,
    rotation_between,
)
from sv3d_pipe.capture.vertical import AXES, PLANE, SIDEWAYS, UPRIGHT, find_vertical
from sv3d_pipe.errors import UserError


def test_lines_meet_where_they_cross_and_a_stray_one_hardly_matters():
    target = np.array([0.5, -0.3, 1.0])
    origins = np.array([[5, 0, 0], [0, 5, 0], [0, 0, 5], [-4, 1, 1], [1, -6, 2.0]])
    directions = target - origins
    directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
    np.testing.assert_allclose(meeting_point(origins, directions), target, atol=1e-9)
    directions[4] = [1, 0, 0]  # passes 5.8 away from the others' point
    np.testing.assert_allclose(meeting_point(origins, directions), target, atol=0.02)


def test_parallel_lines_meet_nowhere():
    with pytest.raises(UserError, match="nearly the same line"):
        meeting_point(np.arange(9.0).reshape(3, 3), np.tile([0, 0, -1.0], (3, 1)))


def test_the_placement_moves_points_and_cameras_alike():
    placement = Placement(np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]), np.array([0.5, -0.3, 1.0]), 2.0)
    point = np.array([1.5, -0.3, 4.0])  # 1 to the right and 3 up in z-up axes
    world = placement.to_world @ [*point, 1]
    np.testing.assert_allclose(world, [2, 6, 0, 1])
    c2w = np.eye(4)[None].copy()
    c2w[0, :3, 3] = point
    placed = placement.place(c2w)
    np.testing.assert_allclose(placed[0, :3, 3], world[:3])
    np.testing.assert_allclose(placed[0, :3, :3], placement.rotation)


def test_moving_a_placement_puts_a_world_point_at_the_origin():
    placement = Placement(rotation_between(np.array([0, 0, 1.0]), np.array([0, 1.0, 0])), np.ones(3), 2.0)
    point = np.array([0.3, -0.2, 0.1])
    capture = np.linalg.inv(placement.to_world) @ [*point, 1]
    moved = placement.moved(point, 3.0)
    np.testing.assert_allclose(moved.to_world @ capture, [0, 0, 0, 1], atol=1e-12)
    assert moved.scale == 6.0


def up_rotation(c2w):
    return rotation_between(find_vertical(c2w, np.zeros(3)).up, np.array([0, 1.0, 0]))


def ups(*vectors):
    c2w = np.zeros((len(vectors), 4, 4))
    c2w[:, :3, 1] = vectors
    return c2w


def ring(elevation_deg=20.0, count=12, roll=0):
    """Cameras around a z-up scene's origin that look at it, turned about their axis by quarter turns."""
    c2w = orbit(np.arange(count) * 360 / count, elevation_deg).c2w.astype(float)
    c2w[:, :3] = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]) @ c2w[:, :3]
    turns = np.broadcast_to(roll, count)
    for matrix, quarter in zip(c2w, turns):
        c, s = np.cos(quarter * np.pi / 2), np.sin(quarter * np.pi / 2)
        matrix[:3, :2] = matrix[:3, :2] @ [[c, -s], [s, c]]
    return c2w


def test_z_up_becomes_y_up_as_in_blenders_gltf_export():
    tilted = [[0.6, 0, 0.8], [-0.6, 0, 0.8], [0, 0.6, 0.8], [0, -0.6, 0.8]]
    np.testing.assert_allclose(up_rotation(ups(*tilted)) @ [1, 2, 3], [1, 3, -2], atol=1e-12)


def test_y_up_stays_and_an_upside_down_capture_is_turned():
    np.testing.assert_allclose(up_rotation(ups([0, 0.9, 0.2])), np.eye(3), atol=1e-12)
    turned = up_rotation(ups([0, -1, 0.1]))
    np.testing.assert_allclose(turned @ [0, -1, 0], [0, 1, 0], atol=1e-12)
    assert np.linalg.det(turned) == pytest.approx(1)


def test_a_vertical_far_from_all_axes_is_taken_as_it_is():
    up = np.array([1.0, 1, 1]) / 3**0.5
    np.testing.assert_allclose(up_rotation(ups(up)) @ up, [0, 1, 0], atol=1e-12)


@pytest.mark.parametrize(
    ("cameras", "evidence"),
    [
        (ring(), UPRIGHT),
        (ring(-20.0), UPRIGHT),
        (ring(roll=1), SIDEWAYS),
        (ring(roll=3), SIDEWAYS),
        (ring(0.0, roll=1), SIDEWAYS),
        (ring(roll=np.arange(12) % 4), PLANE),
        (ring(85.0), PLANE),
    ],
)
def test_the_vertical_is_found_however_cameras_are_held(cameras, evidence):
    found = find_vertical(cameras, np.zeros(3))
    np.testing.assert_allclose(found.up, [0, 0, 1], atol=1e-9)
    assert found.evidence == evidence


def test_cameras_all_over_a_sphere_and_held_every_way_tell_nothing():
    around = [ring(elevation, roll=np.arange(12) % 4) for elevation in (-60.0, 0.0, 60.0)]
    found = find_vertical(np.concatenate(around), np.zeros(3))
    assert found.evidence == AXES and (found.up == (0, 0, 1)).all()


def test_from_an_exported_file_back_to_the_capture_by_hand():
    to_world = np.diag([2.0, 2, 2, 1])
    to_world[:3, 3] = [1, 0, 0]  # world = 2 capture + (1, 0, 0)
    matrix = capture_from_glb(to_world, (0.5, 0.5, 0.5), (0.0, 1.0, 0.0))  # world = 0.5 file + (0, 1, 0)
    # file (2, 2, 2) is world (1, 2, 1) and capture (0, 1, 0.5).
    np.testing.assert_allclose(matrix @ [2, 2, 2, 1], [0, 1, 0.5, 1])
