import numpy as np
import pytest
import torch
from orbit_fakes import FormulaDenoiser, formula_pipeline, half_disc
from safetensors.torch import load_file

from sv3d_pipe.cameras import orbit_angles
from sv3d_pipe.orbit.conditioning import edm_scalings
from sv3d_pipe.orbit.prior import OrbitPrior
from sv3d_pipe.orbit.schedulers import dpm_scheduler, euler_scheduler


@pytest.fixture(scope="module")
def numbers(request):
    return load_file(request.path.parent.parent / "data" / "sampler.safetensors")


@pytest.mark.parametrize("steps", [1, 2, 5, 10, 20, 25, 30, 50])
def test_noise_levels(numbers, steps):
    scheduler = euler_scheduler()
    scheduler.set_timesteps(steps)
    torch.testing.assert_close(scheduler.sigmas, numbers[f"sigmas.{steps}"], rtol=1e-5, atol=0)
    torch.testing.assert_close(
        scheduler.timesteps, numbers[f"sigmas.{steps}"][:-1].log() / 4, rtol=1e-5, atol=1e-5
    )
    assert float(scheduler.init_noise_sigma) == pytest.approx((700.0**2 + 1) ** 0.5, rel=1e-5)


def noise_levels(steps: int) -> list[float]:
    """sigma_i = (smax^(1/7) + i/(n-1) (smin^(1/7) - smax^(1/7)))^7, then 0 (Karras et al. 2022, eq. 5)."""
    high, low = 700.0 ** (1 / 7), 0.002 ** (1 / 7)
    return [(high + i / (steps - 1) * (low - high)) ** 7 for i in range(steps)] + [0.0]


def plain_euler(denoise, noise: torch.Tensor, steps: int) -> torch.Tensor:
    """Algorithm 1 of Karras et al. 2022 with Euler steps only, in double precision."""
    sigmas = noise_levels(steps)
    x = noise.double() * (1 + sigmas[0] ** 2) ** 0.5
    for sigma, following in zip(sigmas, sigmas[1:]):
        x = x + (x - denoise(x, sigma)) / sigma * (following - sigma)
    return x


def guided(network, image, polar, azimuth, max_scale: float):
    """D = D_u + scale_k (D_c - D_u); scales 1, ..., max, ..., 1 over the frames."""
    ids = torch.stack([torch.full_like(polar, 1e-5), polar, azimuth], -1)[None]
    v = torch.arange(len(polar), dtype=torch.float64) / (len(polar) - 1)
    scale = (1 + (max_scale - 1) * (1 - (2 * v - 1).abs()))[:, None, None, None]

    def one(x, sigma, image):
        c_skip, c_out = 1 / (sigma**2 + 1), -sigma / (sigma**2 + 1) ** 0.5
        rows = torch.cat([x / (sigma**2 + 1) ** 0.5, image.expand(len(x), -1, -1, -1)], 1)[None]
        return c_skip * x + c_out * network(rows, np.log(sigma) / 4, None, ids)[0][0]

    def denoise(x, sigma):
        unconditional = one(x, sigma, torch.zeros_like(image))
        return unconditional + scale * (one(x, sigma, image) - unconditional)

    return denoise


@pytest.mark.parametrize("max_scale", [1.0, 2.5])
def test_pipeline_is_plain_edm_euler_with_triangle_guidance(max_scale):
    pipeline, photo, steps = formula_pipeline(), half_disc(), 7
    azimuth_deg, elevation_deg = orbit_angles("sine", 10.0)
    latents = pipeline(
        photo,
        azimuth_deg,
        elevation_deg,
        num_inference_steps=steps,
        max_guidance_scale=max_scale,
        generator=torch.Generator().manual_seed(23),
        output_type="latent",
    ).frames

    draws = torch.Generator().manual_seed(23)  # the photo's noise first, then the frames'
    clean = pipeline.vae.encode(torch.from_numpy(photo).permute(2, 0, 1)[None])
    image = clean + 1e-5 * torch.randn(clean.shape, generator=draws)
    noise = torch.randn((21, 4, 8, 8), generator=draws)
    polar = torch.from_numpy(np.radians(90 - elevation_deg))
    azimuth = torch.from_numpy(np.radians(azimuth_deg))
    denoise = guided(pipeline.unet.double(), image.double(), polar, azimuth, max_scale)
    expected = plain_euler(denoise, noise, steps)
    assert (latents - expected).abs().max() < 2e-4
    assert expected.std() > 0.05


def test_guidance_rows_are_unconditional_then_conditional():
    pipeline = formula_pipeline()
    pipeline(half_disc(), num_inference_steps=2, max_guidance_scale=2.0, cond_aug=0.0)
    sample, _, tokens, ids = pipeline.unet.calls[0]
    image = pipeline.encode_photo(half_disc(), 10.0).latents[0]
    assert sample.shape == (2, 21, 8, 8, 8) and tokens is None
    assert torch.equal(sample[0, :, :4], sample[1, :, :4])
    assert not sample[0, :, 4:].any()
    assert all(torch.equal(sample[1, k, 4:], image) for k in range(21))
    assert torch.equal(ids[0], ids[1])  # the poses stay in the unconditional half


def test_full_guidance_of_one_skips_the_unconditional_half():
    pipeline = formula_pipeline()
    pipeline(half_disc(), num_inference_steps=2, max_guidance_scale=1.0)
    assert [call[0].shape[0] for call in pipeline.unet.calls] == [1, 1]


def test_image_latent_is_not_scaled_by_the_noise_level():
    pipeline = formula_pipeline()
    pipeline(half_disc(), num_inference_steps=3, max_guidance_scale=1.0, cond_aug=0.0)
    first, last = pipeline.unet.calls[0][0], pipeline.unet.calls[-1][0]
    assert torch.equal(first[:, :, 4:], last[:, :, 4:])
    assert last[:, :, 4:].abs().max() == 1  # sigma is 700 at first; c_in would have made it 0.0014


def test_prior_denoises_by_the_same_formula():
    pipeline, photo = formula_pipeline(), half_disc()
    azimuth_deg, elevation_deg = orbit_angles("static", 10.0, n_frames=5)
    prior = OrbitPrior(pipeline, photo, 10.0, 0, 5)
    noisy = torch.randn((5, 4, 8, 8), generator=torch.Generator().manual_seed(1)) * 3
    ours = prior.denoise(noisy, 2.5, azimuth_deg, elevation_deg, guidance=2.0)
    polar = torch.from_numpy(np.radians(90 - elevation_deg))
    azimuth = torch.from_numpy(np.radians(azimuth_deg))
    image = prior.condition.latents.double()
    expected = guided(pipeline.unet.double(), image, polar, azimuth, 2.0)(noisy.double(), 2.5)
    assert (ours - expected).abs().max() < 1e-5


def test_prior_encodes_with_gradients():
    prior = OrbitPrior(formula_pipeline(), half_disc(), 10.0, 0, 2)
    rgba = torch.rand((2, prior.size, prior.size, 4), requires_grad=True)
    latents = prior.encode(rgba)
    assert latents.shape == (2, 4, 8, 8)
    latents[:, 0].sum().backward()  # latent red = 2 * red * alpha - 1
    torch.testing.assert_close(rgba.grad[..., 0], 2 * rgba[..., 3].detach())
    torch.testing.assert_close(rgba.grad[..., 3], 2 * rgba[..., 0].detach())


def test_perfect_velocity_recovers_the_clean_frames():
    """If the network knows the clean frames, one call gives them back at any noise level."""
    clean, noise = torch.randn(2, 3, 4, 8, 8, generator=torch.Generator().manual_seed(2)).unbind(0)
    for sigma in (0.01, 1.0, 50.0):
        c_skip, c_out, _, _ = edm_scalings(torch.tensor(sigma))
        x = clean + sigma * noise
        velocity = (noise - sigma * clean) / (sigma**2 + 1) ** 0.5
        torch.testing.assert_close(c_skip * x + c_out * velocity, clean, rtol=1e-4, atol=1e-3)


class GaussianDenoiser(FormulaDenoiser):
    """The exact velocity where clean latents are independent Gaussians of standard deviation ``spread``."""

    spread = torch.linspace(0.2, 2.0, 8)

    def forward(self, sample, timestep, encoder_hidden_states, added_time_ids, return_dict=True):
        sigma = float(torch.as_tensor(timestep).mul(4).exp())
        c_skip, c_out, c_in, _ = edm_scalings(sigma)
        noisy = sample[:, :, :4] / c_in
        clean = noisy * self.spread**2 / (self.spread**2 + sigma**2)  # the posterior mean
        return ((clean - c_skip * noisy) / c_out,)


def gaussian_error(solver: str, steps: int) -> float:
    """RMS distance from the exact solution: x(sigma) / sqrt(spread^2 + sigma^2) is constant along the ODE."""
    pipeline = formula_pipeline()
    pipeline.unet = GaussianDenoiser()
    call = {"cond_aug": 0.0, "max_guidance_scale": 1.0, "output_type": "latent", "solver": solver}
    generator = torch.Generator().manual_seed(1)
    latents = pipeline(half_disc(), num_inference_steps=steps, generator=generator, **call).frames
    generator.manual_seed(1)
    start = torch.randn((21, 4, 8, 8), generator=generator).double() * (1 + 700.0**2) ** 0.5
    spread = GaussianDenoiser.spread.double()
    exact = start * spread / (spread**2 + 700.0**2).sqrt()
    return float((latents - exact).square().mean().sqrt())


def test_dpm_is_of_second_order_and_euler_of_first():
    for solver, order in (("euler", 1), ("dpm", 2)):
        coarse, fine = gaussian_error(solver, 20), gaussian_error(solver, 80)
        assert 0.7 * 4**order < coarse / fine < 1.5 * 4**order
    assert gaussian_error("dpm", 12) < gaussian_error("euler", 50)
    assert gaussian_error("dpm", 1) == gaussian_error("euler", 1)


def test_dpm_covers_the_same_noise_range_in_even_steps_of_its_logarithm():
    scheduler = dpm_scheduler(euler_scheduler())
    scheduler.set_timesteps(20)
    levels = 700 * (0.002 / 700) ** (torch.arange(20, dtype=torch.float64) / 19)
    torch.testing.assert_close(scheduler.sigmas[:-1].double(), levels, rtol=1e-5, atol=0)
    assert scheduler.sigmas[-1] == 0
    torch.testing.assert_close(scheduler.timesteps.double(), levels.log() / 4, rtol=1e-5, atol=1e-5)
    assert scheduler.init_noise_sigma == pytest.approx((1 + 700**2) ** 0.5)
