"""Meshes that were turned, scaled and tilted: the search undoes it, and says by how much."""

from functools import partial

import numpy as np
import pytest
import trimesh

from sv3d_pipe.evaluate.alignment import aligned_scores, best_yaw, similarity, turn
from sv3d_pipe.evaluate.protocol_a import noise_floor, protocol_a
from sv3d_pipe.evaluate.scores import noise
from sv3d_pipe.evaluate.surface_samples import sample


@pytest.fixture(autouse=True)
def few_samples(monkeypatch):
    """5,000 points of a surface tell as much here as 100,000."""
    monkeypatch.setattr("sv3d_pipe.evaluate.scores.sample", partial(sample, count=5_000))


def egg(extents, shift=(0, 0, 0)):
    mesh = trimesh.creation.icosphere(subdivisions=3, radius=0.5)
    mesh.apply_scale(extents)
    mesh.apply_translation(shift)
    return mesh


def lopsided():
    """A body with one arm: no symmetry hides a wrong turn."""
    return trimesh.util.concatenate([egg((0.8, 0.4, 0.5)), egg((0.3, 0.7, 0.24), (0.2, 0.25, 0.1))])


def moved(mesh, angle_deg, axis=(0, 1, 0), scale=1.0, shift=(0, 0, 0)):
    copy = mesh.copy()
    copy.apply_transform(trimesh.transformations.rotation_matrix(np.radians(angle_deg), axis))
    copy.apply_scale(scale)
    copy.apply_translation(shift)
    return copy


@pytest.mark.parametrize("angle", [130, -7.3])
def test_a_turned_and_scaled_copy_scores_as_the_truth_itself(angle):
    truth = lopsided()
    pred = moved(truth, angle, scale=3.0, shift=(1, -2, 5))
    assert protocol_a(truth, pred)["iou"] < 0.9  # as it is, it does not fit
    scores, floor = aligned_scores(truth, pred, seed=0), noise(truth, seed=0)
    assert scores["turned_yaw_deg"] == pytest.approx(-angle, abs=0.3)
    for way in ("turned", "fitted"):
        assert scores[f"{way}_cd"] < floor["cd"] and scores[f"{way}_iou"] > 0.95
        assert scores[f"{way}_b_cd"] < 1.1 * floor["b_cd"] and scores[f"{way}_b_f0.1"] > 0.99


def test_only_a_similarity_undoes_a_tilt():
    """As from a wrong elevation. A turn about the up axis cannot help, and the tilted mesh has another box."""
    truth = lopsided()
    scores = aligned_scores(truth, moved(moved(truth, 12, axis=(1, 0, 0)), 40), seed=0)
    assert scores["turned_cd"] > 3 * noise_floor(truth) and scores["turned_iou"] < 0.85
    assert scores["fitted_cd"] < noise_floor(truth) and scores["fitted_iou"] > 0.95


def test_another_shape_stays_another_shape():
    truth = lopsided()
    ball = trimesh.creation.icosphere(subdivisions=3, radius=2)
    scores = aligned_scores(truth, ball, seed=0)
    assert scores["fitted_cd"] <= scores["turned_cd"]
    assert scores["fitted_cd"] > 0.05 and scores["fitted_iou"] < 0.6


def test_turn_is_counterclockwise_from_above():
    """From +z to +x, as azimuth grows."""
    bar = trimesh.creation.box((0.1, 0.1, 1.0))
    tip = trimesh.creation.box((0.3, 0.3, 0.1))
    tip.apply_translation((0, 0, 0.5))
    vertices, _ = turn(trimesh.util.concatenate([bar, tip]), 90)
    wide = np.ptp(vertices[np.abs(vertices[:, 2]) > 0.1], axis=0)
    assert vertices[np.abs(vertices[:, 2]) > 0.1][:, 0].min() > 0.3 and wide[0] < 0.2
    assert best_yaw(bar, bar) == pytest.approx(0, abs=1) or abs(best_yaw(bar, bar)) == pytest.approx(
        180, abs=1
    )


def test_similarity_of_points():
    rng = np.random.default_rng(0)
    fixed = rng.uniform(-0.5, 0.5, (2000, 3)) * (1, 0.5, 0.25)
    matrix = trimesh.transformations.rotation_matrix(np.radians(4), (1, 2, 3))
    matrix[:3, :3] *= 1.03
    matrix[:3, 3] = 0.01, -0.02, 0.01
    moving = trimesh.transform_points(fixed, np.linalg.inv(matrix))
    assert similarity(fixed, moving) == pytest.approx(matrix, abs=1e-3)
