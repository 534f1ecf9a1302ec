import math

import pytest
import torch

from sv3d_pipe.cameras import FOV_DEG
from sv3d_pipe.orbit.mini.volume_render import render_volume, render_volume_torch
from sv3d_pipe.orbit.mini.voxels import CAMERA_DISTANCE, frame_axes, voxel_centers


@pytest.mark.parametrize(
    "batch, frames, grid, side, samples, density",
    [(2, 3, 8, 16, 12, 3.0), (1, 5, 5, 7, 32, 40.0), (3, 1, 12, 9, 5, 0.0), (1, 2, 2, 16, 64, 1.0)],
)
def test_render_matches_torch(batch, frames, grid, side, samples, density):
    # The rays leave the cube: where they do, samples are partly or wholly outside.
    generator = torch.Generator().manual_seed(0)
    volume = torch.rand(batch, 8, grid, grid, grid, generator=generator)
    volume[:, 3] *= density
    polar, azimuth = torch.rand(2, batch, frames, generator=generator) * 3
    upstream = torch.randn(batch, frames, 8, side, side, generator=generator)
    results = []
    for function in (render_volume, render_volume_torch):
        leaf = volume.clone().requires_grad_()
        images = function(leaf, frame_axes(polar, azimuth), side, samples)
        assert images.shape == upstream.shape
        results.append((images.detach(), torch.autograd.grad(images, leaf, upstream)[0]))
    for fast, slow in zip(*results):
        torch.testing.assert_close(fast, slow, rtol=1e-4, atol=1e-5)
    assert results[0][1][:, 3].any()  # an empty volume has a gradient too


def test_a_solid_ball_renders_as_a_disc():
    inside = (voxel_centers(32, torch.device("cpu")).norm(dim=-1) < 0.5).float().view(1, 1, 32, 32, 32)
    volume = torch.cat([inside.expand(-1, 3, -1, -1, -1), inside * 100, inside.expand(-1, 4, -1, -1, -1)], 1)
    axes = frame_axes(torch.tensor([[1.2]]), torch.tensor([[0.7]]))
    alpha = render_volume(volume, axes, 32, 64)[0, 0, 3]

    def disc(r):  # pixels covered by a ball of radius r at distance d: tan(angle) = r / sqrt(d^2 - r^2)
        tangent = r / math.sqrt(CAMERA_DISTANCE**2 - r**2)
        return math.pi * (tangent / math.tan(math.radians(FOV_DEG) / 2) * 16) ** 2

    # Trilinear interpolation lets the dense ball grow by less than a voxel, 1 / 16.
    assert disc(0.5) < alpha.sum().item() < disc(0.5 + 1 / 16)
