"""How much memory a stage needed at its worst moment."""

from __future__ import annotations

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
