"""From the settings to the camera's path."""

import numpy as np
import pytest

from sv3d_pipe.cameras import orbit_angles
from sv3d_pipe.config import Config, OrbitConfig
from sv3d_pipe.errors import UserError
from sv3d_pipe.orbit.angles import camera_angles


def angles(seed=0, **settings):
    return camera_angles(Config().replace({f"orbit.{k}": v for k, v in settings.items()}).orbit, seed)


@pytest.mark.parametrize("kind", ["sine", "static", "dynamic"])
def test_the_kinds_are_those_of_cameras(kind):
    config = OrbitConfig(kind=kind, elevation_deg=5.0, amplitude_deg=20.0)
    np.testing.assert_array_equal(camera_angles(config, 3), orbit_angles(kind, 5.0, 20.0, seed=3))


def test_given_azimuths_are_relative_to_the_last_and_keep_the_kinds_elevation():
    azimuth_deg, elevation_deg = angles(
        azimuths="10, 100,190 ,280", kind="sine", elevation_deg=10, amplitude_deg=30
    )
    np.testing.assert_allclose(azimuth_deg, [90, 180, 270, 0])
    np.testing.assert_allclose(elevation_deg, [40, 10, -20, 10], atol=1e-12)
    assert set(angles(azimuths="10,100", kind="static", elevation_deg=7)[1]) == {7.0}


def test_given_elevations_are_the_frames():
    azimuth_deg, elevation_deg = angles(elevations="-5,20,0,12")
    np.testing.assert_allclose(azimuth_deg, [90, 180, 270, 0])
    np.testing.assert_allclose(elevation_deg, [-5, 20, 0, 12])
    azimuth_deg, elevation_deg = angles(elevations="1,2", azimuths="40,360")
    np.testing.assert_allclose([azimuth_deg, elevation_deg], [[40, 0], [1, 2]])


@pytest.mark.parametrize(
    "settings, sentence",
    [
        ({"azimuths": "1,2,3", "elevations": "1,2"}, "3 values and orbit.elevations 2"),
        ({"azimuths": "1"}, "at least two frames"),
        ({"kind": "dynamic", "elevations": "1,2"}, "draws its own angles"),
        ({"azimuths": "1,x"}, "orbit.azimuths must be a number, not 'x'"),
        ({"azimuths": "1,,2"}, "must be a number, not ''"),
        ({"azimuths": "0,1000"}, "at least -360 and at most 720"),
        ({"elevations": "0,90"}, "orbit.elevations must be at least -89 and at most 89"),
        ({"elevations": 5}, "text with numbers"),
    ],
)
def test_what_cannot_be_an_orbit_is_told_in_one_sentence(settings, sentence):
    with pytest.raises(UserError, match=sentence):
        angles(**settings)


def test_empty_lists_are_the_default():
    assert OrbitConfig().azimuths == "" == Config().replace({"orbit.azimuths": " "}).orbit.azimuths
