"""Errors of frames' cameras and colors: found where there are some, left alone where there are none."""

import dataclasses

import numpy as np
import pytest
import trimesh

from sv3d_pipe.artifacts import Correction, Mesh, Refined, Views
from sv3d_pipe.cameras import Cameras, orbit, orbit_angles
from sv3d_pipe.config import RefineConfig
from sv3d_pipe.geometry.camera_moves import moved
from sv3d_pipe.refine import poses
from sv3d_pipe.refine.poses import BOUND, corrected
from sv3d_pipe.render.draw import render_views
from sv3d_pipe.render.objects import from_trimesh
from sv3d_pipe.road.context import Context

CONFIG, SIZE, FRAMES = RefineConfig(), 96, 8
CAMERAS = orbit(*orbit_angles("sine", 10.0, n_frames=FRAMES))


@pytest.fixture(scope="module")
def torus():
    """A leaning torus in waves of color, and the same as a mesh with colors at its vertices."""
    body = trimesh.creation.torus(0.3, 0.13, major_sections=96, minor_sections=48)
    body.apply_transform(trimesh.transformations.euler_matrix(0.9, 0.4, 0.2))
    rgb = 0.5 + 0.4 * np.sin(body.vertices @ np.array([[14.0, 5, -9], [3, -16, 8], [-8, 6, 13]]) + (0, 1, 2))
    body.visual.vertex_colors = (rgb * 255).astype(np.uint8)
    obj = dataclasses.replace(from_trimesh(body), vertices=np.asarray(body.vertices, np.float32))
    return obj, Mesh(obj.vertices, obj.faces, rgb.astype(np.float32))


def views_from(obj, cameras: Cameras) -> Views:
    """What these cameras see, said to be seen by the orbit's."""
    rgba = render_views(obj, cameras, SIZE)
    return Views(rgba, CAMERAS, rgba[-1:])


def errors(*frames: int, seed: int = 0) -> np.ndarray:
    """[N, 6] about as large as they are expected to be, of these frames alone."""
    change = np.zeros((FRAMES, poses.POSE))
    size = 1.5 * poses.EXPECTED[: poses.POSE]
    change[list(frames)] = np.random.default_rng(seed).choice([-1, 1], (len(frames), poses.POSE)) * size
    return change


def misses(cameras: Cameras, right: Cameras, mesh: Mesh) -> np.ndarray:
    """[N] mean distance of the surface in two cameras' pictures, as a share of their side."""
    a, b = (c.project(mesh.vertices, 1)[0] for c in (cameras, right))
    return np.linalg.norm(a - b, axis=-1).mean(-1)


def test_moved_cameras_are_those_of_the_changed_orbit():
    there = moved(orbit([30.0, 200.0], [10.0, -20.0]), np.tile([0.02, 0.03, 0, 0.01, 0, 0], (2, 1)))
    turned = orbit(np.degrees(0.02) + [30, 200], np.degrees(0.03) + [10, -20], 2 * np.exp(0.01))
    np.testing.assert_allclose(there.c2w, turned.c2w, atol=1e-6)


def test_roll_and_shift_move_the_picture_as_they_say():
    camera, point = orbit([30.0], 10.0), np.array([[0.0, 0.2, 0.0], [0, 0, 0]])
    plain = camera.project(point, 1)[0][0]
    rolled, right, down = (
        moved(camera, np.eye(6)[None, i] * 0.01).project(point, 1)[0][0] for i in (2, 4, 5)
    )
    assert rolled[0, 0] - plain[0, 0] == pytest.approx(
        0.01 * (plain[1, 1] - plain[0, 1]), rel=0.01
    )  # clockwise
    np.testing.assert_allclose(rolled[1], plain[1], atol=1e-6)
    np.testing.assert_allclose(right - plain, [[0.01, 0]] * 2, atol=2e-4)
    np.testing.assert_allclose(down - plain, [[0, 0.01]] * 2, atol=2e-4)


def test_known_errors_of_cameras_are_found(torus):
    obj, mesh = torus
    right = moved(CAMERAS, errors(1, 3, 4))
    said = []
    correction, better, metrics = corrected(CONFIG, mesh, views_from(obj, right), Context(say=said.append))
    assert metrics["poses_corrected"] == 3 and metrics["colors_corrected"] == 0 and len(said) == 1
    before, after = (misses(cameras, right, mesh)[[1, 3, 4]] for cameras in (CAMERAS, better.cameras))
    assert before.min() > 0.008  # 0.8 pixels
    assert after.max() < 0.0015 and after.max() < 0.15 * before.min()
    still = [0, 2, 5, 6, 7]
    assert np.array_equal(better.cameras.c2w[still], CAMERAS.c2w[still])
    assert np.array_equal(better.rgba, views_from(obj, right).rgba)
    assert metrics["disagreement_after"] < 0.5 * metrics["disagreement_before"]
    assert np.array_equal(correction.c2w, better.cameras.c2w)


def test_true_views_stay_as_they_are_also_beside_a_surface_that_is_wrong(torus):
    obj, mesh = torus
    views = views_from(obj, CAMERAS)
    rng = np.random.default_rng(0)
    bumps = 0.01 * np.sin(mesh.vertices @ rng.normal(0, 25, (3, 3))).astype(np.float32)  # about a pixel
    for shape in (mesh, dataclasses.replace(mesh, vertices=mesh.vertices + bumps)):
        correction, same, metrics = corrected(CONFIG, shape, views, Context())
        assert correction is None and same is views
        assert metrics["poses_corrected"] == metrics["colors_corrected"] == 0
        assert metrics["disagreement_after"] == metrics["disagreement_before"] > 0


def test_gains_are_found(torus):
    obj, mesh = torus
    views = views_from(obj, CAMERAS)
    factors = np.ones((FRAMES, 3), np.float32)
    factors[[0, 2, 5]] = [[0.85, 1, 1.1], [0.9, 0.9, 0.9], [1.1, 1.05, 0.9]]
    rgba = views.rgba.copy()
    rgba[..., :3] *= factors[:, None, None]
    correction, better, metrics = corrected(CONFIG, mesh, dataclasses.replace(views, rgba=rgba), Context())
    assert metrics["poses_corrected"] == 0 and metrics["colors_corrected"] == 3
    assert better.cameras.equals(CAMERAS)
    np.testing.assert_allclose(correction.gains, 1 / factors, atol=0.02)
    np.testing.assert_allclose(better.rgba, views.rgba, atol=0.025)


def test_errors_beyond_the_bounds_are_corrected_up_to_them(torus):
    obj, mesh = torus
    change = np.zeros((FRAMES, 6))
    change[2, 4] = 1.5 * BOUND[4]
    _, better, _ = corrected(CONFIG, mesh, views_from(obj, moved(CAMERAS, change)), Context())
    shift = better.cameras.project(np.zeros((1, 3)), 1)[0] - CAMERAS.project(np.zeros((1, 3)), 1)[0]
    assert 0.9 * BOUND[4] < shift[2, 0, 0] <= 1.01 * BOUND[4]


def test_what_all_frames_have_in_common_is_no_error_of_one(torus):
    obj, mesh = torus
    common = np.tile(0.5 * BOUND[:6], (FRAMES, 1))
    views = views_from(obj, moved(CAMERAS, common))
    correction, _, metrics = corrected(CONFIG, mesh, views, Context())
    assert correction is None and metrics["poses_corrected"] == 0


@pytest.mark.parametrize("case", ["off", "capture", "small"])
def test_nothing_is_asked(case, torus, monkeypatch):
    obj, mesh = torus
    views = views_from(obj, moved(CAMERAS, errors(1, 3)))
    monkeypatch.setattr(poses, "_find_errors", lambda *_: pytest.fail("looked"))
    if case == "capture":
        views = dataclasses.replace(views, photos=None)
    if case == "small":
        small = views.rgba[:, ::2, ::2]
        views = Views(small, CAMERAS, small[-1:])
    config = dataclasses.replace(CONFIG, correct_views=case != "off")
    assert corrected(config, mesh, views, Context())[:2] == (None, views)


def test_what_is_kept_is_what_was_found(torus, tmp_path):
    obj, mesh = torus
    views = views_from(obj, moved(CAMERAS, errors(1, 3, 4)))
    correction, better, _ = corrected(CONFIG, mesh, views, Context())
    again, _, _ = corrected(CONFIG, mesh, views, Context())
    assert (
        correction.c2w.tobytes() == again.c2w.tobytes()
        and correction.gains.tobytes() == again.gains.tobytes()
    )
    Refined(mesh, correction).save(tmp_path)
    loaded = Refined.load(tmp_path)
    seen = loaded.views(views)
    assert seen.cameras.equals(better.cameras) and np.array_equal(seen.rgba, better.rgba)
    assert seen.photos is views.photos and seen.photo_camera.equals(views.photo_camera)


def test_a_mesh_alone_leaves_the_views(torus, tmp_path):
    obj, mesh = torus
    Refined(mesh).save(tmp_path)
    views = views_from(obj, CAMERAS)
    assert Correction.load(tmp_path) is None and Refined.load(tmp_path).views(views) is views
