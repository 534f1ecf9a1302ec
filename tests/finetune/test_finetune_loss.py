import math

import pytest
import torch
from training_fakes import toy_recipe

from sv3d_pipe.finetune.examples import Batch
from sv3d_pipe.finetune.loss import (
    denoise,
    denoising_loss,
    draw_noise,
    draw_sigma,
    frame_weight,
    sigma_weight,
)


def batch(frames: int = 2, token: bool = True) -> Batch:
    generator = torch.Generator().manual_seed(1)
    clean = torch.randn(3, frames, 4, 2, 2, generator=generator)
    tokens = torch.randn(3, 1, 5, generator=generator) if token else None
    ids = torch.zeros(3, frames, 3)
    ids[:, 0, 2] = math.pi
    return Batch(clean, 2 * clean[:, -1], tokens, ids)


def draw(recipe, count: int) -> torch.Tensor:
    return torch.stack([draw_sigma(recipe, torch.Generator().manual_seed(k)) for k in range(count)])


def test_noise_levels():
    pure = draw(toy_recipe(noise_share=1.0), 1000)
    assert pure.min() >= 30 and pure.max() <= 700
    usual = draw(toy_recipe(noise_share=0.0, p_mean=-0.5, p_std=0.9), 2000).log()
    assert usual.mean().item() == pytest.approx(-0.5, abs=0.1)
    assert usual.std().item() == pytest.approx(0.9, abs=0.1)
    mixed = draw(toy_recipe(noise_share=0.5, p_mean=-5, p_std=0.1), 1000)
    assert (mixed > 1).float().mean().item() == pytest.approx(0.5, abs=0.06)


def test_noise_depends_on_the_examples_number_alone():
    recipe = toy_recipe(drop_photo=0.5)
    draws = [draw_noise(recipe, lambda g: draw_sigma(recipe, g), n, (2, 4, 2, 2)) for n in ([7, 8], [8])]
    assert torch.equal(draws[0].unit[1], draws[1].unit[0]) and draws[0].sigma[1] == draws[1].sigma[0]
    many = draw_noise(recipe, lambda g: draw_sigma(recipe, g), range(400), (1, 1, 1, 1))
    assert many.sees_photo.float().mean().item() == pytest.approx(0.5, abs=0.1)


def test_weights_by_hand():
    """sigma 1: (1 + 1) / 1 = 2; sigma 1/2: 1.25 / .25 = 5; sigma 1/3: (10 / 9) * 9 = 10, capped at 5."""
    sigma = torch.tensor([1.0, 0.5, 1 / 3])
    torch.testing.assert_close(sigma_weight(sigma, 5.0), torch.tensor([2.0, 5.0, 5.0]))
    torch.testing.assert_close(sigma_weight(sigma, 0.0), torch.tensor([2.0, 5.0, 10.0]))
    # front .5: before .5, at the side .75, behind 1; their mean is .75
    azimuth = torch.tensor([[0.0, math.pi / 2, math.pi]])
    torch.testing.assert_close(frame_weight(azimuth, 0.5), torch.tensor([[2 / 3, 1.0, 4 / 3]]))
    torch.testing.assert_close(frame_weight(azimuth, 1.0), torch.ones(1, 3))
    assert frame_weight(azimuth, 0.0)[0, 0] == 0


def test_uncapped_the_loss_is_that_of_the_velocity():
    """EDM's clean-frame error with weight (sigma^2 + 1) / sigma^2 equals the squared velocity error."""
    examples, recipe = batch(), toy_recipe(weight_cap=0.0, front_weight=1.0)
    noise = draw_noise(recipe, lambda g: draw_sigma(recipe, g), range(3), (2, 4, 2, 2))
    said = torch.randn(3, 2, 4, 2, 2, generator=torch.Generator().manual_seed(2))

    def unet(sample, timestep, tokens, ids, return_dict):
        return (said,)

    s = noise.sigma[:, None, None, None, None]
    true = (noise.unit - s * examples.clean) / (s**2 + 1).sqrt()  # v = (noise - sigma x) / sqrt(1 + sigma^2)
    expected = (said - true).square().mean()
    torch.testing.assert_close(denoising_loss(unet, examples, noise, recipe), expected)


def test_the_network_is_asked_as_the_pipeline_asks_it():
    """Scaled frames, then the unscaled photo latent; zeros in place of a photo and token that are not seen."""
    examples, asked = batch(), {}

    def unet(sample, timestep, tokens, ids, return_dict):
        asked.update(sample=sample, timestep=timestep, tokens=tokens, ids=ids)
        return (torch.zeros_like(sample[:, :, :4]),)

    sigma = torch.tensor([1.0, 2.0, 3.0])
    noisy = torch.ones(3, 2, 4, 2, 2)
    denoised = denoise(unet, noisy, sigma, examples, torch.tensor([True, False, True]))
    assert asked["sample"][1, 0, 0, 0, 0].item() == pytest.approx(1 / math.sqrt(5))
    assert torch.equal(asked["sample"][0, 1, 4:], examples.photo[0])
    assert asked["sample"][1, :, 4:].count_nonzero() == 0 and asked["tokens"][1].count_nonzero() == 0
    assert torch.equal(asked["tokens"][2], examples.token[2])
    torch.testing.assert_close(asked["timestep"], sigma.log() / 4)
    assert denoised[2, 0, 0, 0, 0].item() == pytest.approx(0.1)  # c_skip = 1 / (9 + 1)
