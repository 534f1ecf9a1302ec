import copy

import pytest
import torch

from sv3d_pipe.nerf import _hashgrid_torch
from sv3d_pipe.nerf.field import RadianceField
from sv3d_pipe.nerf.hashgrid import Layout, encode, encode_gathered, encode_reference


def test_levels_are_dense_until_the_table_is_full():
    layout = Layout.geometric(levels=3, table_log2=10, coarsest=4, finest=16)
    assert layout.resolutions.tolist() == [4, 8, 16]
    assert layout.dense.tolist() == [True, True, False]  # 5^3 = 125, 9^3 = 729, 17^3 > 1024
    assert layout.offsets.tolist() == [0, 125, 854, 854 + 1024]


def test_a_dense_level_interpolates_a_linear_function_exactly():
    layout = Layout.geometric(levels=1, table_log2=10, coarsest=4, finest=4)
    z, y, x = torch.meshgrid(*[torch.arange(5) / 4.0] * 3, indexing="ij")
    table = torch.stack([x + 2 * y + 3 * z, 1 - x], -1).reshape(-1, 2)
    points = torch.rand(50, 3, generator=torch.Generator().manual_seed(0))
    expected = torch.stack([points @ torch.tensor([1.0, 2.0, 3.0]), 1 - points[:, 0]], -1)
    torch.testing.assert_close(encode(points, table, layout), expected)


IMPLEMENTATIONS = {"numba": encode, "gather": encode_gathered}


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("count", [1, 700])
@pytest.mark.parametrize("levels, table_log2, finest", [(1, 8, 4), (4, 8, 40), (6, 14, 100), (12, 16, 256)])
def test_values_and_gradients_match_the_reference(
    monkeypatch, implementation, count, levels, table_log2, finest
):
    monkeypatch.setattr(_hashgrid_torch, "PART", 300)  # the last of three parts is not full
    layout = Layout.geometric(levels, table_log2, 4, finest)
    generator = torch.Generator().manual_seed(1)
    points = torch.rand(count, 3, generator=generator)
    points[0] = 1.0  # the cube's last corner belongs to the last cell
    table = torch.randn(layout.rows, 2, generator=generator)
    upstream = torch.randn(count, layout.width, generator=generator)
    results = []
    for function in (IMPLEMENTATIONS[implementation], encode_reference):
        inputs = points.clone().requires_grad_(), table.clone().requires_grad_()
        out = function(*inputs, layout)
        results.append((out.detach(), *torch.autograd.grad(out, inputs, upstream)))
    for fast, slow in zip(*results):
        torch.testing.assert_close(fast, slow, rtol=1e-5, atol=1e-5 * slow.abs().max().item())


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_no_points_at_all(implementation):
    layout = Layout.geometric(2, 6, 3, 7)
    table = torch.ones(layout.rows, 2).requires_grad_()
    out = IMPLEMENTATIONS[implementation](torch.zeros(0, 3), table, layout)
    assert out.shape == (0, layout.width)
    out.sum().backward()
    assert not table.grad.any()


@pytest.mark.parametrize("wanted", [(True, False), (False, True)])
def test_a_gradient_that_nobody_wants_is_not_computed(wanted):
    layout = Layout.geometric(2, 6, 3, 7)
    points, table = torch.full((5, 3), 0.3), torch.ones(layout.rows, 2)
    for tensor, want in zip((points, table), wanted):
        tensor.requires_grad_(want)
    encode_gathered(points, table, layout).sum().backward()
    assert (points.grad is not None, table.grad is not None) == wanted


def test_reference_gradients_are_those_of_finite_differences():
    layout = Layout.geometric(2, 6, 3, 7)
    generator = torch.Generator().manual_seed(2)
    points = torch.rand(4, 3, generator=generator, dtype=torch.float64).requires_grad_()
    table = torch.randn(layout.rows, 2, generator=generator, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda p, t: encode(p, t, layout), (points, table))


def test_field_color_is_differentiable_in_the_position():
    field = RadianceField(0.5, levels=4, table_log2=10, finest=32)
    field.initialize(torch.Generator().manual_seed(0))
    with torch.no_grad():
        field.table.mul_(1e4)
    x = torch.rand(20, 3, generator=torch.Generator().manual_seed(3)) - 0.5
    fine = x.double().requires_grad_()
    precise = copy.deepcopy(field).double()
    (exact,) = torch.autograd.grad(precise.rgb(fine).sum(), fine)
    step = torch.tensor([1e-7, 0, 0], dtype=torch.float64)
    with torch.no_grad():
        slope = (precise.rgb(fine + step).sum(-1) - precise.rgb(fine - step).sum(-1)) / 2e-7
    torch.testing.assert_close(exact[:, 0], slope, rtol=1e-5, atol=1e-5)
    x.requires_grad_()
    (grad,) = torch.autograd.grad(field.rgb(x).sum(), x)
    assert grad.abs().max() > 0.1
    torch.testing.assert_close(grad, exact.float(), rtol=1e-3, atol=1e-3)


def test_field_shape_rebuilds_it():
    field = RadianceField(0.7, levels=3, table_log2=8, finest=20, hidden=16)
    field.initialize(torch.Generator().manual_seed(0))
    again = RadianceField(**field.shape)
    again.load_state_dict(field.state_dict())
    x = torch.linspace(-0.8, 0.8, 30).reshape(10, 3)
    sigma, rgb = field(x)
    torch.testing.assert_close(again.sigma(x), sigma, rtol=0, atol=0)
    torch.testing.assert_close(again.rgb(x), rgb, rtol=0, atol=0)
    assert (sigma >= 0).all() and (rgb >= 0).all() and (rgb <= 1).all()
