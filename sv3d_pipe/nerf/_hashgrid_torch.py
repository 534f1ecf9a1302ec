"""The hash grid of :mod:`sv3d_pipe.nerf.hashgrid` for GPUs, in plain torch.

All levels and all eight corners go through one gather. The table's gradient is summed by ``index_add_``, which
adds atomically on CUDA, where autograd would sort all rows for ``index_put_``. So its last bits vary from run to run.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from sv3d_pipe.nerf._hashgrid_numba import PRIME_Y, PRIME_Z

# Points at once: with 12 levels 50 MB for each number of their corners. Beyond, corners are found again for the gradient.
PART = 2**17


@dataclass(frozen=True)
class Levels:
    """The levels of :class:`sv3d_pipe.nerf.hashgrid.Layout` as tensors on a device.

    Rows are counted in int32: products wrap there, but the low bits, all that a hash keeps, are right.

    Attributes:
        resolutions: [L] float32 cells per side.
        last: [L] int32 index of a side's last cell.
        strides: [3, 1, L] int32 what a step along each axis adds to a row, or the hash's factor for it.
        steps: [2, 3, 1, L] int32: 0 and the strides.
        mask: [L] int32, rows of a hashed level minus 1.
        offsets: [L] int32 first row.
        dense: [L] bool.
        far, sign: [2, 1, 1, 1] float32 1 and 0, -1 and 1: a side's weight is far + sign * position.
    """

    resolutions: torch.Tensor
    last: torch.Tensor
    strides: torch.Tensor
    steps: torch.Tensor
    mask: torch.Tensor
    offsets: torch.Tensor
    dense: torch.Tensor
    far: torch.Tensor
    sign: torch.Tensor

    @classmethod
    def on(
        cls, device: torch.device, resolutions: np.ndarray, offsets: np.ndarray, dense: np.ndarray
    ) -> Levels:
        side = resolutions + 1
        by_y, by_z = np.where(dense, [side, side**2], np.array([[PRIME_Y], [PRIME_Z]]).astype(np.int64))
        strides = np.stack([np.ones_like(side), by_y, by_z])[:, None]
        steps = np.stack([np.zeros_like(strides), strides])
        whole = (resolutions - 1, strides, steps, np.diff(offsets) - 1, offsets[:-1])
        return cls(
            torch.from_numpy(resolutions).to(device, torch.float32),
            *(torch.from_numpy(numbers.astype(np.int32)).to(device) for numbers in whole),
            torch.from_numpy(dense).to(device),
            *torch.tensor([[1.0, 0], [-1, 1]]).view(2, 2, 1, 1, 1).to(device),
        )


def encode(points: torch.Tensor, table: torch.Tensor, levels: Levels) -> torch.Tensor:
    """As :func:`sv3d_pipe.nerf.hashgrid.encode`, for float32 on any device."""
    return _Encode.apply(points, table, levels)


class _Encode(torch.autograd.Function):
    @staticmethod
    def forward(ctx, points, table, levels):
        out = []
        for part in points.split(PART):
            corners = rows, _, weights = _corners(part, levels)
            blended = _look_up(table, rows).mul_(weights[..., None]).sum((0, 1, 2))  # [N, L, 2]
            out.append(blended.flatten(1))
        ctx.levels = levels
        ctx.save_for_backward(points, table, *(corners if len(out) == 1 else ()))
        return torch.cat(out) if len(out) > 1 else out[0]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        (points, table, *kept), levels = ctx.saved_tensors, ctx.levels
        grad = grad.reshape(len(points), len(levels.resolutions), table.shape[1])  # [N, L, 2]
        for_points, for_table = [], torch.zeros_like(table) if ctx.needs_input_grad[1] else None
        for part, incoming in zip(points.split(PART), grad.split(PART)):
            rows, sides, weights = kept or _corners(part, levels)
            if for_table is not None:
                share = weights[..., None] * incoming  # [2, 2, 2, N, L, 2]
                for_table.index_add_(0, rows.flatten(), share.flatten(0, 4))
            if ctx.needs_input_grad[0]:
                value = _look_up(table, rows).mul_(incoming).sum(-1)  # [2, 2, 2, N, L]
                for_points.append(_slopes(value, sides, levels))
        return torch.cat(for_points) if for_points else None, for_table, None


def _corners(points: torch.Tensor, levels: Levels) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Of the cells around points [N, 3]: their corners, z first, and how much of each is in a point.

    Returns:
        table rows [2, 2, 2, N, L], weights of both sides along x, y, z [2, 3, N, L], and weights [2, 2, 2, N, L].
    """
    scaled = points.T[..., None] * levels.resolutions  # [3, N, L]
    cell = torch.minimum(scaled.int(), levels.last)
    sides = torch.addcmul(levels.far, levels.sign, scaled.sub_(cell))
    u, v, w = sides.unbind(1)  # [2, N, L] each
    x, y, z = torch.addcmul(levels.steps, cell, levels.strides).unbind(1)  # [2, N, L] each
    y, z = y[:, None], z[:, None, None]
    hashed = (x ^ (y ^ z)).bitwise_and_(levels.mask)
    rows = torch.where(levels.dense, x + (y + z), hashed).add_(levels.offsets)
    return rows, sides, u * (v[:, None] * w[:, None, None])


def _look_up(table: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Entries [*rows, 2]; plain indexing would make int64 of the rows first."""
    return table.index_select(0, rows.flatten()).view(*rows.shape, table.shape[1])


def _slopes(value: torch.Tensor, sides: torch.Tensor, levels: Levels) -> torch.Tensor:
    """Gradient [N, 3] of the sum over levels of values [2, 2, 2, N, L] of the corners, blended at the points."""
    x, y, z = sides.unbind(1)  # [2, N, L] each
    along_x = (value[:, :, 1] - value[:, :, 0]).mul_(y * z[:, None]).sum((0, 1))
    value = (value * x).sum(2)  # [2, 2, N, L]
    along_y = (value[:, 1] - value[:, 0]).mul_(z).sum(0)
    value = (value * y).sum(1)  # [2, N, L]
    return torch.stack([along_x, along_y, value[1] - value[0]], 1) @ levels.resolutions
