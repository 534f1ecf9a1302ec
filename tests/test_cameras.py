from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from sv3d_pipe.cameras import Cameras, load_transforms, orbit, orbit_angles, orbit_azimuths, save_transforms
from sv3d_pipe.render.draw import render_views


def test_the_photo_camera_stands_on_plus_z_and_looks_at_the_origin():
    camera = orbit([0.0], 0.0, radius=2.0)
    np.testing.assert_allclose(camera.origins, [[0, 0, 2]], atol=1e-6)
    np.testing.assert_allclose(camera.c2w[0, :3, :3], np.eye(3), atol=1e-6)


def test_azimuth_90_is_plus_x_and_elevation_is_up():
    cameras = orbit([90.0, 0.0], [0.0, 90.0 - 1e-4], radius=1.0)
    np.testing.assert_allclose(cameras.origins, [[1, 0, 0], [0, 1, 0]], atol=1e-5)


def test_rays_and_project_are_inverse():
    cameras = orbit([0.0, 40.0, 200.0], [10.0, -20.0, 35.0])
    origins, directions = cameras.rays(8)
    for n in range(3):
        points = origins[n] + 1.7 * directions[n].reshape(-1, 3)
        xy, depth = cameras[n].project(points, 8)
        centers = np.stack(np.meshgrid(np.arange(8), np.arange(8)), -1).reshape(-1, 2) + 0.5
        np.testing.assert_allclose(xy[0], centers, atol=1e-4)
        assert (depth > 0).all()


def test_visible_radius_touches_the_frame():
    camera = orbit([0.0], 0.0, radius=2.0)
    r = camera.visible_radius
    # The tangent point of the cone on the sphere, by hand: at angle fov/2 from the vertical axis.
    half = np.radians(camera.fov_deg / 2)
    tangent = np.array([[0.0, r * np.cos(half), r * np.sin(half)]])
    xy, _ = camera.project(tangent, 100)
    np.testing.assert_allclose(xy[0, 0], [50, 0], atol=1e-3)


def test_orbits_end_at_the_photo():
    azimuth = orbit_azimuths(21)
    np.testing.assert_allclose(azimuth[[0, 1, 20]], [360 / 21, 720 / 21, 0])
    azimuth, elevation = orbit_angles("sine", 10.0)
    assert elevation[-1] == pytest.approx(10.0)
    np.testing.assert_allclose(elevation, 10 + 30 * np.sin(np.radians(azimuth)))
    assert set(orbit_angles("static", 5.0)[1]) == {5.0}


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_dynamic_orbits_are_those_of_the_released_demo(seed):
    """Reference numbers computed with the released code, base elevation 10 degrees; seed 2 redraws once."""
    numbers = load_file(Path(__file__).parent / "data" / "dynamic_orbits.safetensors")
    azimuth, elevation = orbit_angles("dynamic", 10.0, seed=seed)
    np.testing.assert_allclose(np.radians(azimuth), numbers[f"seed{seed}.azimuth_rad"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(
        np.radians(elevation), numbers[f"seed{seed}.elevation_rad"], rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("base", [-80.0, 0.0, 45.0, 80.0])
def test_dynamic_orbits_end_at_the_photo_and_stay_below_the_pole(base):
    azimuth, elevation = orbit_angles("dynamic", base, n_frames=9, seed=5)
    assert azimuth.shape == elevation.shape == (9,)
    assert azimuth[-1] == 0 and (np.diff(azimuth[:-1]) > 0).all() and 0 < azimuth[0] < azimuth[-2] < 360
    assert elevation[-1] == pytest.approx(base) and np.abs(elevation).max() <= 89
    assert np.ptp(elevation) > 5


@pytest.mark.parametrize(
    ("azimuth", "elevation", "color"),
    [(0, 0, (0, 0, 1)), (90, 0, (1, 0, 0)), (180, 0, (1, 1, 0)), (270, 0, (0, 1, 1)), (0, 89.9, (0, 1, 0))],
)
def test_an_asymmetric_object_shows_the_right_side(colored_cube, azimuth, elevation, color):
    cameras = orbit([azimuth], elevation, colored_cube.camera_radius())
    view = render_views(colored_cube, cameras, 33)[0]
    np.testing.assert_allclose(view[16, 16], [*color, 1], atol=1e-3)


def test_growing_azimuth_brings_the_plus_x_side_in_from_the_right(colored_cube):
    view = render_views(colored_cube, orbit([30.0], 0.0, colored_cube.camera_radius()), 64)[0]
    red = (view[..., 0] > 0.9) & (view[..., 1] < 0.1)
    blue = (view[..., 2] > 0.9) & (view[..., 1] < 0.1)
    assert np.nonzero(red)[1].mean() > 32 > np.nonzero(blue)[1].mean()


def test_top_of_the_object_is_at_row_zero(colored_cube):
    view = render_views(colored_cube, orbit([0.0], 30.0, colored_cube.camera_radius()), 64)[0]
    green = (view[..., 1] > 0.9) & (view[..., 0] < 0.1) & (view[..., 2] < 0.1)
    assert np.nonzero(green)[0].mean() < 32


def test_transforms_round_trip(tmp_path):
    cameras = orbit([10.0, 20.0], [0.0, 5.0])
    save_transforms(tmp_path / "transforms.json", cameras, 64, ["a.png", "b.png"])
    loaded, names = load_transforms(tmp_path / "transforms.json")
    np.testing.assert_allclose(loaded.c2w, cameras.c2w)
    assert loaded.fov_deg == pytest.approx(cameras.fov_deg)
    assert names == ["a.png", "b.png"]


def test_wrong_shape_is_refused():
    with pytest.raises(ValueError, match=r"\[N, 4, 4\]"):
        Cameras(np.eye(4))
