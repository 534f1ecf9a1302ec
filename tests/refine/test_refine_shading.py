import math

import pytest
import torch

from sv3d_pipe.geometry.mesh_tensors import vertex_normals
from sv3d_pipe.refine.shading import (
    COSINE_AMPLITUDE,
    COSINE_SHARPNESS,
    Lighting,
    illumination_loss,
    inner_product,
    shade,
    to_linear,
    to_srgb,
)


def sphere(count: int = 200_000) -> torch.Tensor:
    """Evenly spread unit vectors, each standing for 4 pi / count of the sphere."""
    index = torch.arange(count, dtype=torch.float64) + 0.5
    z = 1 - 2 * index / count
    angle = math.pi * (1 + 5**0.5) * index
    ring = (1 - z * z).sqrt()
    return torch.stack([ring * angle.cos(), ring * angle.sin(), z], -1)


def gaussian(x, axis, sharpness, amplitude):
    return amplitude * torch.exp(sharpness * (x @ axis - 1))


@pytest.mark.parametrize("angle", [0.0, 1.0, math.pi / 2, 3.0])
def test_inner_product_is_the_integral_of_the_product(angle):
    first = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    second = torch.tensor([math.sin(angle), 0.0, math.cos(angle)], dtype=torch.float64)
    x = sphere()
    for s1, a1, s2, a2 in ((4.0, 0.7, 2.133, 1.17), (30.0, 2.0, 0.5, 0.3)):
        integral = (gaussian(x, first, s1, a1) * gaussian(x, second, s2, a2)).mean() * 4 * math.pi
        closed = inner_product(first @ second, (s1, s2), (a1, a2))
        assert closed.item() == pytest.approx(integral.item(), rel=1e-3)


def test_opposite_equal_gaussians_by_hand():
    # s mu - s mu = 0, so the product is constant: a1 a2 exp(-2 s) over an area of 4 pi.
    value = inner_product(torch.tensor(-1.0, dtype=torch.float64), (1.5, 1.5), (2.0, 3.0))
    assert value.item() == pytest.approx(6 * math.exp(-3) * 4 * math.pi, rel=1e-3)


def test_the_cosine_gaussian_is_near_the_clamped_cosine():
    x = sphere(50_000)
    fit = gaussian(x, torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64), COSINE_SHARPNESS, COSINE_AMPLITUDE)
    error = fit - x[:, 2].clamp(min=0)
    assert error.max().item() == pytest.approx(COSINE_AMPLITUDE - 1, abs=1e-3)  # at the normal itself
    # 2 pi a (1 - exp(-2 s)) / s = 3.398 of area instead of pi: 8 % too much
    assert (fit.mean() * 4 * math.pi).item() == pytest.approx(3.398, abs=2e-3)


def test_light_starts_even_and_near_one():
    brightness = Lighting().brightness(sphere(500).float())
    assert brightness.min() > 0.95 and brightness.max() < 1.2  # the cosine's fit has 8 % more area
    assert brightness.std() < 0.02


def test_a_sharp_light_brightens_what_faces_it():
    light = Lighting()
    with torch.no_grad():
        light.axes.copy_(torch.tensor([0.0, 1.0, 0.0]).expand(24, 3))
        light.log_sharpness.fill_(math.log(200.0))
    up, side, down = light.brightness(torch.tensor([[0.0, 1, 0], [1, 0, 0], [0, -1, 0]]))
    # a narrow light is a point: its brightness is that of the cosine's Gaussian
    assert (side / up).item() == pytest.approx(math.exp(-COSINE_SHARPNESS), rel=0.05)
    assert (down / up).item() == pytest.approx(math.exp(-2 * COSINE_SHARPNESS), rel=0.1)


def test_brightness_has_gradients_everywhere():
    light = Lighting()
    normals = torch.eye(3, requires_grad=True)
    light.brightness(normals).sum().backward()
    assert all(p.grad.isfinite().all() for p in (*light.parameters(), normals))
    assert light.log_amplitude.grad.abs().min() > 0


def test_linear_light_by_hand():
    srgb = torch.tensor([0.0, 0.04, 0.5, 1.0], dtype=torch.float64)
    torch.testing.assert_close(
        to_linear(srgb), torch.tensor([0.0, 0.04 / 12.92, 0.21404114, 1.0], dtype=torch.float64)
    )
    torch.testing.assert_close(to_srgb(to_linear(srgb)), srgb)


def test_shading_with_light_one_changes_nothing():
    albedo = torch.rand(5, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(shade(albedo, torch.ones(5)), albedo, rtol=1e-4, atol=1e-5)
    assert (shade(albedo, torch.full((5,), 0.5)) < albedo).all()


def test_illumination_loss_by_hand():
    rgb = torch.tensor([[1.0, 0.2, 0.0], [0.0, 0.0, 0.0]])
    loss = illumination_loss(torch.tensor([0.5, 0.5]), rgb, torch.tensor([1.0, 3.0]))
    assert loss.item() == pytest.approx((1 * 0.25 + 3 * 0.25) / 4)


def test_vertex_normals_of_a_cube_corner():
    vertices = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    faces = torch.tensor([[0, 2, 1], [0, 1, 3], [0, 3, 2]])  # the three faces that meet at the origin
    normals = vertex_normals(vertices, faces)
    torch.testing.assert_close(normals[0], torch.full((3,), -(3**-0.5)))
