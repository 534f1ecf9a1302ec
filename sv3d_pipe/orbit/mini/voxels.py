"""Voxels and frames: where the points of the built-in model's volume are seen.

Lengths are in units of the visible sphere's radius: the volume spans [-1, 1]^3. Positions are multiplied
and summed, not matrix products, which autocast would round to bfloat16: up to two thirds of a pixel.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from sv3d_pipe.cameras import FOV_DEG

CAMERA_DISTANCE = 1 / math.sin(math.radians(FOV_DEG) / 2)
FOCAL = 1 / math.tan(math.radians(FOV_DEG) / 2)  # in half image widths


def frame_axes(polar: torch.Tensor, azimuth: torch.Tensor) -> torch.Tensor:
    """Camera axes in the world of sv3d_pipe.cameras.

    Args:
        polar, azimuth: [..., ] radians; polar is measured from +y.
    Returns:
        [..., 3, 3] whose rows are right, up and back (towards the camera).
    """
    zero = torch.zeros_like(polar)
    back = torch.stack([polar.sin() * azimuth.sin(), polar.cos(), polar.sin() * azimuth.cos()], -1)
    right = torch.stack([azimuth.cos(), zero, -azimuth.sin()], -1)
    return torch.stack([right, torch.linalg.cross(back, right), back], -2)


def voxel_centers(grid: int, device: torch.device) -> torch.Tensor:
    """[grid^3, 3] world positions (x, y, z), in the order of a [z, y, x] volume."""
    center = (torch.arange(grid, device=device) + 0.5) * (2 / grid) - 1
    z, y, x = torch.meshgrid(center, center, center, indexing="ij")
    return torch.stack([x, y, z], -1).view(-1, 3)


def project(points: torch.Tensor, axes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """World points [P, 3] in frames with axes [B, T, 3, 3].

    Returns:
        positions [B, T, P, 2] in [-1, 1] (x right, y down, as grid_sample wants) and the
        distance along the viewing axis [B, T, P].
    """
    camera = (axes[:, :, None] * points[:, None]).sum(-1)  # [B, T, P, 3]
    depth = CAMERA_DISTANCE - camera[..., 2]
    scale = FOCAL / depth
    return torch.stack([camera[..., 0] * scale, -camera[..., 1] * scale], -1), depth


def unproject(maps: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
    """Feature maps [B, T, C, h, w] read at positions [B, T, P, 2]: [B, T, C, P]."""
    batch, frames = maps.shape[:2]
    values = F.grid_sample(
        maps.float().flatten(0, 1),
        where.flatten(0, 1)[:, None],
        align_corners=False,
        padding_mode="border",
    )
    return values[:, :, 0].unflatten(0, (batch, frames))


def rays(
    axes: torch.Tensor,  # [..., 3, 3]
    side: int,
    n: int,
) -> tuple[torch.Tensor, torch.Tensor]:  # [..., side * side, 3] each
    """First sample and step to the next of ``n`` along each ray through the pixels of square frames.

    The samples lie between the planes at depth +-1.
    """
    pixel = (torch.arange(side, device=axes.device) + 0.5) * (2 / side) - 1
    y, x = torch.meshgrid(-pixel, pixel, indexing="ij")
    camera = F.normalize(torch.stack([x, y, torch.full_like(x, -FOCAL)], -1), dim=-1).view(-1, 3)
    directions = (camera[..., None] * axes[..., None, :, :]).sum(-2)
    first = CAMERA_DISTANCE - 1 + 1 / n
    return CAMERA_DISTANCE * axes[..., None, 2, :] + directions * first, directions * (2 / n)


def ray_points(axes: torch.Tensor, side: int, n: int) -> torch.Tensor:
    """The samples [..., side * side, n, 3] of :func:`rays`."""
    starts, steps = rays(axes, side, n)
    return starts[..., None, :] + torch.arange(n, device=axes.device)[:, None] * steps[..., None, :]
