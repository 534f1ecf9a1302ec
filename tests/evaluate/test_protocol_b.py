"""Protocol B: F-scores by hand, and turned copies that must be found."""

import numpy as np
import pytest
import trimesh

from sv3d_pipe.evaluate.protocol_b import Cloud, align, f_scores, protocol_b


def lopsided():
    """A body with one arm and no symmetry."""
    arm = trimesh.creation.box((0.16, 0.5, 0.16))
    arm.apply_translation((0.2, 0.25, 0.1))
    return trimesh.util.concatenate([trimesh.creation.box((0.8, 0.31, 0.24)), arm])


def moved(mesh, yaw_deg, scale=1.0, shift=(0, 0, 0)):
    mesh = mesh.copy()
    mesh.apply_transform(trimesh.transformations.rotation_matrix(np.radians(yaw_deg), (0, 1, 0)))
    mesh.apply_scale(scale)
    mesh.apply_translation(shift)
    return mesh


def test_f_scores_by_hand():
    truth = np.array([[0.0, 0, 0], [1, 0, 0], [2, 0, 0], [3, 0, 0]])
    pred = np.array([[0.0, 0.05, 0], [1, 0.15, 0]])
    # At .1: one of two predicted points is near, one of four true ones: P 1/2, R 1/4, F 1/3.
    assert f_scores(truth, pred, (0.1,)) == pytest.approx([1 / 3])
    # At .2: P 1, R 1/2, F 2/3. At .01 nothing is near.
    assert f_scores(truth, pred, (0.2,)) == pytest.approx([2 / 3])
    assert f_scores(truth, pred, (0.01,)) == [0]


def test_the_box_has_longest_side_two():
    cloud = Cloud.of(moved(lopsided(), 0, 5, (1, 2, 3)), 0)
    points = cloud.turned(0.0)
    np.testing.assert_allclose([points[:, 0].min(), points[:, 0].max()], [-1, 1], atol=0.01)
    assert np.abs(points).max() <= 1 + 1e-9


@pytest.mark.parametrize("yaw_deg", [0.0, 38.0, 181.3, 267.4])
def test_a_turned_copy_is_found(yaw_deg):
    truth, copy = Cloud.of(lopsided(), 0), Cloud.of(moved(lopsided(), yaw_deg, 3.0, (4, 0, -1)), 1)
    scores = protocol_b(truth, copy)
    floor = protocol_b(truth, Cloud.of(lopsided(), 1))["b_cd"]
    assert scores["b_cd"] < 1.05 * floor
    assert scores["b_f0.1"] > 0.999
    assert (scores["b_yaw_deg"] + yaw_deg + 180) % 360 - 180 == pytest.approx(0, abs=0.5)


def test_another_shape_stays_another_shape():
    scores = protocol_b(Cloud.of(lopsided(), 0), Cloud.of(trimesh.creation.icosphere(4), 1))
    assert scores["b_cd"] > 0.15 and scores["b_f0.1"] < 0.6
    assert scores["b_f0.1"] < scores["b_f0.2"] < scores["b_f0.5"]


def test_the_same_seed_gives_the_same_points():
    clouds = Cloud.of(lopsided(), 0), Cloud.of(moved(lopsided(), 20), 1)
    np.testing.assert_array_equal(align(*clouds)[0], align(*clouds)[0])
