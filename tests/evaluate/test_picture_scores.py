"""Picture metrics by hand."""

import numpy as np
import pytest

from sv3d_pipe.evaluate.picture_scores import mse, psnr, silhouette_iou, ssim
from sv3d_pipe.pictures import decibels


def flat(value, size=16, alpha=1.0):
    return np.full((1, size, size, 4), (value, value, value, alpha), np.float32)


def test_psnr_by_hand():
    # Error .1 everywhere: 10 log10(1 / .01) = 20 dB. Error 1 in a quarter of the pixels: 6.02 dB.
    assert psnr(flat(0.5), flat(0.6))[0] == pytest.approx(20, abs=1e-4)
    quarter = flat(0.0)
    quarter[:, :8, :8, :3] = 1
    assert psnr(flat(0.0), quarter)[0] == pytest.approx(10 * np.log10(4), abs=1e-6)
    assert psnr(flat(0.3), flat(0.3))[0] == np.inf


def test_transparent_is_white():
    # Black at alpha .9 on white is .1; against opaque black: error .1, 20 dB.
    assert psnr(flat(0.0, alpha=0.9), flat(0.0))[0] == pytest.approx(20, abs=1e-4)
    assert psnr(flat(0.0, alpha=0.0), flat(1.0))[0] == np.inf
    white = np.ones((1, 16, 16, 3), np.float32)
    assert psnr(white, flat(0.2, alpha=0.0))[0] == np.inf


def test_frames_are_scored_apart():
    a = np.concatenate([flat(0.5), flat(0.5)])
    b = np.concatenate([flat(0.6), flat(0.51)])
    np.testing.assert_allclose(psnr(a, b), [20, 40], atol=1e-3)
    assert ssim(a, b).shape == (2,)


def test_ssim_of_flat_pictures_by_hand():
    # No variance: only the luminance term, (2 a b + c1) / (a^2 + b^2 + c1) with c1 = .01^2 at range 1.
    expected = (2 * 0.2 * 0.6 + 1e-4) / (0.2**2 + 0.6**2 + 1e-4)
    assert ssim(flat(0.2), flat(0.6))[0] == pytest.approx(expected, abs=1e-4)
    assert ssim(flat(0.2), flat(0.2))[0] == pytest.approx(1)


def test_ssim_does_not_stretch_the_range():
    # With a range read from the data this faint noise would count as full contrast.
    rng = np.random.default_rng(0)
    noise = flat(0.5) + rng.uniform(-0.005, 0.005, (1, 16, 16, 4)).astype(np.float32) * (1, 1, 1, 0)
    assert ssim(flat(0.5), noise)[0] > 0.95


def test_silhouette_iou_by_hand():
    a, b = flat(0.5, alpha=0.0), flat(0.5, alpha=0.0)
    assert silhouette_iou(a, b)[0] == 1
    a[:, :8, :, 3] = 1
    b[:, 4:12, :, 3] = 1
    assert silhouette_iou(a, b)[0] == pytest.approx(4 / 12)


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="one size"):
        psnr(flat(0.5), flat(0.5, size=8))


def test_decibels_by_hand():
    assert decibels(0.01) == pytest.approx(20.0)
    assert decibels(0.0) == 100.0


def test_mse_by_hand():
    # Error .2 in one of four quarters: .04 / 4.
    a = flat(0.5)
    a[:, :8, :8, :3] = 0.7
    assert mse(a, flat(0.5))[0] == pytest.approx(0.01, abs=1e-8)
    assert mse(a, a)[0] == 0
