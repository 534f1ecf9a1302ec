"""Captures of a known toy become views in which the toy stands where it should."""

import dataclasses

import cv2
import numpy as np
import pytest
from toy_capture import (
    COUNT,
    OPTICS,
    Optics,
    agreement,
    cameras_around,
    edit,
    shoot,
    to_capture,
    write,
)

from sv3d_pipe.artifacts import Views
from sv3d_pipe.capture.capture import import_capture
from sv3d_pipe.capture.lens import Lens
from sv3d_pipe.capture.placement import Placement
from sv3d_pipe.capture.rectify import aimed_cameras, rectify
from sv3d_pipe.capture.shots import Shot
from sv3d_pipe.errors import UserError
from sv3d_pipe.pictures import save_png
from sv3d_pipe.road.context import Context


def test_a_dot_lands_where_the_straight_line_says():
    # A camera at (0, 0, 10) that looks along -z, its principal point at (70, 40). The dot at pixel
    # (90.5, 30.5) lies on the ray (20.5, 9.5, -200) / 200; on the plane z = 0 at (1.025, 0.475, 0).
    c2w = np.eye(4)
    c2w[2, 3] = 10
    rgba = np.zeros((100, 160, 4), np.uint8)
    rgba[30, 90] = 255
    shot = Shot("dot", c2w, Lens(160, 100, 200.0, 200.0, 70.0, 40.0), rgba, 0, 0, False, "alpha", True)
    # The world has its origin at capture (1, 0.5, 0) and half the size: the camera must turn to see it.
    placement = Placement(np.eye(3), np.array([1, 0.5, 0.0]), 0.5)
    views = rectify([shot], placement, 0.6, 64)
    rows, columns = np.nonzero(views.rgba[0, ..., 3] > 0.2 * views.rgba[0, ..., 3].max())
    weights = views.rgba[0, rows, columns, 3]
    found = np.array([np.average(columns + 0.5, weights=weights), np.average(rows + 0.5, weights=weights)])
    world = 0.5 * (np.array([[1.025, 0.475, 0]]) - placement.center)
    np.testing.assert_allclose(found, views.cameras.project(world, 64)[0][0, 0], atol=0.1)
    np.testing.assert_allclose(views.cameras.project(np.zeros((1, 3)), 64)[0][0, 0], [32, 32], atol=1e-3)


def test_the_field_of_view_just_holds_the_ball():
    c2w = np.tile(np.eye(4), (2, 1, 1))
    c2w[:, 2, 3] = 4, 8
    shots = [
        Shot(
            "s",
            pose,
            Lens(9, 9, 9.0, 9.0, 4.5, 4.5),
            np.zeros((9, 9, 4), np.uint8),
            0,
            0,
            False,
            "alpha",
            True,
        )
        for pose in c2w
    ]
    cameras = aimed_cameras(shots, Placement(np.eye(3), np.zeros(3), 1.0), 0.5)
    assert np.sin(np.radians(cameras.fov_deg / 2)) == pytest.approx(1.04 * 0.5 / 4)
    assert cameras.visible_radius == pytest.approx(1.04 * 0.5)


def test_an_uneven_capture_is_found_centered_upright_and_of_unit_size(toy, tmp_path):
    obj, pictures, matrices = toy
    views, metrics = import_capture(write(tmp_path, pictures, matrices, OPTICS.fields()), "auto", Context())
    world = to_capture(obj.vertices) @ views.to_world[:3, :3].T + views.to_world[:3, 3]
    assert np.ptp(world, axis=0).max() == pytest.approx(1, abs=0.06)
    np.testing.assert_allclose(world.min(0) + world.max(0), 0, atol=0.06)
    scale = np.cbrt(np.linalg.det(views.to_world[:3, :3]))
    np.testing.assert_allclose(views.to_world[:3, :3] / scale, [[1, 0, 0], [0, 0, 1], [0, -1, 0]], atol=1e-6)
    assert agreement(obj, views) > 0.97
    assert views.seen is None and views.photo is None
    assert metrics["views"] == COUNT and metrics["masks"] == {"alpha": COUNT}
    # The toy's front, azimuth 0 in its own world, comes last, and all others keep their order.
    assert metrics["front"] == "0000.png"


def test_views_know_the_way_back_after_saving(toy, tmp_path):
    obj, pictures, matrices = toy
    views, _ = import_capture(write(tmp_path, pictures, matrices, OPTICS.fields()), "auto", Context())
    (tmp_path / "saved").mkdir()
    views.save(tmp_path / "saved")
    loaded = Views.load(tmp_path / "saved")
    np.testing.assert_allclose(loaded.to_world, views.to_world, atol=1e-6)
    assert loaded.seen is None
    again, _ = import_capture(tmp_path / "saved", "auto", Context())
    assert abs(again.size - views.size) < 0.1 * views.size


def test_pictures_stored_sideways_stand_upright(toy, tmp_path):
    obj, pictures, matrices = toy
    side = Optics(80, 100, 210.0, 35.0, 100 - 56.0)  # as a quarter turn counterclockwise leaves the lens
    rolled = matrices.copy()
    rolled[:, :3, 0], rolled[:, :3, 1] = -matrices[:, :3, 1], matrices[:, :3, 0]
    said = []
    folder = write(tmp_path, np.rot90(pictures, axes=(1, 2)), rolled, side.fields())
    views, metrics = import_capture(folder, "auto", Context(say=said.append))
    assert agreement(obj, views) > 0.97
    scale = np.cbrt(np.linalg.det(views.to_world[:3, :3]))
    np.testing.assert_allclose(views.to_world[:3, :3] / scale, [[1, 0, 0], [0, 0, 1], [0, -1, 0]], atol=1e-6)
    assert "lie on their side" in metrics["vertical"] and "lie on their side" in said[-1]


def test_pictures_of_other_sizes_and_lenses_in_one_capture(toy, tmp_path):
    obj, pictures, matrices = toy
    other = Optics(120, 140, 300.0, 50.0, 72.0)
    larger = shoot(obj, cameras_around(COUNT), other)
    folder = write(tmp_path, pictures, matrices, OPTICS.fields())

    def change(index, frame):
        if index % 2:
            frame.update(other.fields())
            save_png(folder / frame["file_path"], larger[index])

    views, _ = import_capture(edit(folder, change), "auto", Context())
    assert agreement(obj, views) > 0.97


def test_where_the_border_cuts_the_object_nothing_is_known(toy, tmp_path):
    obj, pictures, matrices = toy
    shifted = dataclasses.replace(OPTICS, cx=14.0)
    cut = shoot(obj, cameras_around(COUNT), shifted)
    folder = write(tmp_path, pictures, matrices, OPTICS.fields())

    def change(index, frame):
        if index in (3, 7):
            frame.update(shifted.fields())
            save_png(folder / frame["file_path"], cut[index])

    views, metrics = import_capture(edit(folder, change), "auto", Context())
    assert metrics["cut"] == 2
    whole = views.seen.all((1, 2))
    assert whole.sum() == COUNT - 2 and len(views.whole().rgba) == COUNT - 2
    assert (views.rgba[~views.seen] == 0).all()
    assert agreement(obj, views) > 0.97


def test_distorted_pictures_are_straightened(toy, tmp_path):
    obj, pictures, matrices = toy
    lens = Lens(100, 80, 210.0, 210.0, 56.0, 35.0, (-2.0, 0, 0, 0, 0, 0, 0, 0))
    pixels = np.stack(np.meshgrid(np.arange(100) + 0.5, np.arange(80) + 0.5), -1).reshape(-1, 2)
    rays = lens.unproject(pixels)
    at = (rays[:, :2] / -rays[:, 2:] * [210, -210] + [55.5, 34.5]).reshape(80, 100, 2).astype(np.float32)
    bent = np.stack([cv2.remap(picture, at, None, cv2.INTER_LINEAR) for picture in pictures])
    fields = OPTICS.fields()
    with_lens, _ = import_capture(write(tmp_path, bent, matrices, fields | {"k1": -2.0}), "auto", Context())
    without, _ = import_capture(write(tmp_path, bent, matrices, fields), "auto", Context())
    assert agreement(obj, with_lens) > max(0.97, agreement(obj, without) + 0.01)


def test_three_views_are_enough(toy, tmp_path):
    obj, pictures, matrices = toy
    views, _ = import_capture(
        write(tmp_path, pictures[::4], matrices[::4], OPTICS.fields()), "auto", Context()
    )
    assert len(views.rgba) == 3 and agreement(obj, views) > 0.97


def turned_away(matrices):
    matrices = matrices.copy()
    matrices[:, :3, 1:3] *= -1  # OpenCV's axes: y down, z forward
    return matrices


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (turned_away, "look away from each other; transform_matrix must be camera-to-world with OpenGL"),
        (lambda m: np.repeat(m[:1], COUNT, 0), "nearly the same line"),
        (lambda m: m + 0.0, "masks of the pictures are empty"),
    ],
)
def test_cameras_that_do_not_fit_are_one_sentence(toy, tmp_path, change, sentence):
    _, pictures, matrices = toy
    if "empty" in sentence:
        pictures = np.zeros_like(pictures)
    with pytest.raises(UserError, match=sentence):
        import_capture(write(tmp_path, pictures, change(matrices), OPTICS.fields()), "auto", Context())


def test_masks_that_contradict_the_cameras_are_one_sentence(toy, tmp_path):
    _, _, matrices = toy
    rng = np.random.default_rng(0)
    pictures = np.zeros((COUNT, 80, 100, 4))
    for picture in pictures:  # a small square anywhere
        x, y = rng.integers(0, 90), rng.integers(0, 70)
        picture[y : y + 9, x : x + 9] = 1
    with pytest.raises(UserError, match="do not meet anywhere|contradict each other"):
        import_capture(write(tmp_path, pictures, matrices, OPTICS.fields()), "auto", Context())


def test_damaged_pictures_are_one_sentence(toy, tmp_path):
    _, pictures, matrices = toy
    folder = write(tmp_path, pictures, matrices, OPTICS.fields())
    path = folder / "images" / "0004.png"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(UserError, match="0004.png is damaged"):
        import_capture(folder, "auto", Context())
    path.write_bytes(b"\x80\x04K\x01.")  # a pickle
    with pytest.raises(UserError, match="0004.png is not a picture"):
        import_capture(folder, "auto", Context())
