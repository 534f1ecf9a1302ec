"""Light as 24 white spherical Gaussians on a diffuse surface (SV3D, arXiv 2403.12008, section 4).

A spherical Gaussian is G(x; mu, s, a) = a exp(s (mu . x - 1)) for unit x, with axis mu, sharpness s
and amplitude a. A Lambertian surface lit by the sum of them has the brightness
L = sum_i <G_i, G_cos> / pi, where G_cos stands for the clamped cosine around the normal.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F

LIGHTS = 24
COSINE_SHARPNESS, COSINE_AMPLITUDE = 2.133, 1.17  # the clamped cosine as a Gaussian around the normal
START_SHARPNESS = 4.0


def inner_product(
    cosine: torch.Tensor,  # [...] of the angle between the axes
    sharpness: tuple[torch.Tensor | float, torch.Tensor | float],
    amplitude: tuple[torch.Tensor | float, torch.Tensor | float],
) -> torch.Tensor:  # [...]
    """Integral over the sphere of the product of two spherical Gaussians.

    2 pi a1 a2 exp(d - lambda) (1 - exp(-2 d)) / d with lambda = s1 + s2 and d = |s1 mu1 + s2 mu2|.
    """
    s1, s2 = sharpness
    d = (s1 * s1 + s2 * s2 + 2 * s1 * s2 * cosine).clamp(min=1e-8).sqrt()
    scale = 2 * math.pi * amplitude[0] * amplitude[1]
    return scale * torch.exp(d - (s1 + s2)) * -torch.expm1(-2 * d) / d


class Lighting(nn.Module):
    """White light from all around, learned; it starts even, with a brightness near 1 everywhere."""

    def __init__(self):
        super().__init__()
        self.axes = nn.Parameter(_even_directions(LIGHTS))  # [24, 3], any length
        self.log_sharpness = nn.Parameter(torch.full((LIGHTS,), math.log(START_SHARPNESS)))
        mean = -math.expm1(-2 * START_SHARPNESS) / (2 * START_SHARPNESS)  # of exp(s (mu . x - 1)) over x
        self.log_amplitude = nn.Parameter(torch.full((LIGHTS,), -math.log(LIGHTS * mean)))

    def brightness(self, normals: torch.Tensor) -> torch.Tensor:
        """L at unit normals [P, 3]: [P], positive."""
        cosine = normals @ F.normalize(self.axes, dim=-1).T  # [P, 24]
        products = inner_product(
            cosine,
            (self.log_sharpness.exp(), COSINE_SHARPNESS),
            (self.log_amplitude.exp(), COSINE_AMPLITUDE),
        )
        return products.sum(-1) / math.pi


def shade(
    albedo: torch.Tensor,  # [P, 3] sRGB in [0, 1]
    brightness: torch.Tensor,  # [P]
) -> torch.Tensor:  # [P, 3] sRGB
    """albedo * L in linear light."""
    return to_srgb(to_linear(albedo) * brightness[:, None])


def to_linear(srgb: torch.Tensor) -> torch.Tensor:
    """sRGB to linear light (IEC 61966-2-1)."""
    return torch.where(srgb <= 0.04045, srgb / 12.92, ((srgb.clamp(min=0.04045) + 0.055) / 1.055) ** 2.4)


def to_srgb(linear: torch.Tensor) -> torch.Tensor:
    """Linear light to sRGB; the inverse of :func:`to_linear`."""
    knee = 0.0031308
    return torch.where(linear <= knee, linear * 12.92, 1.055 * linear.clamp(min=knee) ** (1 / 2.4) - 0.055)


def illumination_loss(brightness: torch.Tensor, rgb: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Mean of (V(I) - L)^2, V the largest channel of the picture's pixel (SV3D, section 4).

    Args:
        brightness: [P]; rgb: [P, 3] the picture, sRGB; weight: [P].
    """
    value = to_linear(rgb).amax(-1)
    return (weight * (value - brightness).square()).sum() / weight.sum().clamp(min=1.0)


def _even_directions(count: int) -> torch.Tensor:
    """[count, 3] unit vectors on a Fibonacci lattice."""
    index = torch.arange(count, dtype=torch.float64) + 0.5
    z = 1 - 2 * index / count
    angle = math.pi * (1 + 5**0.5) * index
    ring = (1 - z * z).sqrt()
    return torch.stack([ring * angle.cos(), ring * angle.sin(), z], -1).float()
