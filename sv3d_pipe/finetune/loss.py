"""What is minimized: the squared error of denoised frames, in EDM form with velocity prediction."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from sv3d_pipe.finetune.examples import Batch
from sv3d_pipe.finetune.recipe import Recipe
from sv3d_pipe.orbit.conditioning import edm_scalings
from sv3d_pipe.orbit.mini.denoiser import PURE_SIGMA

PURE_NOISE = (30.0, PURE_SIGMA)  # noise levels at which nothing is left of the frames
DrawSigma = Callable[..., torch.Tensor]  # of a generator, and a shape if not []


@dataclass(frozen=True)
class Noise:
    """What is random about the loss of B examples.

    Attributes:
        sigma: [B] noise levels.
        unit: [B, T, 4, h, w] normal noise.
        sees_photo: [B] bool.
    """

    sigma: torch.Tensor
    unit: torch.Tensor
    sees_photo: torch.Tensor

    def to(self, device: torch.device) -> Noise:
        parts = (self.sigma, self.unit, self.sees_photo)
        return Noise(*(part.to(device, non_blocking=True) for part in parts))


def draw_noise(
    recipe: Recipe,
    draw_sigma: DrawSigma,
    numbers: Sequence[int],
    shape: tuple[int, ...],
    device: torch.device | str = "cpu",
) -> Noise:
    """The noise of the examples with these global numbers, on the CPU a function of (seed, number) alone.

    On another device, where the examples lie too, that of all is drawn at once, by the seed and the first number.

    Args:
        draw_sigma: gives noise levels.
        shape: [T, 4, h, w] of one example's latents.
    """
    if torch.device(device).type != "cpu":
        return _draw_together(recipe, draw_sigma, numbers, shape, device)
    rows = []
    for number in numbers:
        generator = torch.Generator().manual_seed(_seed(recipe, number))
        sees_photo = torch.rand((), generator=generator) >= recipe.drop_photo
        rows.append((draw_sigma(generator), torch.randn(shape, generator=generator), sees_photo))
    return Noise(*(torch.stack(parts) for parts in zip(*rows)))


def _draw_together(recipe, draw_sigma, numbers, shape, device) -> Noise:
    count, seed = len(numbers), _seed(recipe, numbers[0])
    generator = torch.Generator().manual_seed(seed)
    sees_photo = torch.rand(count, generator=generator) >= recipe.drop_photo
    there = torch.Generator(device).manual_seed(seed)
    unit = torch.randn((count, *shape), generator=there, device=device)
    return Noise(draw_sigma(generator, (count,)), unit, sees_photo)


def _seed(recipe: Recipe, number: int) -> int:
    return recipe.seed * 1_000_000_007 + number


def draw_sigma(recipe: Recipe, generator: torch.Generator, shape: tuple[int, ...] = ()) -> torch.Tensor:
    """Noise levels: ln sigma ~ N(p_mean, p_std^2), or log-uniform in PURE_NOISE for noise_share of all."""
    usual = recipe.p_mean + recipe.p_std * torch.randn(shape, generator=generator)
    low, high = map(math.log, PURE_NOISE)
    pure = low + (high - low) * torch.rand(shape, generator=generator)
    chosen = torch.rand(shape, generator=generator) < recipe.noise_share
    return torch.where(chosen, pure, usual).exp()


def sigma_weight(sigma: torch.Tensor, cap: float) -> torch.Tensor:
    """[B] weight of the squared error of denoised frames.

    (sigma^2 + 1) / sigma^2 makes it the squared error of the velocity (SVD, arXiv 2311.15127, appendix
    D); the cap follows min-SNR (arXiv 2303.09556). 0: no cap.
    """
    weight = (sigma**2 + 1) / sigma**2
    return weight.clamp(max=cap) if cap else weight


def frame_weight(azimuth: torch.Tensor, front: float) -> torch.Tensor:
    """[B, T] weights of frames at azimuths from the photo (radians): ``front`` before, 1 behind.

    SV3D gives frames near the photo less weight (arXiv 2403.12008, section 3.2) and leaves the function
    open; here it is a cosine, scaled to a mean of 1 over the frames.
    """
    weight = front + (1 - front) * (1 - azimuth.cos()) / 2
    return weight / weight.mean(-1, keepdim=True).clamp(min=1e-6)


def denoise(
    unet: torch.nn.Module,
    noisy: torch.Tensor,  # [B, T, 4, h, w] clean + sigma * noise
    sigma: torch.Tensor,  # [B]
    batch: Batch,
    sees_photo: torch.Tensor | None = None,  # [B] bool; None: all do
) -> torch.Tensor:  # [B, T, 4, h, w]
    """The network's estimate of the clean frames. Who does not see the photo gets zeros in its place."""
    photo, token = batch.photo[:, None], batch.token
    if sees_photo is not None:
        photo = photo * sees_photo[:, None, None, None, None]
        token = None if token is None else token * sees_photo[:, None, None]
    c_skip, c_out, c_in, c_noise = edm_scalings(sigma[:, None, None, None, None])
    sample = torch.cat([noisy * c_in, photo.expand_as(noisy)], 2)
    velocity = unet(sample, c_noise.flatten(), token, batch.ids, return_dict=False)[0]
    return c_out * velocity.float() + c_skip * noisy


def weighted_error(
    denoised: torch.Tensor,  # [B, T, 4, h, w]
    target: torch.Tensor,  # [B, T, 4, h, w]
    sigma: torch.Tensor,  # [B]
    batch: Batch,
    recipe: Recipe,
) -> torch.Tensor:  # []
    per_frame = (denoised - target).square().mean((2, 3, 4))  # [B, T]
    per_frame = per_frame * frame_weight(batch.ids[..., 2], recipe.front_weight)
    return (sigma_weight(sigma, recipe.weight_cap) * per_frame.mean(1)).mean()


def denoising_loss(unet: torch.nn.Module, batch: Batch, noise: Noise, recipe: Recipe) -> torch.Tensor:
    """How far denoised frames are from the data; a mean over the batch."""
    noisy = batch.clean + noise.sigma[:, None, None, None, None] * noise.unit
    denoised = denoise(unet, noisy, noise.sigma, batch, noise.sees_photo)
    return weighted_error(denoised, batch.clean, noise.sigma, batch, recipe)
