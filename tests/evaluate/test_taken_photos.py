"""Photos of known objects: from which side, with which errors, and that prep frames each anew."""

import numpy as np
import pytest
import trimesh

from sv3d_pipe.cameras import orbit
from sv3d_pipe.config import Config
from sv3d_pipe.errors import UserError
from sv3d_pipe.evaluate.taken_photos import Subject, parse_degrees, subjects, take_photo
from sv3d_pipe.evaluate.truth import place, scaled, seen_from
from sv3d_pipe.further_photos import View
from sv3d_pipe.pictures import load_png, resize_rgba, save_png
from sv3d_pipe.pipeline import Image2Mesh
from sv3d_pipe.render.draw import render_views
from sv3d_pipe.render.objects import from_trimesh


def box_with_arm():
    """4 wide, 2 high, 1 deep, centered, and a small cube on its right side, from x 2 to 2.4."""
    arm = trimesh.creation.box((0.4, 0.4, 0.4))
    arm.apply_translation((2.2, 0.5, 0))
    solid = trimesh.util.concatenate([trimesh.creation.box((4, 2, 1)), arm])
    solid.visual = trimesh.visual.ColorVisuals(solid, face_colors=(100, 150, 200, 255))
    return solid


@pytest.fixture
def obj():
    return from_trimesh(box_with_arm())


@pytest.fixture
def file(tmp_path):
    box_with_arm().export(tmp_path / "chair.glb")
    return tmp_path / "chair.glb"


def test_angles_are_read_and_refused():
    assert parse_degrees("--azimuths", "0, 30,-45") == (0, 30, -45)
    assert parse_degrees("--azimuths", "-0,0,90,90.0") == (0, 90) and str(parse_degrees("", "-0")) == "(0.0,)"
    for wrong in ("", "left", "30;40", "10,,20", "361", "nan", "inf"):
        with pytest.raises(UserError, match="--views takes degrees from -360 to 360 separated by commas"):
            parse_degrees("--views", wrong)


def test_rows_are_named_by_object_and_azimuth(file):
    found = subjects({"chair": file, "cup": file}, (0, 30, -45))
    assert list(found) == ["chair", "chair@30", "chair@-45", "cup", "cup@30", "cup@-45"]
    assert found["cup@30"] == Subject(file, 30)
    with pytest.raises(UserError, match="named chair@30"):
        subjects({"chair": file, "chair@30": file}, (0, 30))


def test_what_is_on_the_right_faces_a_camera_at_90_degrees(file, obj):
    """4.4 wide, so the box is 2 / 4.4 by 1 / 4.4; on the right, at +x, is the arm, whose sides are .4 / 4.4 long."""
    turned = seen_from(obj, 90)
    np.testing.assert_allclose(np.ptp(turned.vertices, axis=0), np.array([1, 2, 4.4]) / 4.4, atol=1e-6)
    np.testing.assert_allclose(turned.vertices.max(0) + turned.vertices.min(0), 0, atol=1e-6)
    front = turned.vertices[turned.vertices[:, 2] > 0.49]
    np.testing.assert_allclose(np.ptp(front, axis=0), np.array([0.4, 0.4, 0]) / 4.4, atol=1e-6)
    placed, aside = place(file), place(file, azimuth_deg=90)
    assert aside.radius == pytest.approx(placed.radius, rel=1e-5)
    np.testing.assert_allclose(aside.vertices / np.ptp(aside.vertices[:, 2]), turned.vertices, atol=1e-5)


def test_a_turn_and_a_camera_that_goes_around_show_the_same(obj):
    """The turned object has another box, so it is first made as high as the other; its center moves by a hundredth."""
    turned = seen_from(obj, 30)
    turned = scaled(turned, np.ptp(obj.vertices[:, 1]) / np.ptp(turned.vertices[:, 1]))
    seen = render_views(turned, orbit([0.0], 10.0), 64)[0]
    here, there = (render_views(obj, orbit([azimuth], 10.0), 64)[0] for azimuth in (30.0, -30.0))
    assert np.abs(seen - here).mean() < 0.25 * np.abs(seen - there).mean()


def test_without_an_error_only_the_colors_differ(obj):
    """The gains of the 8-bit colors (100, 150, 200) / 255 can be read in the picture."""
    photo = take_photo(obj, 90, 10, 0, 48, 7, "chair")
    plain = render_views(obj, orbit([90.0], 10.0), 48, supersample=2)[0]
    np.testing.assert_array_equal(photo.rgba[..., 3], plain[..., 3])
    inside = plain[..., 3] == 1
    rgb = np.minimum(np.array([100, 150, 200]) / 255 * photo.gain, 1)
    np.testing.assert_allclose(photo.rgba[inside, :3], np.tile(rgb, (inside.sum(), 1)), atol=1e-4)
    assert photo.error_deg == (0, 0) and min(np.abs(np.log(photo.gain))) > 0
    assert photo.row() == {"azimuth_deg": 90, "error_deg": [0, 0], "gain": list(photo.gain)}


def test_a_photo_depends_on_seed_name_and_view(obj):
    first = take_photo(obj, 90, 10, 5, 24, 7, "chair")
    again = take_photo(obj, 90, 10, 5, 24, 7, "chair")
    np.testing.assert_array_equal(again.rgba, first.rgba)
    assert (again.error_deg, again.gain) == (first.error_deg, first.gain)
    for azimuth, seed, name in ((180, 7, "chair"), (90, 8, "chair"), (90, 7, "cup")):
        other = take_photo(obj, azimuth, 10, 5, 24, seed, name)
        assert other.gain != first.gain and other.error_deg != first.error_deg
    further = take_photo(obj, 90, 10, 10, 24, 7, "chair")
    assert further.gain == first.gain and further.error_deg == pytest.approx([2 * e for e in first.error_deg])
    seen = render_views(obj, orbit([90 + first.error_deg[0]], 10 + first.error_deg[1]), 24, supersample=2)
    np.testing.assert_allclose(first.rgba[..., 3], seen[0, ..., 3], atol=1e-5)


def test_errors_have_the_spread_that_is_said(obj):
    """Of 400 photos: the standard deviation of a standard deviation is then 3.5 %; four of them are allowed."""
    photos = [take_photo(obj, 90, 10, 5, 4, seed, "chair") for seed in range(400)]
    error = np.array([photo.error_deg for photo in photos])
    gain = np.log([photo.gain for photo in photos])
    np.testing.assert_allclose(error.std(0), 5, rtol=0.14)
    np.testing.assert_allclose(gain.mean(1).std(), np.hypot(0.1, 0.03 / np.sqrt(3)), rtol=0.14)
    np.testing.assert_allclose((gain[:, 0] - gain[:, 1]).std(), 0.03 * np.sqrt(2), rtol=0.14)
    assert abs(error.mean(0)).max() < 1 and abs(gain.mean()) < 0.02


def test_the_zoom_of_a_further_photo_tells_nothing(obj, tmp_path):
    """Prep makes the same picture of a photo and of a copy at .7 of its size, aside in an empty frame."""
    save_png(tmp_path / "photo.png", render_views(obj, orbit([0.0], 10.0), 144)[0])
    photo = take_photo(obj, 120, 10, 0, 288, 7, "chair")
    small = np.pad(resize_rgba(photo.rgba, 202), ((9, 77), (61, 25), (0, 0)))
    prepared = []
    for name, rgba in (("near", photo.rgba), ("far", small)):
        save_png(tmp_path / f"{name}.png", rgba)
        image2mesh = Image2Mesh(Config().replace({"prep.size": 96}), 0, "cpu")
        result = image2mesh(
            [tmp_path / "photo.png", View(tmp_path / f"{name}.png", 120)], tmp_path / name, until="prep"
        )
        prepared.append(load_png(result.workspace / "1-prep/views/1.png"))
    near, far = (picture[..., 3] > 0.5 for picture in prepared)
    for mask in (near, far):
        assert np.ptp(np.argwhere(mask), axis=0).max() + 1 == pytest.approx(0.8 * 96, abs=1)
    assert (near ^ far).sum() < 0.5 * outline_length(near)  # less than half a pixel all around


def outline_length(mask):
    """How often neighbors differ, in pixels."""
    return sum((np.diff(mask.astype(int), axis=axis) != 0).sum() for axis in (0, 1))
