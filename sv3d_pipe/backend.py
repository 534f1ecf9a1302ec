"""Which implementation of an operation runs: one table, read by the stages and printed by ``img2mesh doctor``.

``torch`` is the reference, which runs anywhere. A faster implementation stands beside it and gives the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

# Operation -> implementations, the fastest first.
OPERATIONS = {
    "hash grid": ("numba", "gather", "torch"),
    "ray marching": ("numba", "torch"),
    "compositing": ("numba", "sums", "torch"),
    "volume rendering": ("numba", "torch"),
    "marching tetrahedra": ("kaolin", "torch"),
}
# What has no implementation but one for the CPU, wherever the rest runs.
ON_THE_CPU = {
    "rasterization": "numba",
    "carving and stereo": "numba and OpenCV",
    "fusion of depths": "numba and PyMCubes",
    "texture baking": "numba and OpenCV",
}


def pick(operation: str, device: str | torch.device, *dtypes: torch.dtype) -> str:
    """The implementation of an operation of :data:`OPERATIONS` for tensors of these types on a device."""
    kind = str(device).partition(":")[0]
    return next(name for name in OPERATIONS[operation] if _RUNS[name](kind, dtypes))


@cache
def kaolin_march() -> Callable[..., Any] | None:
    """NVIDIA kaolin's marching tetrahedra, or None where no working kaolin is installed.

    PyPI's ``kaolin`` is an empty placeholder that raises on import, so its presence alone says nothing.
    """
    try:
        from kaolin.ops.conversions import marching_tetrahedra
    except Exception:  # the placeholder and half-installed builds raise all kinds
        return None
    return marching_tetrahedra


def _only_float32(dtypes: tuple[torch.dtype, ...]) -> bool:
    return all(str(dtype) == "torch.float32" for dtype in dtypes)


_RUNS = {
    "numba": lambda kind, dtypes: kind == "cpu" and _only_float32(dtypes),
    "gather": lambda kind, dtypes: kind == "cuda" and _only_float32(dtypes),
    "sums": lambda kind, dtypes: kind == "cuda" and _only_float32(dtypes),
    "kaolin": lambda kind, dtypes: kind == "cuda" and kaolin_march() is not None,
    "torch": lambda kind, dtypes: True,
}
