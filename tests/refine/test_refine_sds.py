"""The soft mask on cases solved by hand; the distillation step against its plain twin."""

import numpy as np
import pytest
import torch

from sv3d_pipe.cameras import orbit
from sv3d_pipe.refine.sds import (
    SIGMA_RANGE,
    distill,
    distill_reference,
    random_orbit,
    random_sigma,
    soft_mask,
)


def at_angle(cosine: float) -> torch.Tensor:
    """[3] unit vector with this cosine to +z."""
    return torch.tensor([(1 - cosine**2) ** 0.5, 0.0, cosine])


@pytest.mark.parametrize(
    ("cosine", "mask"),
    [
        (1.0, 0.0),  # seen straight on
        (0.5, 0.0),  # the end of the ramp
        (0.25, 0.5),  # x = 1/2: 1 - 1/4 * (3 - 1)
        (0.125, 0.84375),  # x = 1/4: 1 - 1/16 * (3 - 1/2)
        (0.0, 1.0),  # edge on
        (-0.7, 1.0),  # from behind
    ],
)
def test_soft_mask_by_hand(cosine, mask):
    point = torch.tensor([[0.3, -0.2, 0.1]])
    camera = point + 2 * at_angle(cosine)
    assert soft_mask(point, torch.tensor([[0.0, 0.0, 1.0]]), camera).item() == pytest.approx(mask, abs=1e-5)


def test_soft_mask_takes_the_best_camera():
    cameras = torch.stack([2 * at_angle(-0.9), 2 * at_angle(0.25), 2 * at_angle(0.1)])
    mask = soft_mask(torch.zeros(1, 3), torch.tensor([[0.0, 0.0, 1.0]]), cameras)
    assert mask.item() == pytest.approx(0.5, abs=1e-5)


def test_random_orbit_ends_at_the_photo():
    photo = orbit(np.array([40.0]), np.array([15.0]), radius=1.7)
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        azimuth_deg, elevation_deg, cameras = random_orbit(photo, 21, generator)
        assert len(cameras) == len(azimuth_deg) == len(elevation_deg) == 21
        assert azimuth_deg[-1] == pytest.approx(40, abs=1e-3)
        assert elevation_deg[-1] == pytest.approx(15, abs=1e-3)
        np.testing.assert_allclose(cameras.c2w[-1], photo.c2w[0], atol=1e-5)
    sigmas = [random_sigma(generator) for _ in range(50)]
    assert SIGMA_RANGE[0] <= min(sigmas) < max(sigmas) <= SIGMA_RANGE[1]


class TinyPrior:
    """Halves the picture and believes that clean latents are smooth."""

    size, frames = 8, 21

    def __init__(self):
        self.weight = torch.randn(3, 4, 2, 2, generator=torch.Generator().manual_seed(3))
        self.calls = 0

    def encode(self, rgba):
        return torch.tanh(torch.nn.functional.conv2d(rgba.permute(0, 3, 1, 2), self.weight, stride=2))

    @torch.no_grad()
    def denoise(self, noisy, sigma, azimuth_deg, elevation_deg, guidance=1.0):
        self.calls += 1
        assert len(noisy) == len(azimuth_deg) == len(elevation_deg)
        return torch.nn.functional.avg_pool2d(noisy, 3, 1, 1) / (1 + sigma)


def scene(leaf: torch.Tensor):
    """Pictures that depend on a leaf [8, 8, 4] in a different way in each frame, and masks."""
    shift = torch.arange(21.0)[:, None, None, None] / 21

    def render(chosen, masked):
        frames = torch.sigmoid(leaf * (1 + shift[chosen]) + shift[chosen])
        return frames, torch.linspace(0, 1, 64).view(1, 8, 8).expand(len(chosen), 8, 8) * (
            1 - shift[chosen, :, :, 0]
        )

    return render


def test_frame_by_frame_equals_all_at_once():
    angles = (np.linspace(0, 340, 21), np.zeros(21))
    gradients, steps, priors = [], [], []
    for step in (distill, distill_reference):
        leaf = torch.randn(8, 8, 4, generator=torch.Generator().manual_seed(7)).requires_grad_()
        prior = TinyPrior()
        steps.append(step(scene(leaf), prior, angles, 1.3, 0.7, torch.Generator().manual_seed(11)))
        gradients.append(leaf.grad)
        priors.append(prior.calls)
    assert gradients[0].abs().max() > 0
    assert gradients[0][0, 0].abs().max() == 0  # the mask is 0 in the first pixel
    torch.testing.assert_close(gradients[0], gradients[1])
    assert steps[0] == pytest.approx(steps[1])
    assert priors == [1, 1]


def test_descending_brings_the_latents_to_the_prior():
    """With a prior that always answers 0.4, unmasked distillation moves the latents there."""

    class Wish(TinyPrior):
        def encode(self, rgba):
            return rgba.permute(0, 3, 1, 2)

        def denoise(self, noisy, sigma, azimuth_deg, elevation_deg, guidance=1.0):
            return torch.full_like(noisy, 0.4)

    leaf = torch.full((8, 8, 4), 0.9, requires_grad=True)
    optimizer = torch.optim.Adam([leaf], lr=0.05)

    def render(chosen, masked):
        return leaf.expand(len(chosen), 8, 8, 4), torch.ones(len(chosen), 8, 8)

    for _ in range(60):
        optimizer.zero_grad()
        distill(render, Wish(), (np.zeros(21), np.zeros(21)), 1.0, 1.0, torch.Generator().manual_seed(0))
        optimizer.step()
    torch.testing.assert_close(leaf.detach(), torch.full((8, 8, 4), 0.4), atol=0.02, rtol=0)
