"""Which implementation of an operation runs: one table, read by the stages and printed by ``img2mesh doctor``.

The last implementation of an operation runs anywhere: ``torch`` is the reference itself, ``numba`` runs on the CPU,
wherever the tensors are. The faster ones before it give the same numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

# Operation -> implementations, the fastest first.
OPERATIONS = {
    "hash grid": ("numba", "gather", "torch"),
    "ray marching": ("numba", "torch"),
    "compositing": ("numba", "sums", "torch"),
    "volume rendering": ("numba", "torch"),
    "marching tetrahedra": ("torch",),
    "rasterization": ("boxes", "numba"),
}
# What has no implementation but one for the CPU, wherever the rest runs.
ON_THE_CPU = {
    "carving and stereo": "numba and OpenCV",
    "fusion of depths": "numba and PyMCubes",
    "texture baking": "numba and OpenCV",
}


def pick(operation: str, device: str | torch.device, *dtypes: torch.dtype) -> str:
    """The implementation of an operation of :data:`OPERATIONS` for tensors of these types on a device."""
    kind = str(device).partition(":")[0]
    *faster, anywhere = OPERATIONS[operation]
    return next((name for name in faster if _RUNS[name](kind, dtypes)), anywhere)


def _only_float32(dtypes: tuple[torch.dtype, ...]) -> bool:
    return all(str(dtype) == "torch.float32" for dtype in dtypes)


_RUNS = {
    "numba": lambda kind, dtypes: kind == "cpu" and _only_float32(dtypes),
    "gather": lambda kind, dtypes: kind == "cuda" and _only_float32(dtypes),
    "sums": lambda kind, dtypes: kind == "cuda" and _only_float32(dtypes),
    "boxes": lambda kind, dtypes: kind == "cuda",  # MPS has no minimum of int64 by index
}
