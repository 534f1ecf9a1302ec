"""Finding objects, the cameras between the orbit's, and the baseline's ellipsoid."""

import numpy as np
import pytest
import trimesh

from sv3d_pipe.artifacts import Photo
from sv3d_pipe.cameras import orbit
from sv3d_pipe.config import OrbitConfig
from sv3d_pipe.errors import UserError
from sv3d_pipe.evaluate.truth import Angles, ellipsoid, find_objects, gray, in_world, place, render_clay
from sv3d_pipe.orbit.paint import paint_frames
from sv3d_pipe.render.draw import render_views
from sv3d_pipe.road.context import Context


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "set").mkdir()
    for name in ("gso_a.glb", "gso_b.stl", "ycb_c.obj", "set/d.ply", "set/d.stl", "notes.txt"):
        (tmp_path / name).write_text("")
    return tmp_path


def test_names_are_unique_and_sorted(folder):
    assert list(find_objects(folder)) == ["gso_a", "gso_b", "set__d", "set__d.stl", "ycb_c"]
    assert find_objects(folder)["set__d.stl"] == folder / "set" / "d.stl"


def test_ids_and_limit(folder):
    assert list(find_objects(folder, ("gso_*", "ycb_*"))) == ["gso_a", "gso_b", "ycb_c"]
    some = find_objects(folder, limit=3, seed=1)
    assert len(some) == 3 and some == find_objects(folder, limit=3, seed=1)
    assert set(some) <= set(find_objects(folder))
    assert len({tuple(find_objects(folder, limit=3, seed=s)) for s in range(8)}) > 1


def test_what_is_missing_is_said(folder):
    with pytest.raises(UserError, match="no folder"):
        find_objects(folder / "nowhere")
    with pytest.raises(UserError, match="that match omni_"):
        find_objects(folder, ("omni_*",))


def test_angles_between_the_views():
    angles = Angles.of(OrbitConfig(kind="sine", elevation_deg=10.0), seed=0)
    between = angles.between()
    step = 360 / 21
    np.testing.assert_allclose(between.azimuth_deg[:2], [1.5 * step, 2.5 * step])
    np.testing.assert_allclose(between.azimuth_deg[-1], step / 2)  # from the photo to the first view
    assert between.elevation_deg[-1] == pytest.approx(10 + 15 * np.sin(np.radians(step)))


@pytest.mark.parametrize(
    "config",
    [
        OrbitConfig(elevation_deg=40.0),
        OrbitConfig(kind="static", elevation_deg=-5.0),
        OrbitConfig(kind="dynamic", elevation_deg=20.0),
        OrbitConfig(azimuths="90,180,270,360", elevations="0,10,20,35"),
    ],
)
def test_pictures_are_taken_where_the_orbit_stage_has_its_cameras(config):
    """The last of them is the photo's."""
    disc = np.zeros((64, 64, 4), np.float32)
    disc[16:48, 16:48] = 1
    painted, _ = paint_frames(config, Photo(disc), Context(seed=3))
    np.testing.assert_allclose(Angles.of(config, seed=3).cameras().c2w, painted.cameras.c2w, atol=1e-6)


def test_a_placed_object_fills_the_frame_and_is_not_clipped(tmp_path):
    trimesh.creation.box((4, 2, 1)).export(tmp_path / "box.stl")
    obj = place(tmp_path / "box.stl")
    cameras = orbit(np.arange(0, 360, 30.0), 0.0)
    assert obj.radius == pytest.approx(cameras.visible_radius / 1.03, rel=1e-5)
    alpha = render_views(obj, cameras, 64)[..., 3]
    assert alpha[:, [0, -1]].max() == 0 and alpha[:, :, [0, -1]].max() == 0


def test_a_file_with_z_up_is_stood_up(tmp_path):
    tall = trimesh.creation.box((1, 2, 4))
    tall.apply_translation((0, 0, 2))
    spire = trimesh.creation.box((0.1, 0.1, 0.1))
    spire.apply_translation((0, -0.9, 4.05))  # on top, at the -y side
    trimesh.util.concatenate([tall, spire]).export(tmp_path / "tall.stl")
    vertices = place(tmp_path / "tall.stl", up="z").vertices
    extent = np.ptp(vertices, axis=0)
    np.testing.assert_allclose(extent / extent[0], [1, 4.1, 2], rtol=1e-4)
    top = vertices[vertices[:, 1] > vertices[:, 1].max() - 0.01]
    assert (top[:, 2] > 0).all()  # it faces the photo's camera


def test_the_ellipsoid_has_the_photos_box():
    camera = orbit(np.zeros(1), 20.0)
    photo = np.zeros((96, 96, 4), np.float32)
    photo[20:70, 30:80, 3] = 1
    seen = render_views(ellipsoid(photo, camera), camera, 96)[0, ..., 3] > 0.5
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    assert abs(rows[[0, -1]] - (20, 69)).max() <= 1 and abs(columns[[0, -1]] - (30, 79)).max() <= 1


def test_clay_is_lit_from_the_camera_wherever_it_is():
    ball = gray(trimesh.creation.icosphere(4, 0.4))
    frames = render_clay(ball, orbit(np.array([0.0, 120, 240]), 10.0), 48)
    brightness = [f[f[..., 3] > 0.5][:, 0].mean() for f in frames]
    assert np.ptp(brightness) < 0.01 and min(brightness) > 0.4


def test_an_exported_file_goes_back_to_its_world(tmp_path):
    trimesh.creation.box((4, 2, 1)).export(tmp_path / "file.glb")  # whatever its size in the file
    world = in_world(tmp_path / "file.glb", {"scale": [0.5, 0.5, 0.25], "center": [1.0, 2, 3]}).vertices
    np.testing.assert_allclose([world.min(0), world.max(0)], [[0, 1.5, 2.875], [2, 2.5, 3.125]], atol=1e-6)
