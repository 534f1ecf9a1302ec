"""Few steps instead of many: a student learns to do several of its teacher's steps in one.

Progressive distillation (Salimans and Ho, arXiv 2202.00512, section 3), in one go from the teacher's
steps to the student's, and with the teacher's guidance built in (arXiv 2210.03142, section 3.1).
"""

from __future__ import annotations

import copy

import torch

from sv3d_pipe.finetune.examples import Batch
from sv3d_pipe.finetune.loss import Noise, denoise, weighted_error
from sv3d_pipe.finetune.recipe import Recipe
from sv3d_pipe.orbit.conditioning import triangle_scales
from sv3d_pipe.orbit.schedulers import euler_scheduler

RHO = 7  # spacing of noise levels (EDM, arXiv 2206.00364, equation 5)


class Distillation:
    """The loss of a student that starts as a copy of its teacher.

    Args:
        unet: the teacher now, and the student once training has begun; a frozen copy is kept.
        guidance: largest guidance scale the teacher samples with.
        recipe: says how many steps both take.
    """

    def __init__(self, unet: torch.nn.Module, guidance: float, recipe: Recipe):
        self.teacher = copy.deepcopy(unet).requires_grad_(False).eval()
        self.guidance, self.recipe = guidance, recipe
        scheduler = euler_scheduler()
        scheduler.set_timesteps(recipe.student_steps)
        self.sigmas = scheduler.sigmas.float()  # [student_steps + 1], the last is 0
        self.stride = max(1, round(recipe.teacher_steps / recipe.student_steps))

    def draw_sigma(self, generator: torch.Generator, shape: tuple[int, ...] = ()) -> torch.Tensor:
        """Some of the noise levels from which the student steps."""
        return self.sigmas[torch.randint(self.recipe.student_steps, shape, generator=generator)]

    def loss(self, unet: torch.nn.Module, batch: Batch, noise: Noise) -> torch.Tensor:
        """How far the student's step ends from the teacher's last of several."""
        noisy = batch.clean + noise.sigma[:, None, None, None, None] * noise.unit
        target = self.target(noisy, noise.sigma, batch)
        return weighted_error(
            denoise(unet, noisy, noise.sigma, batch), target, noise.sigma, batch, self.recipe
        )

    @torch.no_grad()
    def target(self, noisy: torch.Tensor, sigma: torch.Tensor, batch: Batch) -> torch.Tensor:
        """What the student must see as clean [B, T, 4, h, w] for one Euler step to end where the teacher's do.

        From x at s to x' at r an Euler step goes x' = x + (x - D) / s * (r - s), so
        D = x - s * (x' - x) / (r - s).
        """
        grid = self.sigmas.to(sigma)
        following = grid[(grid[:, None] == sigma).int().argmax(0) + 1]  # [B]
        x, here = noisy, sigma
        for k in range(self.stride):
            share = (k + 1) / self.stride
            there = ((1 - share) * sigma ** (1 / RHO) + share * following ** (1 / RHO)) ** RHO
            x = x + (x - self._ask(x, here, batch)) * _frames(there / here - 1)
            here = there
        return noisy - (x - noisy) / _frames(following / sigma - 1)

    def _ask(self, noisy: torch.Tensor, sigma: torch.Tensor, batch: Batch) -> torch.Tensor:
        seen = denoise(self.teacher, noisy, sigma, batch)
        if self.guidance <= 1:
            return seen
        blind = denoise(self.teacher, noisy, sigma, batch, torch.zeros_like(sigma, dtype=torch.bool))
        scales = triangle_scales(noisy.shape[1], self.guidance).to(noisy)
        return blind + scales[:, None, None, None] * (seen - blind)


def _frames(values: torch.Tensor) -> torch.Tensor:
    return values[:, None, None, None, None]
