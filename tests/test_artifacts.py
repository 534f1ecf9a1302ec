"""Views and meshes on disk: what is not known, the way back to a capture, files that are no meshes."""

import numpy as np
import pytest
import trimesh

from sv3d_pipe.artifacts import Mesh, Views
from sv3d_pipe.cameras import orbit
from sv3d_pipe.errors import UserError
from sv3d_pipe.geometry.hull import carve


@pytest.fixture
def views():
    rng = np.random.default_rng(0)
    rgba = np.round(rng.random((4, 6, 6, 4)) * 255).astype(np.float32) / 255
    seen = np.ones((4, 6, 6), bool)
    seen[1, :, :2] = False
    seen[3, 5] = False
    to_world = np.diag([2.0, 2, 2, 1])
    to_world[:3, 3] = [1, -2, 3]
    return Views(rgba, orbit([0.0, 90, 180, 270], 10.0), seen=seen, to_world=to_world)


def test_views_come_back_as_they_were_saved(views, tmp_path):
    views.save(tmp_path)
    loaded = Views.load(tmp_path)
    np.testing.assert_allclose(loaded.rgba, views.rgba, atol=1e-6)
    np.testing.assert_array_equal(loaded.seen, views.seen)
    np.testing.assert_allclose(loaded.to_world, views.to_world, atol=1e-12)
    assert loaded.photo is None


def test_a_photo_may_have_a_camera_of_its_own(views, tmp_path):
    photo = np.zeros((8, 8, 4), np.float32)
    plain = Views(views.rgba, views.cameras, photo[None])
    assert plain.photo_camera.equals(views.cameras[-1])
    plain.save(tmp_path)
    assert not (tmp_path / "photos.json").exists() and Views.load(tmp_path).photo_camera.equals(
        views.cameras[-1]
    )
    own = orbit([265.0], 12.0, radius=2.5, fov_deg=20.0)
    (tmp_path / "own").mkdir()
    Views(views.rgba, views.cameras, photo[None], photo_cameras=own).save(tmp_path / "own")
    loaded = Views.load(tmp_path / "own")
    np.testing.assert_allclose(loaded.photo_camera.c2w, own.c2w, atol=1e-6)
    assert loaded.photo_camera.fov_deg == pytest.approx(20.0) and len(loaded.cameras) == 4


def test_a_hull_is_carved_from_where_the_photo_was_taken():
    """A ball that fills half of its frames, and twice as much of a photo taken with half the field of view."""
    cameras = orbit(np.arange(0, 360, 30.0), 0.0)
    y, x = np.mgrid[:64, :64] + 0.5 - 32
    disc = np.zeros((12, 64, 64, 4), np.float32)
    disc[..., 3] = np.hypot(x, y) < 14
    narrow = orbit([330.0], 0.0, fov_deg=cameras.fov_deg / 2)
    photo = np.zeros((64, 64, 4), np.float32)
    photo[..., 3] = np.hypot(x, y) < 14 * np.tan(np.radians(33.8 / 2)) / np.tan(np.radians(33.8 / 4))
    right, wrong = (
        carve(Views(disc, cameras, photo[None], photo_cameras=camera), 0.55).occupied.sum()
        for camera in (narrow, None)
    )
    smaller = photo.copy()
    smaller[..., 3] = np.hypot(x, y) < 14
    cut = carve(Views(disc, cameras, smaller[None], photo_cameras=narrow), 0.55).occupied.sum()
    assert cut < 0.7 * right <= right <= wrong


def test_views_of_an_orbit_know_everything_and_come_from_no_capture(views, tmp_path):
    Views(views.rgba, views.cameras).save(tmp_path)
    loaded = Views.load(tmp_path)
    assert loaded.seen is None and loaded.to_world is None
    assert not (tmp_path / "seen").exists()


def test_whole_views_are_those_that_know_everything(views):
    whole = views.whole(fewest=2)
    np.testing.assert_array_equal(whole.rgba, views.rgba[[0, 2]])
    np.testing.assert_array_equal(whole.cameras.c2w, views.cameras.c2w[[0, 2]])
    assert whole.seen is None and whole.to_world is views.to_world
    assert views.whole(fewest=3) is views


def test_seen_has_the_shape_of_the_frames(views):
    with pytest.raises(ValueError, match=r"Views.seen must have shape \[4, 6, 6\]"):
        Views(views.rgba, views.cameras, seen=views.seen[:2])


def test_a_mesh_file_keeps_its_vertex_colors(tmp_path):
    box = trimesh.creation.box()
    box.visual.vertex_colors = np.tile([255, 0, 51, 255], (8, 1)).astype(np.uint8)
    box.export(tmp_path / "box.glb")
    mesh = Mesh.from_file(tmp_path / "box.glb")
    np.testing.assert_allclose(mesh.rgb, np.tile([1, 0, 0.2], (len(mesh.vertices), 1)), atol=1e-6)
    assert len(mesh.faces) == 12


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("none.glb", None, "There is no mesh file"),
        ("mesh.pkl", b"\x80\x04K\x01.", "not a mesh file of a known kind"),
        ("mesh.glb", b"junk", "Cannot read the mesh"),
        ("mesh.obj", b"v 0 0 0\n", "Cannot read the mesh|no triangles"),
    ],
)
def test_what_is_no_mesh_is_told_in_one_sentence(tmp_path, name, content, sentence):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=sentence):
        Mesh.from_file(tmp_path / name)
