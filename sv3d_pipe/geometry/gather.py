"""Rows of a tensor by number, with a gradient that is the same in every run."""

from __future__ import annotations

import torch


def take_rows(
    values: torch.Tensor,  # [V, ...]
    index: torch.Tensor,  # [...] int64
) -> torch.Tensor:  # [..., ...]
    """``values[index]``; the gradient of a row that is taken several times is summed in the order of ``index``.

    That of ``values[index]`` itself is summed by all threads of a CPU at once, in an order that differs from run to
    run: the last digits of every gradient then do, and after some hundred steps of Adam the whole mesh.
    """
    return values.index_select(0, index.reshape(-1)).view(*index.shape, *values.shape[1:])
