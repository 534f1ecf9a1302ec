import numpy as np
import pytest
import trimesh

from sv3d_pipe.dataset.invented.toys import procedural
from sv3d_pipe.dataset.trajectories import Trajectory, content_radius, depths, draw_photos, draw_trajectory
from sv3d_pipe.render.draw import render_views
from sv3d_pipe.render.objects import from_trimesh


def rng(seed=0):
    return np.random.default_rng(seed)


def test_static_orbits_keep_their_height_and_go_round_evenly():
    for seed in range(20):
        path = draw_trajectory("static", 21, rng(seed))
        assert np.ptp(path.elevation_deg) == 0 and -5 <= path.elevation_deg[0] <= 30
        steps = np.diff(path.azimuth_deg) % 360
        np.testing.assert_allclose(steps, 360 / 21, atol=2e-4)


def test_sine_orbits_return_to_the_photo_between_up_and_down():
    path = draw_trajectory("sine", 84, rng(3))
    photo = path.elevation_deg[-1]
    assert path.elevation_deg.max() == pytest.approx(photo + 30, abs=0.05)
    assert path.elevation_deg.min() == pytest.approx(photo - 30, abs=0.05)
    assert path.elevation_deg[41] == pytest.approx(photo, abs=0.05)  # half way round


def test_dynamic_orbits_are_those_of_the_released_demo_from_another_start():
    from sv3d_pipe.cameras import dynamic_angles

    draws = rng(7)
    start, photo, seed = draws.uniform(0, 360), draws.uniform(-5, 30), int(draws.integers(2**31))
    azimuth, elevation = dynamic_angles(photo, 21, seed)
    path = draw_trajectory("dynamic", 21, rng(7))
    np.testing.assert_allclose((path.azimuth_deg - start - azimuth + 180) % 360, 180, atol=1e-3)
    np.testing.assert_allclose(path.elevation_deg, elevation, atol=1e-3)


def test_random_views_spread_over_azimuths_and_heights():
    path = draw_trajectory("random", 48, rng(1))
    gaps = np.diff(np.sort(path.azimuth_deg))
    assert gaps.max() < 2 * 360 / 48
    assert path.elevation_deg.min() < -15 and path.elevation_deg.max() > 35


def test_the_last_third_of_photos_is_from_any_side_and_the_others_as_an_orbit_of_photos():
    shots, orbit = draw_photos(6, rng(3)), draw_trajectory("photos", 6, rng(3))
    np.testing.assert_array_equal(shots.azimuth_deg[:4], orbit.azimuth_deg[:4])
    np.testing.assert_array_equal(shots.elevation_deg, orbit.elevation_deg)
    aside = np.concatenate([draw_photos(6, rng(seed)).azimuth_deg[4:] for seed in range(200)])
    assert np.histogram(aside, 4, (0, 360))[0].min() > 70  # of 400
    assert len(draw_photos(0, rng(0)).azimuth_deg) == 0


def test_photos_are_taken_from_all_sides_and_an_ordinary_height():
    path = draw_trajectory("photos", 400, rng(2))
    off = (path.azimuth_deg + 45) % 90 - 45
    assert np.mean(off == 0) == pytest.approx(0.6, abs=0.1) and off[off != 0].std() > 12
    assert set(np.round(path.azimuth_deg / 90) % 4) == {0, 1, 2, 3}
    assert path.elevation_deg.min() >= -5 and path.elevation_deg.max() <= 30


def test_the_depth_of_a_block_depends_on_the_side_it_is_seen_from():
    """2 wide, 1 high, 0.5 deep: 0.5 / 2 from the front, 2 / 1 from the side, (2 + 0.5) / (2 + 0.5) between."""
    block = from_trimesh(trimesh.creation.box((2, 1, 0.5)))
    assert depths(block, np.array([0.0, 90, 180, 45])).tolist() == [0.25, 2, 0.25, 1]


def test_the_distance_of_a_plate_seen_from_the_front_is_that_of_its_edge():
    """A square plate of side 1 at z = 0: 0.5 / (fill tan 16.9 degrees), with fill 1 FACTS' 1.646."""
    plate = trimesh.creation.box((1, 1, 1e-6))
    front = Trajectory(np.zeros(1), np.zeros(1))
    assert content_radius(from_trimesh(plate), front, fill=1.0) == pytest.approx(1.6457, abs=1e-3)
    cube = from_trimesh(trimesh.creation.box((1, 1, 1)))  # its front face is half a unit nearer
    assert content_radius(cube, front, fill=1.0) == pytest.approx(1.6457 + 0.5, abs=1e-3)


@pytest.mark.parametrize("seed", range(4))
def test_content_fills_the_frame_and_is_never_cut(seed):
    obj, path = procedural(seed), draw_trajectory("sine", 9, rng(seed))
    radius = content_radius(obj, path)
    assert content_radius(obj, path, fill=1.0) <= obj.camera_radius(margin=1.0) + 1e-3
    alpha = render_views(obj, path.cameras(radius), 200)[..., 3]
    rows, columns = alpha.max((0, 2)) > 0, alpha.max((0, 1)) > 0
    reach = max(np.abs(np.flatnonzero(line) - 99.5).max() for line in (rows, columns))
    assert 93 <= reach <= 96  # 95 of 100 pixels from the middle
