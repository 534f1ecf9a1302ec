"""How much memory a stage needed at its worst moment, how much is left, and what running out looks like."""

from __future__ import annotations

import gc
import threading

import psutil

INTERVAL_S = 0.05


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

            torch.cuda.reset_peak_memory_stats(self.device)
        else:
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
        while not self._done.wait(INTERVAL_S):
            self._sample()

    def _sample(self) -> None:
        self.peak_mb = max(self.peak_mb, self._process.memory_info().rss / 2**20)


def free_bytes(device: str) -> int:
    """Memory that can still be taken: on CUDA what other programs and our tensors leave, else the RAM."""
    if device.startswith("cuda"):
        import torch

        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return psutil.virtual_memory().available


def is_out_of_memory(error: BaseException) -> bool:
    """Whether this is any of the ways in which PyTorch and Python say that memory has run out."""
    words = ("out of memory", "can't allocate memory", "ALLOC_FAILED")
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return named or (isinstance(error, RuntimeError) and any(word in str(error) for word in words))


def give_back(device: str) -> None:
    """Return what no tensor holds any more."""
    gc.collect()
    if device.startswith("cuda"):
        import torch

        torch.cuda.empty_cache()
