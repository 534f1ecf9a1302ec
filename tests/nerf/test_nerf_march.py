import pytest
import torch

from sv3d_pipe.nerf.composite import composite, composite_reference, composite_sums
from sv3d_pipe.nerf.march import Samples, march, march_reference


def _rays(count: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    origins = torch.randn(count, 3, generator=generator)
    origins = 2 * origins / origins.norm(dim=-1, keepdim=True)
    directions = 0.8 * torch.randn(count, 3, generator=generator) - origins
    return origins, directions / directions.norm(dim=-1, keepdim=True)


def test_a_ray_along_x_meets_the_one_full_cell():
    occupied = torch.zeros(4, 4, 4, dtype=torch.bool)
    occupied[2, 1, 3] = True  # x in [0, .5], y in [-.5, 0], z in [.5, 1]
    origins = torch.tensor([[-3.0, -0.25, 0.75], [-3.0, 0.25, 0.75]])
    directions = torch.tensor([[1.0, 0, 0], [1.0, 0, 0]])
    samples = march(origins, directions, occupied, 1.0, 0.125, torch.zeros(2))
    assert samples.starts.tolist() == [0, 4, 4]
    assert samples.ray_indices.tolist() == [0, 0, 0, 0]
    torch.testing.assert_close(samples.t_starts, torch.tensor([3.0, 3.125, 3.25, 3.375]))
    torch.testing.assert_close(samples.t_ends, samples.t_starts + 0.125)


@pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
def test_march_matches_reference(share):
    generator = torch.Generator().manual_seed(0)
    origins, directions = _rays(300, generator)
    occupied = torch.rand(8, 8, 8, generator=generator) < share
    jitter = torch.rand(300, generator=generator)
    fast = march(origins, directions, occupied, 0.6, 0.03, jitter)
    slow = march_reference(origins, directions, occupied, 0.6, 0.03, jitter)
    assert (share > 0) == (len(fast) > 0)
    assert torch.equal(fast.starts, slow.starts)
    assert torch.equal(fast.ray_indices, slow.ray_indices)
    torch.testing.assert_close(fast.t_starts, slow.t_starts)
    torch.testing.assert_close(fast.t_ends, slow.t_ends)


def test_three_samples_by_hand():
    # alpha = 1 - exp(-sigma * length) = .5, .75, .9 -> T = 1, .5, .125; w = .5, .375, .1125; rest .0125
    lengths = torch.tensor([0.5, 1.0, 0.25])
    sigma = -torch.log(torch.tensor([0.5, 0.25, 0.1])) / lengths
    t_starts = torch.tensor([1.0, 1.5, 2.5])
    samples = Samples(torch.zeros(3, dtype=torch.int64), t_starts, t_starts + lengths, torch.tensor([0, 3]))
    color, alpha = composite(sigma.requires_grad_(), torch.eye(3), samples)
    torch.testing.assert_close(color, torch.tensor([[0.5, 0.375, 0.1125]]))
    torch.testing.assert_close(alpha, torch.tensor([0.9875]))
    # Denser first sample: its own weight grows by length * T_2, the one behind it shrinks by length * w.
    (grad,) = torch.autograd.grad(color[0, 1], sigma)
    torch.testing.assert_close(grad, torch.tensor([-0.5 * 0.375, 1.0 * 0.125, 0.0]))


@pytest.mark.parametrize("function", [composite, composite_sums])
def test_rays_without_samples_are_empty(function):
    none = torch.zeros(0)
    sigma = none.clone().requires_grad_()
    samples = Samples(none.long(), none, none, torch.zeros(4, dtype=torch.int64))
    color, alpha = function(sigma, torch.zeros(0, 3), samples)
    assert color.shape == (3, 3) and alpha.shape == (3,) and not color.any() and not alpha.any()
    (color.sum() + alpha.sum()).backward()
    assert len(sigma.grad) == 0


@pytest.mark.parametrize("function", [composite, composite_sums])
def test_composite_matches_reference(function):
    generator = torch.Generator().manual_seed(1)
    origins, directions = _rays(200, generator)
    occupied = torch.rand(8, 8, 8, generator=generator) < 0.4
    samples = march(origins, directions, occupied, 0.6, 0.03, torch.rand(200, generator=generator))
    sigma = torch.rand(len(samples), generator=generator) * 40
    rgb = torch.rand(len(samples), 3, generator=generator)
    upstream = torch.randn(200, 3, generator=generator), torch.randn(200, generator=generator)
    results = []
    for implementation in (function, composite_reference):
        inputs = sigma.clone().requires_grad_(), rgb.clone().requires_grad_()
        out = implementation(*inputs, samples)
        results.append((*(o.detach() for o in out), *torch.autograd.grad(out, inputs, upstream)))
    for fast, slow in zip(*results):
        torch.testing.assert_close(fast, slow, rtol=1e-4, atol=1e-5)
    missed = samples.starts[1:] == samples.starts[:-1]
    assert missed.any() and (results[0][1][missed] == 0).all()
