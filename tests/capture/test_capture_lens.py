"""From points to pixels, by hand: off-center principal points, both distortion models, transforms' fields."""

from pathlib import Path

import numpy as np
import pytest

from sv3d_pipe.capture.lens import Lens, read_lens
from sv3d_pipe.errors import UserError

NAME = Path("a.png")
PINHOLE = Lens(160, 120, 100.0, 50.0, 70.0, 30.0)


def test_a_known_point_meets_its_pixel_with_the_principal_point_off_center():
    # Camera at (4, 0, 3) turned to look along world -x: its x axis is world -z, its back axis world +x.
    c2w = np.array([[0, 0, 1, 4], [0, 1, 0, 0], [-1, 0, 0, 3], [0, 0, 0, 1.0]])
    point = np.array([-6.0, 2.0, 2.0])  # 10 ahead, 1 to the right, 2 up
    local = c2w[:3, :3].T @ (point - c2w[:3, 3])
    np.testing.assert_allclose(local, [1, 2, -10])
    xy, seen = PINHOLE.project(local[None])
    np.testing.assert_allclose(xy, [[70 + 100 * 1 / 10, 30 - 50 * 2 / 10]])
    assert seen[0]
    ray = c2w[:3, :3] @ PINHOLE.unproject(xy)[0]
    np.testing.assert_allclose(c2w[:3, 3] + ray * np.linalg.norm(local), point)


def test_what_lies_behind_or_beside_the_picture_is_not_seen():
    rays = np.array([[1.0, 2, 10], [0, 0, -1], [-0.71, 0, -1], [0.89, 0, -1], [0.91, 0, -1]])
    np.testing.assert_array_equal(PINHOLE.project(rays)[1], [False, True, False, True, False])


def test_brown_distortion_by_hand():
    lens = Lens(160, 120, 100.0, 100.0, 80.0, 60.0, (0.5, 0, 0.1, 0, 0, 0, 0, 0))
    x, y = 0.3, 0.1
    radial = 1 + 0.5 * (x * x + y * y)
    # OpenCV: x' = x radial + 2 p1 x y, y' = y radial + p1 (r^2 + 2 y^2)
    expected = [80 + 100 * (x * radial + 0.2 * x * y), 60 + 100 * (y * radial + 0.1 * (0.1 + 2 * y * y))]
    xy, seen = lens.project(np.array([[x, -y, -1.0]]))
    np.testing.assert_allclose(xy[0], expected)
    assert seen[0]
    np.testing.assert_allclose(lens.unproject(xy)[0] * np.sqrt(1.1), [x, -y, -1], atol=1e-8)


def test_fisheye_distortion_by_hand():
    lens = Lens(160, 120, 50.0, 50.0, 80.0, 60.0, (0.1, 0, 0, 0), fisheye=True)
    angle = np.radians(40)
    ray = np.array([[np.sin(angle), 0, -np.cos(angle)]])
    xy, seen = lens.project(ray)
    np.testing.assert_allclose(xy[0], [80 + 50 * (angle + 0.1 * angle**3), 60])
    assert seen[0]
    np.testing.assert_allclose(lens.unproject(xy), ray, atol=1e-6)


def test_rays_that_a_distortion_folds_back_into_the_picture_are_not_seen():
    lens = Lens(100, 100, 100.0, 100.0, 50.0, 50.0, (-0.5, 0, 0, 0, 0, 0, 0, 0))
    tangent = 1.3  # the polynomial puts it at 1.3 (1 - 0.5 * 1.69) = 0.2, well inside
    _, seen = lens.project(np.array([[tangent, 0, -1.0], [0.2, 0, -1.0]]))
    np.testing.assert_array_equal(seen, [False, True])


def test_a_resized_picture_has_a_resized_lens():
    half = PINHOLE.scaled(80, 60)
    ray = np.array([[0.1, 0.2, -1.0]])
    np.testing.assert_allclose(half.project(ray)[0], PINHOLE.project(ray)[0] / 2)


def test_a_model_that_is_null_is_the_usual_one():
    lens = read_lens({"fl_x": 70, "k1": 0.1, "camera_model": None}, 200, 100, NAME)
    assert lens == read_lens({"fl_x": 70, "k1": 0.1}, 200, 100, NAME)


def test_angles_and_defaults():
    lens = read_lens({"camera_angle_x": np.pi / 2}, 200, 100, NAME)
    assert (lens.fl_x, lens.fl_y, lens.cx, lens.cy) == pytest.approx((100, 100, 100, 50))
    lens = read_lens({"camera_angle_x": np.pi / 2, "camera_angle_y": 2 * np.arctan(0.5)}, 200, 100, NAME)
    assert (lens.fl_x, lens.fl_y) == pytest.approx((100, 100))
    lens = read_lens({"fl_x": 70, "camera_angle_x": 1.0, "cx": 0, "camera_model": "PINHOLE"}, 200, 100, NAME)
    assert (lens.fl_x, lens.fl_y, lens.cx, lens.cy) == (70, 70, 0, 50)
    assert lens.distortion == ()


def test_intrinsics_of_a_larger_picture_are_scaled():
    lens = read_lens({"w": 400, "h": 200, "fl_x": 300, "cx": 210, "cy": 90}, 200, 100, NAME)
    assert (lens.width, lens.height, lens.fl_x, lens.cx, lens.cy) == (200, 100, 150, 105, 45)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"w": 200, "h": 100}, "no focal length"),
        ({"fl_x": 0}, "must be above 0"),
        ({"fl_x": float("nan")}, "must be a number"),
        ({"fl_x": 10**400}, "must be a number"),
        ({"fl_x": 1e-300}, "which no lens has"),
        ({"fl_x": 1e6}, "which no lens has"),
        ({"fl_x": 70, "w": -3, "h": 2}, "must be at least 1"),
        ({"fl_x": 70, "w": 1e300, "h": 1e300}, "must be a number of at most"),
        ({"fl_x": 70, "cx": 1e6}, "far outside of the picture"),
        ({"fl_x": 70, "k1": 1e6}, "distortion of .* is so large"),
        ({"fl_x": 70, "p1": 1e3}, "distortion of .* is so large"),
        ({"fl_x": "70"}, "must be a number"),
        ({"camera_angle_x": 50.0}, "between 0 and pi radians"),
        ({"fl_x": 70, "w": 100, "h": 100}, "correct w and h"),
        ({"fl_x": 70, "camera_model": "EQUIRECTANGULAR"}, "EQUIRECTANGULAR of a.png is not supported"),
        ({"fl_x": 70, "k4": 0.1}, "undistort"),
    ],
)
def test_wrong_intrinsics_are_one_sentence(values, sentence):
    with pytest.raises(UserError, match=sentence):
        read_lens(values, 200, 100, NAME)
