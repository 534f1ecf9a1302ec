"""Orbits framed anew, as prep frames a photo."""

import numpy as np
import pytest
import torch
from training_fakes import record, with_photos

from sv3d_pipe.finetune.known_views import KnownViews
from sv3d_pipe.finetune.reframe import MOST, reframe
from sv3d_pipe.orbit.mini.pixel_codec import PixelCodec
from sv3d_pipe.orbit.mini.voxels import frame_axes, project
from sv3d_pipe.prep.frame import bounding_box, recenter


def axes(azimuth_deg, elevation_deg):
    azimuth_deg, elevation_deg = (torch.tensor(angles).float() for angles in (azimuth_deg, elevation_deg))
    return frame_axes(torch.deg2rad(90 - elevation_deg), torch.deg2rad(azimuth_deg))


def discs(where: torch.Tensor, radius: float, size: int = 64) -> torch.Tensor:
    """White discs around [T, 2] positions in half widths: latents [T, 4, S, S]."""
    middles = (torch.arange(size) + 0.5) * 2 / size - 1
    y, x = torch.meshgrid(middles, middles, indexing="ij")
    inside = [torch.hypot(x - u, y - v) < radius for u, v in where]
    return torch.stack(inside).float()[:, None].expand(-1, 4, -1, -1) * 2 - 1


def middle_and_side(alpha: torch.Tensor) -> tuple[np.ndarray, float]:
    left, top, right, bottom = bounding_box(alpha.numpy())
    size = len(alpha)
    return np.array([left + right, top + bottom]) / size - 1, max(right - left, bottom - top) / size


def test_a_ball_off_the_middle_comes_to_it_in_every_view():
    """The ball lies in the photo's plane through the origin, so moving it there moves it to the origin."""
    cameras = axes([0.0, 90.0, 200.0, 40.0], [10.0, -20.0, 45.0, 15.0])
    ball = 0.2 * cameras[-1, 0] + 0.15 * cameras[-1, 1]
    where, _ = project(ball[None], cameras[None])
    framed = reframe(discs(where[0, :, 0], 0.4), cameras)
    alpha = framed[:, 3] / 2 + 0.5
    for view in alpha:
        middle, side = middle_and_side(view)
        np.testing.assert_allclose(middle, 0, atol=0.05)  # a pixel and a half
        assert side == pytest.approx(0.8, abs=0.05)


def test_the_photo_becomes_what_prep_makes_of_it():
    rgba = record(4, views=5, size=64, static=False).rgba.float() / 255
    codec = PixelCodec(size=64)
    cameras = axes([0.0, 50.0, 100.0, 200.0, 300.0], [5.0, 10.0, 20.0, 0.0, 10.0])
    framed = reframe(codec.encode(rgba.permute(0, 3, 1, 2)), cameras)[-1]
    prepared = torch.from_numpy(recenter(rgba[-1].numpy(), 0.8, 64)).permute(2, 0, 1)
    error = (framed - codec.encode(prepared[None])[0]).abs()
    assert error.mean() < 0.05 < (codec.encode(rgba[-1:].permute(0, 3, 1, 2))[0] - framed).abs().mean()


def test_an_empty_photo_stays_and_a_speck_grows_within_bounds():
    cameras = axes([0.0, 90.0], [0.0, 0.0])
    empty = -torch.ones(2, 4, 32, 32)
    assert torch.equal(reframe(empty, cameras), empty)
    speck = discs(torch.zeros(2, 2), 0.06)
    grown = reframe(speck, cameras)
    assert ((grown + 1).sum() / (speck + 1).sum()).item() == pytest.approx(MOST**2, rel=0.1)


@pytest.mark.parametrize("seed", [None, 0, 1, 2])
def test_examples_are_framed_anew(nothing_seen, seed):
    rng = None if seed is None else np.random.default_rng(seed)
    photo = known_views(7).views(0, np.array([1, 4, 14]), rng).photo
    middle, side = middle_and_side(photo[3] / 2 + 0.5)
    np.testing.assert_allclose(middle, 0, atol=0.07)
    assert side == pytest.approx(0.8, abs=0.07)


def test_a_mirrored_orbit_moves_the_mirrored_way(nothing_seen):
    """Mirrored, then framed anew, or framed anew, then mirrored: the same."""
    found, views = {}, known_views(8)
    for seed in range(8):
        example = views.views(0, np.array([0, 2, 13]), np.random.default_rng(seed))
        found[example.mirrored] = example.clean[:, 3]
    torch.testing.assert_close(found[True].flip(-1), found[False], atol=1e-4, rtol=0)


def known_views(seed: int) -> KnownViews:
    """Of one toy; views 8 and more are its photos."""
    return KnownViews(
        [with_photos(record(seed, views=8, size=32))], PixelCodec(size=32), 3, torch.device("cpu")
    )


@pytest.fixture
def nothing_seen(monkeypatch):
    """The recognizer's work is not needed here."""
    nothing = torch.zeros(1, 120, 12, 12), torch.zeros(1, 1280)
    monkeypatch.setattr("sv3d_pipe.finetune.known_views.seen", lambda photos: nothing)
