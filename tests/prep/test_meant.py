"""A box or a point says which object is meant, wherever the cut-out comes from."""

import numpy as np
import pytest
from test_prep_frame import canvas, save

from sv3d_pipe.config import Config, PrepConfig
from sv3d_pipe.errors import UserError
from sv3d_pipe.prep import matte
from sv3d_pipe.prep.finding import find_boxes
from sv3d_pipe.prep.frame import prepare
from sv3d_pipe.prep.meant import part_at, within_box
from sv3d_pipe.prep.parts import bounding_box, separate
from sv3d_pipe.road.context import Context

LEFT, RIGHT = (30, 60, 150, 260), (230, 90, 370, 240)  # two objects of a picture of 400 x 300


def checkers():
    """A busy background of 400 x 300."""
    colors = np.random.default_rng(3).random((20, 27, 3)).astype(np.float32) * (0.4, 0.4, 1)
    return colors.repeat(15, 0).repeat(15, 1)[:300, :400]


def opaque(rgba, behind):
    return rgba[..., :3] * rgba[..., 3:] + behind * (1 - rgba[..., 3:])


@pytest.fixture(params=["alpha", "offline", "busy", "rembg"])
def photo(request, tmp_path, monkeypatch):
    """Settings and a photo of both objects, cut out in one of four ways."""
    rgba = canvas(LEFT, RIGHT)
    if request.param == "alpha":
        return "alpha", save(tmp_path / "two.png", rgba)
    if request.param == "rembg":
        monkeypatch.setattr(matte, "_rembg", lambda rgb: rgba)
    behind = checkers() if request.param == "busy" else np.full(3, 0.9)
    method = "rembg" if request.param == "rembg" else "offline"
    return method, save(tmp_path / "two.png", opaque(rgba, behind))


def crop_of(method, path, **meant):
    _, metrics = prepare(PrepConfig(matte=method, **meant), path, Context())
    return metrics["crop"]


def crop_around(box):
    """What the prepared picture shows where a box is the object: its square, filled by .8."""
    left, top, right, bottom = box
    side = max(right - left, bottom - top) / 0.8
    return [(left + right - side) / 2, (top + bottom - side) / 2, side]


@pytest.mark.parametrize("wanted, box", [(LEFT, "15,40,170,280"), (RIGHT, "215,70,390,260")])
def test_a_box_means_the_object_in_it(photo, wanted, box):
    assert crop_of(*photo, box=box) == pytest.approx(crop_around(wanted), abs=4)


@pytest.mark.parametrize("wanted, point", [(LEFT, "90,100"), (RIGHT, "300,200"), (RIGHT, "395,150")])
def test_a_point_means_the_object_at_it_or_nearest_to_it(photo, wanted, point, request):
    if "busy" in request.node.callspec.id:
        pytest.skip("without a box, GrabCut does not tell the two apart on a busy background")
    assert crop_of(*photo, point=point) == pytest.approx(crop_around(wanted), abs=4)


def test_pixels_are_those_of_the_photo_however_small_it_is_read(tmp_path):
    path = save(
        tmp_path / "large.png", canvas((300, 600, 1500, 2600), (2300, 900, 3700, 2400), size=(3000, 4000))
    )
    _, metrics = prepare(PrepConfig(size=300, box="2200,800,3800,2500"), path, Context())
    assert metrics["crop"] == pytest.approx([2062.5, 712.5, 1875], abs=30)
    assert abs(metrics["object_pixels"] - 1500) <= 30


def test_what_reaches_into_a_box_from_outside_is_another_object():
    rgba = within_box(canvas(LEFT, RIGHT), (20, 50, 260, 270))
    assert bounding_box(rgba[..., 3]) == LEFT
    half = within_box(canvas(LEFT), (20, 50, 80, 270))  # alone, it is cropped
    assert bounding_box(half[..., 3]) == (30, 60, 80, 260)


def test_the_part_at_a_point_is_alone():
    rgba = canvas(LEFT, RIGHT, (160, 60, 163, 80))
    assert bounding_box(part_at(rgba, (100, 100))[..., 3]) == LEFT
    assert not part_at(canvas(), (100, 100)).any()


@pytest.mark.parametrize(
    "meant, words",
    [
        ({"box": "10,20,30"}, "four numbers"),
        ({"box": "10,20,10,200"}, "is empty"),
        ({"box": "10,20,500,200"}, "reaches outside of two.png, which has 400 x 300 pixels"),
        ({"box": "160,10,220,290"}, "No object was found in the given box of two.png"),
        ({"point": "10"}, "two numbers"),
        ({"point": "400,20"}, "lies outside of two.png"),
        ({"box": "10,20,30,40", "point": "3,4"}, "Both a box and a point"),
    ],
)
def test_errors(tmp_path, meant, words):
    with pytest.raises(UserError, match=words):
        prepare(PrepConfig(**meant), save(tmp_path / "two.png", canvas(LEFT, RIGHT)), Context())


@pytest.mark.parametrize("matte", ["offline", "rembg"])
def test_nothing_in_the_box_of_a_plain_photo(tmp_path, monkeypatch, matte):
    monkeypatch.setattr("sv3d_pipe.prep.matte._rembg", lambda rgb: canvas(LEFT))
    path = save(tmp_path / "one.png", opaque(canvas(LEFT), np.full(3, 0.9)))
    with pytest.raises(UserError, match="No object was found in the given box of one.png"):
        prepare(PrepConfig(matte=matte, box="300,100,390,200"), path, Context())


def test_settings_take_numbers_only():
    assert Config().replace({"prep.box": "1, 2,3,4"}).prep.box == "1, 2,3,4"
    with pytest.raises(UserError, match="prep.box must be a number, not 'left'"):
        Config().replace({"prep.box": "left"})
    with pytest.raises(UserError, match="at least 0"):
        Config().replace({"prep.point": "-1,2"})


def test_several_objects_are_kept_and_named_with_their_boxes(tmp_path):
    context = Context()
    path = save(tmp_path / "two.png", canvas(LEFT, RIGHT))
    _, metrics = prepare(PrepConfig(), path, context)
    assert metrics["parts_kept"] == 2
    assert context.warnings == [
        "There seem to be several objects in two.png; they are treated as one. Choose one with"
        " --box 28,58,152,262 or --box 228,88,372,242, or make them all with --objects each."
    ]
    chosen = Context()
    prepare(PrepConfig(box="30,60,150,260"), path, chosen)
    assert chosen.warnings == []


def test_small_parts_belong_to_the_object_near_them():
    small = (152, 100, 156, 120)
    first, second = separate(canvas(LEFT, RIGHT, small, (2, 2, 6, 6))[..., 3])
    assert bounding_box(first) == (30, 60, 156, 260) and bounding_box(second) == RIGHT
    (alone,) = separate(canvas(LEFT, small)[..., 3])
    assert bounding_box(alone) == (30, 60, 156, 260)
    assert separate(canvas()[..., 3]) == []


@pytest.mark.parametrize("transparent", [True, False])
def test_objects_are_found(tmp_path, transparent):
    rgba = canvas(LEFT, RIGHT)
    path = save(tmp_path / "two.png", rgba if transparent else opaque(rgba, np.full(3, 0.9)))
    boxes = find_boxes(PrepConfig(), path, Context())
    assert np.allclose(boxes, [LEFT, RIGHT], atol=5)
    for (left, top, right, bottom), box in zip((LEFT, RIGHT), boxes):
        assert box[0] < left and box[1] < top and box[2] > right and box[3] > bottom


def test_nothing_is_found(tmp_path):
    with pytest.raises(UserError, match="No object was found"):
        find_boxes(PrepConfig(), save(tmp_path / "gray.png", np.full((300, 400, 3), 0.5)), Context())
