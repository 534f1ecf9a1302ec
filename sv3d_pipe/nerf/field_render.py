"""Render a fitted field along rays, and compare it with pictures."""

from __future__ import annotations

import numpy as np
import torch

from sv3d_pipe.nerf.composite import composite
from sv3d_pipe.nerf.field import RadianceField
from sv3d_pipe.nerf.march import march
from sv3d_pipe.nerf.occupancy import OccupancyGrid
from sv3d_pipe.nerf.rays import Pictures, RayBatch
from sv3d_pipe.pictures import decibels

RAYS = 4096  # per part


@torch.no_grad()
def render_rays(
    field: RadianceField, grid: OccupancyGrid, origins: torch.Tensor, directions: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Premultiplied color [R, 3] and alpha [R] along rays [R, 3]."""
    colors, alphas = [], []
    for o, d in zip(origins.split(RAYS), directions.split(RAYS)):
        middle = torch.full((len(o),), 0.5, device=o.device)
        samples = march(o, d, grid.occupied, grid.radius, grid.step, middle)
        color, alpha = composite(*field(samples.points(o, d)), samples)
        colors.append(color)
        alphas.append(alpha)
    return torch.cat(colors), torch.cat(alphas)


def psnr(field: RadianceField, grid: OccupancyGrid, pictures: Pictures, most: int = 100_000) -> float:
    """PSNR in dB over whole pictures on white, on an even lattice of at most ``most`` pixel centers."""
    stride = int(np.ceil((pictures.rgba[..., 0].numel() / most) ** 0.5))
    lattice = torch.arange(pictures.rgba[..., 0].numel(), device=pictures.rgba.device)
    lattice = lattice.view(pictures.rgba.shape[:3])[:, stride // 2 :: stride, stride // 2 :: stride]
    lattice = lattice.reshape(-1)
    if pictures.seen is not None:
        lattice = lattice[pictures.seen[lattice]]
    return psnr_of(field, grid, pictures.at_centers(lattice))


def psnr_of(field: RadianceField, grid: OccupancyGrid, batch: RayBatch) -> float:
    """PSNR in dB of the colors along rays, on white."""
    color, alpha = render_rays(field, grid, batch.origins, batch.directions)
    seen = color + (1 - alpha[:, None])
    wanted = batch.rgba[:, :3] + (1 - batch.rgba[:, 3:])
    return decibels(float(((seen - wanted) ** 2).mean()))
