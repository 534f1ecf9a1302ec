"""Where along the rays the field has to be asked: marching on an occupancy grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from sv3d_pipe.backend import pick
from sv3d_pipe.nerf import _march_numba as kernels


@dataclass(frozen=True)
class Samples:
    """Intervals along rays, packed: those of ray r lie from starts[r] to starts[r + 1], near to far.

    Attributes:
        ray_indices: [S] int64.
        t_starts, t_ends: [S] float32 distances from the ray's origin.
        starts: [R + 1] int64.
    """

    ray_indices: torch.Tensor
    t_starts: torch.Tensor
    t_ends: torch.Tensor
    starts: torch.Tensor

    def __len__(self) -> int:
        return len(self.ray_indices)

    def points(self, origins: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
        """[S, 3] middles of the intervals, for the rays' origins [R, 3] and directions [R, 3]."""
        middles = 0.5 * (self.t_starts + self.t_ends)
        return torch.addcmul(origins[self.ray_indices], directions[self.ray_indices], middles[:, None])


def march(
    origins: torch.Tensor,  # [R, 3]
    directions: torch.Tensor,  # [R, 3] unit length
    occupied: torch.Tensor,  # [G, G, G] bool, indexed x, y, z
    radius: float,
    step: float,
    jitter: torch.Tensor,  # [R] in [0, 1)
) -> Samples:
    """Intervals of length ``step`` whose middle lies in an occupied cell of [-radius, radius]^3.

    Ray r's intervals start at entry + (k + jitter[r]) * step. Runs on numba for CPU tensors,
    otherwise on :func:`march_reference`.
    """
    if pick("ray marching", origins.device) != "numba":
        return march_reference(origins, directions, occupied, radius, step, jitter)
    arrays = [tensor.contiguous().numpy() for tensor in (origins, directions, jitter, occupied)]
    starts = torch.zeros(len(origins) + 1, dtype=torch.int64)
    t_starts, ray_indices = torch.empty(0), torch.empty(0, dtype=torch.int64)
    for fill in (False, True):
        outputs = [tensor.numpy() for tensor in (starts, t_starts, ray_indices)]
        kernels.march(*arrays, np.float32(radius), np.float32(step), *outputs, fill)
        if not fill:
            starts = starts.cumsum(0)
            t_starts = torch.empty(int(starts[-1]))
            ray_indices = torch.empty(int(starts[-1]), dtype=torch.int64)
    return Samples(ray_indices, t_starts, t_starts + step, starts)


def march_reference(
    origins: torch.Tensor, directions: torch.Tensor, occupied: torch.Tensor, radius: float, step: float,
    jitter: torch.Tensor,
) -> Samples:  # fmt: skip
    """The slow twin of :func:`march`: every step of every ray, in plain torch, on any device."""
    a, b = (-radius - origins) / directions, (radius - origins) / directions
    near = torch.minimum(a, b).nan_to_num(-torch.inf).amax(-1).clamp(min=0)
    far = torch.maximum(a, b).nan_to_num(torch.inf).amin(-1)
    count = int(2 * radius * 3**0.5 / step) + 2
    k = torch.arange(count, device=origins.device)
    t = near[:, None] + (k + jitter[:, None]) * step  # [R, K]
    middles = t + 0.5 * step
    points = torch.addcmul(origins[:, None], middles[..., None], directions[:, None])  # [R, K, 3]
    grid = len(occupied)
    i, j, m = ((points + radius) * (0.5 / radius * grid)).long().clamp(0, grid - 1).unbind(-1)
    kept = occupied[i, j, m] & (middles < far[:, None])
    ray_indices, k = kept.nonzero().unbind(1)  # the one place where the host learns how many there are
    t_starts = t[ray_indices, k]
    starts = torch.zeros(len(origins) + 1, dtype=torch.int64, device=origins.device)
    torch.cumsum(kept.sum(1), 0, out=starts[1:])
    return Samples(ray_indices, t_starts, t_starts + step, starts)
