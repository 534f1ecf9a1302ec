"""Fringes of discs whose outline is known."""

import numpy as np
import pytest

from sv3d_pipe.evaluate.outline import fringe


def disc(radius, size=64):
    y, x = np.mgrid[:size, :size] + 0.5 - size / 2
    return np.hypot(x, y) < radius


def test_the_outline_of_a_plain_disc_is_as_far_from_white_as_its_color():
    mask = disc(20)
    red = np.where(mask[..., None], np.array([0.9, 0.2, 0.4]), 1.0)
    assert fringe(red[None], mask[None]) == pytest.approx(0.8)


def test_a_white_ring_is_seen_and_what_lies_deeper_is_not():
    mask, inner = disc(20), disc(17)
    ringed = np.where(mask[..., None], 0.0, 1.0) * np.ones(3)
    ringed[mask & ~inner] = 0.9
    assert fringe(ringed[None], mask[None]) == pytest.approx(0.1)
    deeper = np.where(mask[..., None], 0.0, 1.0) * np.ones(3)
    deeper[disc(15)] = 0.9
    assert fringe(deeper[None], mask[None]) == pytest.approx(1.0)


def test_all_outline_pixels_count_alike_and_the_border_is_no_outline():
    half = np.zeros((32, 32), bool)
    half[:, :16] = True  # cut by the border on three sides: 2 x 32 pixels of outline
    whole, nothing = np.ones((32, 32), bool), np.zeros((32, 32), bool)
    rgb = np.full((3, 32, 32, 3), 0.4)
    rgb[0, :, 15] = 0.8
    assert fringe(rgb, np.stack([half, whole, nothing])) == pytest.approx((0.2 + 0.6) / 2)
    assert np.isnan(fringe(rgb[:1], whole[None]))
