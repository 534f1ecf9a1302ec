"""Which device a run uses, and what it is good at."""

from __future__ import annotations

import functools
from pathlib import Path

from sv3d_pipe.errors import UserError


def resolve_device(name: str) -> str:
    """``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps`` as a device that is there.

    ``auto`` takes CUDA if present, else the CPU.

    Raises:
        UserError: unknown name, or this machine has no such device.
    """
    check_device_name(name)
    if name == "cpu":
        return name
    import torch

    cuda_count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return "cuda" if cuda_count else "cpu"
    if name == "mps":
        if not torch.backends.mps.is_available():
            raise UserError("There is no MPS device here; use --device cpu or --device auto.")
        return name
    index = int(name.partition(":")[2] or 0)
    if index >= cuda_count:
        found = f"PyTorch sees {cuda_count} CUDA device{'' if cuda_count == 1 else 's'}"
        raise UserError(f"There is no device {name} here ({found}); use --device cpu or --device auto.")
    return name


def check_device_name(name: str) -> None:
    """Raise UserError unless ``name`` is one that :func:`resolve_device` knows. Imports nothing heavy."""
    kind, colon, index = name.partition(":")
    if not (name in ("auto", "cpu", "cuda", "mps") or (kind == "cuda" and colon and index.isdecimal())):
        raise UserError(f"The device must be auto, cpu, cuda, cuda:N or mps, not {name!r}.")


@functools.cache
def prefers_bfloat16(device: str) -> bool:
    """Whether matrix products in bfloat16 are faster than in float32 on this device."""
    import torch

    if device.startswith("cuda"):
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device != "cpu":
        return False
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def network_dtype(wanted: str, device: str) -> str:
    """The number format of a large network: ``wanted``, or for ``auto`` the fast one of this device.

    float16 on CUDA, as the released sampling code runs; bfloat16 on CPUs made for it; else float32.
    """
    if wanted != "auto":
        return wanted
    if device.startswith("cuda"):
        return "float16"
    return "bfloat16" if prefers_bfloat16(device) else "float32"
