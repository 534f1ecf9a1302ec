"""Multi-resolution hash encoding (Müller et al. 2022, "Instant Neural Graphics Primitives", section 3)."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numba
import numpy as np
import torch

from sv3d_pipe.backend import pick
from sv3d_pipe.nerf import _hashgrid_numba as kernels
from sv3d_pipe.nerf import _hashgrid_torch as gathered

FEATURES = 2  # per table entry


@dataclass(frozen=True, eq=False)
class Layout:
    """Where each level lives in one common table.

    Attributes:
        resolutions: [L] int64 cells per side.
        offsets: [L + 1] int64, level l owns rows offsets[l] to offsets[l + 1].
        dense: [L] bool, the level has a row for every grid corner; otherwise rows are hashed.
    """

    resolutions: np.ndarray
    offsets: np.ndarray
    dense: np.ndarray

    @classmethod
    def geometric(cls, levels: int, table_log2: int, coarsest: int, finest: int) -> Layout:
        """Resolutions in geometric progression; at most 2**table_log2 rows per level (eq. 2 and 3)."""
        growth = np.exp(np.log(finest / coarsest) / max(levels - 1, 1))
        resolutions = np.floor(coarsest * growth ** np.arange(levels) + 1e-6).astype(np.int64)
        corners = (resolutions + 1) ** 3
        dense = corners <= 2**table_log2
        sizes = np.where(dense, corners, 2**table_log2)
        return cls(resolutions, np.concatenate([[0], np.cumsum(sizes)]), dense)

    @property
    def rows(self) -> int:
        return int(self.offsets[-1])

    @property
    def width(self) -> int:
        """Length of one encoding."""
        return len(self.resolutions) * FEATURES


def encode(points: torch.Tensor, table: torch.Tensor, layout: Layout) -> torch.Tensor:
    """Encode positions; differentiable (once) in both tensors.

    Runs for float32 on numba on the CPU and on one gather on CUDA, otherwise on :func:`encode_reference`.

    Args:
        points: [N, 3] in [0, 1].
        table: [layout.rows, 2].
    Returns:
        [N, layout.width]
    """
    implementation = pick("hash grid", points.device, points.dtype, table.dtype)
    if implementation == "numba":
        return _Encode.apply(points, table, layout)
    if implementation == "gather":
        return encode_gathered(points, table, layout)
    return encode_reference(points, table, layout)


def encode_gathered(points: torch.Tensor, table: torch.Tensor, layout: Layout) -> torch.Tensor:
    """The twin of :func:`encode` for GPUs: float32 on any device."""
    return gathered.encode(points, table, _levels(layout, points.device))


@functools.lru_cache(maxsize=16)
def _levels(layout: Layout, device: torch.device) -> gathered.Levels:
    """Made once: copies to a GPU take longer than the work they serve."""
    return gathered.Levels.on(device, layout.resolutions, layout.offsets, layout.dense)


def encode_reference(points: torch.Tensor, table: torch.Tensor, layout: Layout) -> torch.Tensor:
    """The slow twin of :func:`encode` in plain torch, for any device and dtype."""
    corners = torch.tensor(
        [[c & 1, c >> 1 & 1, c >> 2] for c in range(8)], device=points.device, dtype=torch.int64
    )  # [8, 3]
    encoded = []
    for resolution, first, last, dense in zip(
        layout.resolutions.tolist(), layout.offsets[:-1].tolist(), layout.offsets[1:].tolist(), layout.dense
    ):
        scaled = points * resolution
        cell = scaled.detach().long().clamp(max=resolution - 1)  # [N, 3]
        inside = scaled - cell
        x, y, z = (cell[:, None] + corners).unbind(-1)  # [N, 8] each
        if dense:
            rows = (z * (resolution + 1) + y) * (resolution + 1) + x
        else:
            rows = (x ^ (y * int(kernels.PRIME_Y)) ^ (z * int(kernels.PRIME_Z))) & (last - first - 1)
        weights = torch.where(corners.bool(), inside[:, None], 1 - inside[:, None]).prod(-1)  # [N, 8]
        encoded.append((table[first + rows] * weights[..., None]).sum(1))
    return torch.cat(encoded, -1)


class _Encode(torch.autograd.Function):
    @staticmethod
    def forward(ctx, points, table, layout):
        points = points.contiguous()
        ctx.save_for_backward(points, table)
        ctx.layout = layout
        out = torch.empty(len(points), len(layout.resolutions), FEATURES)
        kernels.encode(
            points.detach().numpy(), table.detach().numpy(),
            layout.resolutions, layout.offsets, layout.dense, out.numpy(),
        )  # fmt: skip
        return out.flatten(1)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        points, table = (tensor.detach().numpy() for tensor in ctx.saved_tensors)
        layout = ctx.layout
        grad = grad.contiguous().view(len(points), len(layout.resolutions), FEATURES).numpy()
        where = (layout.resolutions, layout.offsets, layout.dense)
        for_points = for_table = None
        if ctx.needs_input_grad[0]:
            for_points = torch.zeros(points.shape)
            kernels.point_gradient(points, table, grad, *where, for_points.numpy())
        if ctx.needs_input_grad[1]:
            for_table = torch.zeros(table.shape)
            kernels.table_gradient(
                points, grad, _shared_out(len(layout.resolutions)), *where, for_table.numpy()
            )
        return for_points, for_table, None


def _shared_out(levels: int) -> np.ndarray:
    """Levels ordered so that numba's static chunks give every thread coarse and fine ones alike."""
    threads = numba.get_num_threads()
    return np.concatenate([np.arange(first, levels, threads) for first in range(min(threads, levels))])
