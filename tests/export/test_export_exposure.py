import numpy as np
import pytest

from sv3d_pipe.export import exposure
from sv3d_pipe.export.exposure import agree


def test_two_views_that_see_one_point(monkeypatch):
    """Anchor 0.5, other 0.3, both of trust 1: without a pull the other is raised by 0.2."""
    rgb = np.full((2, 1, 3), 0.5)
    rgb[1] = 0.3
    monkeypatch.setattr(exposure, "STAY", 0.0)
    assert agree(rgb, np.ones((2, 1)), 0) == pytest.approx(np.array([[0] * 3, [0.2] * 3]), abs=1e-6)
    # With a pull of S: (0.3 + x - m)^2 + (0.5 - m)^2 + S x^2, m the mean, is least at x = 0.2 / (1 + 2 S).
    monkeypatch.setattr(exposure, "STAY", 0.5)
    assert agree(rgb, np.ones((2, 1)), 0)[1] == pytest.approx(0.1, abs=1e-6)


def test_shifts_reach_views_that_share_no_point_with_the_anchor():
    """A chain of five views, each overlapping only the next, drifts by 0.05 each time."""
    truth = np.random.default_rng(0).random((60, 3)) * 0.5 + 0.25
    drift = np.arange(5)[:, None] * np.float32((0.05, 0, -0.05))
    trust = np.zeros((5, 60))
    for view in range(5):
        trust[view, view * 10 : view * 10 + 20] = 1
    shifts = agree(truth[None] + drift[:, None], trust, 0)
    assert np.all(shifts[0] == 0)
    assert np.abs(shifts + drift).max() < 0.05  # the pull leaves some at the far end
    assert np.abs(shifts + drift).mean() < 0.3 * np.abs(drift).mean()


def test_views_that_agree_or_see_nothing_stay():
    rgb = np.random.default_rng(1).random((1, 50, 3)).repeat(4, 0)
    trust = np.ones((4, 50))
    trust[2] = 0
    rgb[2] = 0.9
    assert np.abs(agree(rgb, trust, 3)).max() < 1e-6
    assert np.all(agree(rgb * 0, trust * 0, 3) == 0)
