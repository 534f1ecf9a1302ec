"""Which device a run uses, what it is good at, how much memory it has left and how much was needed."""

from __future__ import annotations

import functools
import gc
import os
import subprocess
import threading
from pathlib import Path

from sv3d_pipe.errors import UserError

WATCH_INTERVAL_S = 0.05


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


def visible_cards() -> list[str]:
    """The CUDA cards that PyTorch sees, each as ``CUDA_VISIBLE_DEVICES`` would name it alone. Starts none of them."""
    import torch

    count = torch.cuda.device_count()
    named = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(count))))
    return [card.strip() for card in named.split(",")][:count]


def usable_cores() -> int:
    """The processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def nvidia_driver() -> str | None:
    """Version of the NVIDIA driver, whether or not PyTorch can use its cards; None without one."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return (found.stdout.split() or [None])[0] if found.returncode == 0 else None


def check_device_name(name: str) -> None:
    """Raise UserError unless ``name`` is one that :func:`resolve_device` knows. Imports nothing heavy."""
    kind, colon, index = name.partition(":")
    if not (name in ("auto", "cpu", "cuda", "mps") or (kind == "cuda" and colon and index.isdecimal())):
        raise UserError(f"The device must be auto, cpu, cuda, cuda:N or mps, not {name!r}.")


def has_float64(device: str) -> bool:
    """Whether the device can compute in double precision; Apple's GPUs cannot."""
    return not device.startswith("mps")


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


class PeakMemory:
    """Watches this process while the ``with`` block runs.

    Args:
        device: on a CUDA device its allocator's peak is measured, elsewhere the resident memory.

    Attributes:
        peak_mb: largest value seen, in MiB.
    """

    def __init__(self, device: str):
        self.device = device
        self.peak_mb = 0.0
        self._done = threading.Event()

    def __enter__(self) -> PeakMemory:
        if self.device.startswith("cuda"):
            import torch

            torch.cuda.init()  # PyTorch knows no device before
            torch.cuda.reset_peak_memory_stats(self.device)
        else:
            import psutil

            self._process = psutil.Process()
            self._sample()
            self._thread = threading.Thread(target=self._watch, daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        if self.device.startswith("cuda"):
            import torch

            self.peak_mb = torch.cuda.max_memory_allocated(self.device) / 2**20
        else:
            self._done.set()
            self._thread.join()
            self._sample()

    def _watch(self) -> None:
        while not self._done.wait(WATCH_INTERVAL_S):
            self._sample()

    def _sample(self) -> None:
        self.peak_mb = max(self.peak_mb, self._process.memory_info().rss / 2**20)


def free_bytes(device: str) -> int:
    """Memory that can still be taken: on CUDA what other programs and our tensors leave, else the RAM."""
    if device.startswith("cuda"):
        import torch

        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    import psutil

    return psutil.virtual_memory().available


def is_out_of_memory(error: BaseException) -> bool:
    """Whether this is any of the ways in which PyTorch and Python say that memory has run out."""
    words = ("out of memory", "can't allocate memory", "ALLOC_FAILED")
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return named or (isinstance(error, RuntimeError) and any(word in str(error) for word in words))


def give_back(device: str) -> None:
    """Free the memory that no tensor holds any more."""
    gc.collect()
    if device.startswith("cuda"):
        import torch

        torch.cuda.empty_cache()
