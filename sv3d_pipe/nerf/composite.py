"""Volume rendering of packed samples (Mildenhall et al. 2020, "NeRF", eq. 3)."""

from __future__ import annotations

import torch

from sv3d_pipe.backend import pick
from sv3d_pipe.device import has_float64
from sv3d_pipe.nerf import _march_numba as kernels
from sv3d_pipe.nerf.march import Samples


def composite(
    sigma: torch.Tensor,  # [S]
    rgb: torch.Tensor,  # [S, 3]
    samples: Samples,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Color [R, 3], premultiplied, and alpha [R] of the rays; differentiable in sigma and rgb.

    w_i = T_i (1 - exp(-sigma_i length_i)) with T_i = exp(-sum of sigma_j length_j before i).
    Runs for float32 on numba on the CPU and on :func:`composite_sums` on CUDA, otherwise on
    :func:`composite_reference`.
    """
    implementation = pick("compositing", sigma.device, sigma.dtype, rgb.dtype)
    if implementation == "numba":
        return _Composite.apply(sigma, rgb, samples)
    if implementation == "sums":
        return composite_sums(sigma, rgb, samples)
    return composite_reference(sigma, rgb, samples)


def composite_reference(
    sigma: torch.Tensor, rgb: torch.Tensor, samples: Samples
) -> tuple[torch.Tensor, torch.Tensor]:
    """The slow twin of :func:`composite` in plain torch and nerfacc, for any device and dtype."""
    from nerfacc import accumulate_along_rays

    n_rays = len(samples.starts) - 1
    thin = sigma * (samples.t_ends - samples.t_starts)
    depths = (thin if has_float64(str(thin.device)) else thin.cpu()).double()
    before = torch.cat([depths.new_zeros(1), depths.cumsum(0)])  # [S + 1], across all rays
    first = samples.starts[samples.ray_indices].to(before.device)
    within = before[:-1] - before[first]
    weights = (torch.exp(-within) * -torch.expm1(-depths)).to(sigma.dtype).to(sigma.device)
    color = accumulate_along_rays(weights, rgb, samples.ray_indices, n_rays)
    alpha = accumulate_along_rays(weights, None, samples.ray_indices, n_rays).squeeze(-1)
    return color, alpha


def composite_sums(
    sigma: torch.Tensor, rgb: torch.Tensor, samples: Samples
) -> tuple[torch.Tensor, torch.Tensor]:
    """The twin of :func:`composite` for GPUs: running sums in float64 across all rays, gradient by hand."""
    return _Sums.apply(sigma, rgb, samples)


class _Sums(torch.autograd.Function):
    @staticmethod
    def forward(ctx, sigma, rgb, samples):
        lengths = samples.t_ends - samples.t_starts
        depths = (sigma * lengths).double()
        until = depths.cumsum(0)  # across all rays
        first = samples.starts[samples.ray_indices]
        within = (until - depths)[first] - until  # what light has met since its ray began, negative
        after = within.exp()
        weights = ((within + depths).exp() - after).to(sigma.dtype)[:, None]
        out = rgb.new_zeros(len(samples.starts) - 1, 4)
        out.index_add_(0, samples.ray_indices, torch.cat([weights * rgb, weights], 1))
        ctx.save_for_backward(rgb, lengths, samples.ray_indices, samples.starts, after, weights)
        return out[:, :3], out[:, 3]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_color, grad_alpha):
        rgb, lengths, ray_indices, starts, after, weights = ctx.saved_tensors
        incoming = torch.cat([grad_color, grad_alpha[:, None]], 1)[ray_indices]  # [S, 4]
        value = (incoming[:, :3] * rgb).sum(1) + incoming[:, 3]
        until = (weights[:, 0] * value).double().cumsum(0)
        behind = until[starts[1:][ray_indices] - 1] - until
        grad_sigma = lengths * (after * value - behind)
        return grad_sigma.to(rgb.dtype), weights * incoming[:, :3], None


class _Composite(torch.autograd.Function):
    @staticmethod
    def forward(ctx, sigma, rgb, samples):
        lengths = samples.t_ends - samples.t_starts
        transmittance = torch.empty_like(sigma)
        n_rays = len(samples.starts) - 1
        color, alpha = torch.zeros(n_rays, 3), torch.zeros(n_rays)
        sigma, rgb = sigma.detach().contiguous(), rgb.detach().contiguous()
        tensors = (sigma, rgb, lengths, samples.starts, color, alpha, transmittance)
        kernels.composite(*(tensor.numpy() for tensor in tensors))
        ctx.save_for_backward(sigma, rgb, lengths, samples.starts, transmittance)
        return color, alpha

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_color, grad_alpha):
        sigma, rgb = ctx.saved_tensors[:2]
        grad_sigma, grad_rgb = torch.empty_like(sigma), torch.empty_like(rgb)
        incoming = (grad_color.contiguous(), grad_alpha.contiguous())
        tensors = (*ctx.saved_tensors, *incoming, grad_sigma, grad_rgb)
        kernels.composite_gradient(*(tensor.numpy() for tensor in tensors))
        return grad_sigma, grad_rgb, None
