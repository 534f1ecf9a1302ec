"""Volume rendering of the built-in model's grid (Mildenhall et al. 2020, "NeRF", eq. 3)."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from sv3d_pipe.backend import pick
from sv3d_pipe.orbit.mini import _volume_render_numba as kernels
from sv3d_pipe.orbit.mini.voxels import ray_points, rays


def render_volume(volume: torch.Tensor, axes: torch.Tensor, side: int, ray_samples: int) -> torch.Tensor:
    """Render square frames; differentiable (once) in the volume, not in the axes.

    Runs on numba for float32 on the CPU, otherwise on :func:`render_volume_torch`.

    Args:
        volume: [B, 8, G, G, G] in the order [z, y, x]: rgb, density, four features.
        axes: [B, T, 3, 3] of the frames, see :func:`sv3d_pipe.orbit.mini.voxels.frame_axes`.
        side: pixels per side.
        ray_samples: samples along each ray.
    Returns:
        [B, T, 8, side, side] premultiplied rgb, alpha, and the features weighted like rgb.
    """
    if pick("volume rendering", volume.device, volume.dtype) == "numba":
        return _Render.apply(volume, axes, side, ray_samples)
    return render_volume_torch(volume, axes, side, ray_samples)


def render_volume_torch(
    volume: torch.Tensor, axes: torch.Tensor, side: int, ray_samples: int
) -> torch.Tensor:
    """The slow twin of :func:`render_volume` in plain torch, for any device and dtype."""
    points = ray_points(axes, side, ray_samples)  # [B, T, side^2, n, 3]
    values = F.grid_sample(volume, points, align_corners=False)  # [B, 8, T, side^2, n]
    optical = values[:, 3:4] * (2 / ray_samples)
    transmittance = torch.exp(optical - optical.cumsum(-1))
    weights = transmittance * (1 - torch.exp(-optical))
    rgb_features = (torch.cat([values[:, :3], values[:, 4:]], 1) * weights).sum(-1)  # [B, 7, T, side^2]
    alpha = weights.sum(-1)
    images = torch.cat([rgb_features[:, :3], alpha, rgb_features[:, 3:]], 1)
    return images.transpose(1, 2).unflatten(3, (side, side))


class _Render(torch.autograd.Function):
    @staticmethod
    def forward(ctx, volume, axes, side, ray_samples):
        batch, channels, grid = volume.shape[:3]
        framed = torch.zeros(batch, grid + 2, grid + 2, grid + 2, channels)
        framed[:, 1:-1, 1:-1, 1:-1] = volume.movedim(1, -1)
        starts, steps = rays(axes.float(), side, ray_samples)  # [B, T, side^2, 3]
        # In framed voxels -1 is at 0.5, halfway between the frame and the first voxel.
        starts, steps = (starts + 1) * (grid / 2) + 0.5, steps * (grid / 2)
        images = torch.empty(*axes.shape[:2], channels, side**2)
        kernels.render(*(x.numpy() for x in (framed, starts, steps)), ray_samples, images.numpy())
        ctx.save_for_backward(framed, starts, steps, images)
        ctx.ray_samples = ray_samples
        return images.unflatten(-1, (side, side))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_images):
        framed, starts, steps, images = (x.numpy() for x in ctx.saved_tensors)
        grad_images = grad_images.contiguous().flatten(-2).numpy()
        grad = torch.zeros(framed.shape)
        kernels.render_gradient(framed, starts, steps, ctx.ray_samples, images, grad_images, grad.numpy())
        return grad[:, 1:-1, 1:-1, 1:-1].movedim(-1, 1), None, None, None
