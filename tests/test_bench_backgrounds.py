"""The script that collects backgrounds: every photograph once, and looks into panoramas that show what is there."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np

from sv3d_pipe.pictures import read_image, save_png

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

from backgrounds import LOOKS, VIEW, look_around  # noqa: E402


class Straight:
    """In place of a random generator: the middle of every range, and a turn by three quarters, which is a quarter from the first column."""

    def __init__(self, down_deg):
        self.down_deg, self.asked = down_deg, 0

    def uniform(self, low, high):
        self.asked += 1
        return (75.0, self.down_deg, 270.0)[(self.asked - 1) % 3]


def panorama():
    """Sky above, ground below, and a red quarter around azimuth 90 degrees."""
    light = np.full((256, 512, 3), 0.2, np.float32)
    light[128:] = 0.6
    light[:, 96:160] = (0.9, 0.1, 0.1)  # 67.5 to 112.5 degrees of 360
    return light


def test_a_level_look_sees_the_horizon_in_the_middle_and_what_lies_ahead():
    view = look_around(panorama(), Straight(0.0))[0]
    assert view.shape == (*VIEW, 3)
    middle = view[VIEW[0] // 2, VIEW[1] // 2]
    assert middle[0] > 1.5 * middle[1]  # red
    assert view[: VIEW[0] // 2 - 5, 20].mean() < view[VIEW[0] // 2 + 5 :, 20].mean()
    above, below = view[VIEW[0] // 2 - 6, 20].mean(), view[VIEW[0] // 2 + 6, 20].mean()
    assert below > 1.2 * above


def test_a_look_down_moves_the_horizon_up_by_its_tangent():
    view = look_around(panorama(), Straight(20.0))[0]
    focal = VIEW[1] / 2 / np.tan(np.radians(75 / 2))
    expected = VIEW[0] / 2 - focal * np.tan(np.radians(20))
    blue = view[:, 5, 2]  # of sky or ground, at the left border, where the horizon is a little bent
    assert abs(int(np.argmax(np.abs(np.diff(blue)))) - expected) < 60


def test_every_photograph_is_taken_once_and_small_flat_or_transparent_ones_are_not(tmp_path):
    rng = np.random.default_rng(0)
    photo = cv2.resize(rng.random((6, 8, 3)).astype(np.float32), (800, 600), interpolation=cv2.INTER_CUBIC)
    photo = np.clip(photo, 0, 1)
    (tmp_path / "in").mkdir()
    save_png(tmp_path / "in" / "a.png", photo)
    save_png(
        tmp_path / "in" / "same_smaller.png", cv2.resize(photo, (700, 525), interpolation=cv2.INTER_AREA)
    )
    save_png(tmp_path / "in" / "tiny.png", photo[:300, :400])
    save_png(tmp_path / "in" / "flat.png", np.full((600, 800, 3), 0.5, np.float32))
    save_png(tmp_path / "in" / "cut.png", np.dstack([photo[::-1], (photo[..., 0] > 0.5)]).astype(np.float32))
    cv2.imwrite(str(tmp_path / "in" / "round.hdr"), panorama()[..., ::-1])
    command = [
        sys.executable,
        str(BENCHMARKS / "backgrounds.py"),
        str(tmp_path / "in"),
        "-o",
        str(tmp_path / "out"),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert [name for name in names if "round" not in name] == ["0000_a_0.jpg"]
    assert 1 <= sum("round" in name for name in names) <= LOOKS
    kept, _ = read_image(tmp_path / "out" / "0000_a_0.jpg", 2000)
    assert np.abs(kept - photo).mean() < 0.02
