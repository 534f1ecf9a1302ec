"""Framing: exact geometry, kept and dropped parts, warnings, and the stage as a whole."""

import numpy as np
import pytest
from PIL import Image

from sv3d_pipe.config import PrepConfig
from sv3d_pipe.errors import UserError
from sv3d_pipe.prep.frame import bounding_box, keep_main_parts, prepare, recenter, touched_sides
from sv3d_pipe.road.context import Context


def canvas(*boxes, size=(300, 400)):
    """Transparent picture with opaque orange rectangles (left, top, right, bottom)."""
    rgba = np.zeros((*size, 4), np.float32)
    for left, top, right, bottom in boxes:
        rgba[top:bottom, left:right] = (0.8, 0.4, 0.2, 1)
    return rgba


def save(path, rgba):
    Image.fromarray((rgba * 255 + 0.5).astype(np.uint8)).save(path)
    return path


def test_recenter_geometry_by_hand():
    """A 100 x 40 box, fill .8: the square's side is 125, the box sits at 62 - 50 = 12, 62 - 20 = 42."""
    framed = recenter(canvas((37, 11, 137, 51)), 0.8, 125)
    assert framed.shape == (125, 125, 4) and framed.dtype == np.float32
    assert bounding_box(framed[..., 3]) == (12, 42, 112, 82)
    assert framed[..., 3].sum() == 100 * 40
    assert np.allclose(framed[50, 50], [0.8, 0.4, 0.2, 1])
    assert (framed[framed[..., 3] == 0] == 0).all()


def test_recenter_scales_to_size_and_keeps_colors_pure():
    framed = recenter(canvas((37, 11, 137, 51)), 0.8, 500)
    left, top, right, bottom = bounding_box(framed[..., 3])
    assert np.allclose([left, top, right, bottom], [48, 168, 448, 328], atol=2)
    edge = (framed[..., 3] > 0.01) & (framed[..., 3] < 0.99)
    assert edge.sum() > 500
    assert np.abs(framed[edge][:, :3] - [0.8, 0.4, 0.2]).max() < 1e-3  # premultiplied resampling


def test_fill_one_touches_the_frame():
    assert bounding_box(recenter(canvas((0, 0, 80, 40)), 1.0, 80)[..., 3]) == (0, 20, 80, 60)


def test_parts_large_stay_specks_go():
    main, second, thin, far_dust = (
        (100, 50, 200, 250),
        (300, 50, 340, 150),
        (203, 60, 206, 80),
        (20, 20, 24, 24),
    )
    rgba, kept, dropped = keep_main_parts(canvas(main, second, thin, far_dust), 0.1)
    assert kept == pytest.approx([1, 0.2, 0.003]) and dropped == 1
    assert rgba[100, 320, 3] == 1 and rgba[70, 204, 3] == 1 and rgba[22, 22, 3] == 0


def test_touched_sides():
    assert touched_sides(canvas((0, 50, 100, 150))[..., 3]) == ["left"]
    assert touched_sides(canvas((350, 200, 400, 300))[..., 3]) == ["right", "bottom"]
    assert touched_sides(canvas((50, 50, 100, 150))[..., 3]) == []
    assert touched_sides(canvas((50, 2, 250, 150), (100, 0, 105, 2))[..., 3]) == []  # a tip only


@pytest.mark.parametrize(
    "boxes, words",
    [
        ([(0, 50, 200, 250)], ["touches the left edge"]),
        ([(50, 50, 90, 100)], ["only 50 pixels"]),
        ([(20, 50, 170, 250), (230, 60, 380, 240)], ["several objects"]),
        ([(100, 50, 300, 250)], []),
    ],
)
def test_warnings(tmp_path, boxes, words):
    context = Context()
    prepare(PrepConfig(), save(tmp_path / "cut.png", canvas(*boxes)), context)
    assert len(context.warnings) == len(words)
    assert all(word in sentence and "cut.png" in sentence for word, sentence in zip(words, context.warnings))


def test_prepare_a_cut_out(tmp_path):
    path = save(tmp_path / "cut.png", canvas((100, 50, 300, 250)))
    photo, metrics = prepare(PrepConfig(fill=0.5, size=200), path, Context())
    assert photo.rgba.shape == (200, 200, 4)
    assert next(iter(metrics)) == "object_share"
    assert metrics == {
        "object_share": 0.25,
        "matte": "alpha",
        "background": "transparent",
        "input_width": 400,
        "input_height": 300,
        "object_pixels": 200,
        "crop": [0, -50, 400],
        "parts_kept": 1,
        "parts_dropped": 0,
    }


def test_prepare_an_opaque_photo_the_same_as_its_cut_out(tmp_path):
    rgba = canvas((100, 50, 300, 250))
    opaque = rgba[..., :3] * rgba[..., 3:] + 1 - rgba[..., 3:]
    cut, _ = prepare(PrepConfig(size=256), save(tmp_path / "cut.png", rgba), Context())
    photo, metrics = prepare(PrepConfig(size=256), save(tmp_path / "photo.png", opaque), Context())
    assert metrics["matte"] == "offline" and metrics["background"] == "plain"
    assert np.abs(photo.rgba - cut.rgba).mean() < 0.01


def test_large_photo_reports_its_own_pixels(tmp_path):
    path = save(tmp_path / "cut.png", canvas((500, 500, 1500, 1500), size=(2000, 3000)))
    _, metrics = prepare(PrepConfig(size=128), path, Context())
    assert (metrics["input_width"], metrics["input_height"]) == (3000, 2000)
    assert abs(metrics["object_pixels"] - 1000) <= 10


def test_prepared_photo_prepares_to_itself(tmp_path):
    first, _ = prepare(PrepConfig(size=200), save(tmp_path / "a.png", canvas((100, 50, 300, 230))), Context())
    again, _ = prepare(PrepConfig(size=200), save(tmp_path / "b.png", first.rgba), Context())
    assert np.abs(again.rgba - first.rgba).mean() < 0.01


def test_nothing_to_see(tmp_path):
    path = save(tmp_path / "dot.png", canvas((100, 100, 104, 104), size=(120, 120)))
    with pytest.raises(UserError, match="No object was found in dot.png"):
        prepare(PrepConfig(matte="alpha"), path, Context())
