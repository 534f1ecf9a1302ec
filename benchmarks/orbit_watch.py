"""One program painting one orbit in a separate process: seconds of its parts, peak memory.

On CUDA the peak is the largest sum of all tensors during the measured orbit; elsewhere it is the
largest resident memory that the process ever had, including Python, libraries and weights.
"""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import os
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sv3d_pipe  # noqa: F401  (before torch)

if TYPE_CHECKING:
    import numpy as np
    import torch

REASON_LENGTH = 200
PROGRAMS = {  # name in the table: module and function that make it ready
    "ours": ("orbit_contenders", "ours"),
    "diffusers SVD": ("orbit_contenders", "stock"),
    "port": ("orbit_contenders", "port"),
    "port, cast": ("orbit_contenders", "port_cast"),
    "Stability": ("orbit_stability", "stability"),
}


@dataclass(frozen=True)
class Task:
    """One orbit, the same for all.

    Attributes:
        network: settings of "unet", "vae" and "image_encoder", in diffusers' and transformers' words.
        guidance: largest scale, above 1, so that all do both halves.
        dtype: name of the floating-point type that the UNet computes in.
        cap_bytes: memory of the CUDA device that may be used; 0 is all.
        port, stability: folders of the foreign programs.
    """

    network: dict[str, dict]
    size: int
    frames: int
    steps: int
    guidance: float
    device: str
    dtype: str
    low_vram: bool
    cap_bytes: int
    port: str
    stability: str


@dataclass(frozen=True)
class Contender:
    """A program ready to paint.

    Attributes:
        paint: the whole orbit in a number of steps, to frames in [0, 1].
        unet: its first call begins the steps.
        decoder: the object and the name of its method whose first call ends them.
        weights: number of parameters in the UNet and in everything.
        remark: in what it differs from the others.
    """

    paint: Callable[[int], np.ndarray]
    unet: torch.nn.Module
    decoder: tuple[Any, str]
    weights: tuple[int, int]
    remark: str


@dataclass(frozen=True)
class Sample:
    """One measured orbit.

    Attributes:
        encode_s, steps_s, decode_s: seconds before the UNet's first call, from there to the decoder's
            first call, and from there to the frames in host memory.
        busy_s: seconds of all cores during the steps; a busy machine disturbs them less. None on CUDA.
        peak: bytes. On CUDA the largest sum of all tensors during the orbit; elsewhere the process's
            largest resident memory ever: Python, libraries, weights and work.
        reserved: bytes that PyTorch had taken from the CUDA device; None elsewhere.
        finite: whether all values of the frames were finite.
        weights: parameters of the UNet and of everything.
    """

    encode_s: float
    steps_s: float
    decode_s: float
    busy_s: float | None
    peak: int
    reserved: int | None
    finite: bool
    weights: tuple[int, int]
    remark: str

    @property
    def orbit_s(self) -> float:
        return self.encode_s + self.steps_s + self.decode_s


def measure(contender: Contender, steps: int, device: str) -> Sample:
    """Paint a short orbit to warm up, then one under the watch."""
    import numpy as np
    import torch

    cuda = device.startswith("cuda")
    contender.paint(1)
    if cuda:
        torch.cuda.reset_peak_memory_stats(device)
    with stopwatch(contender, device) as stamps:
        frames = contender.paint(steps)
    (start, _), (first, busy), (decode, busy_end), (end, _) = stamps
    return Sample(
        encode_s=first - start,
        steps_s=decode - first,
        decode_s=end - decode,
        busy_s=None if cuda else busy_end - busy,
        peak=torch.cuda.max_memory_allocated(device) if cuda else _resident(),
        reserved=torch.cuda.max_memory_reserved(device) if cuda else None,
        finite=bool(np.isfinite(frames).all()),
        weights=contender.weights,
        remark=contender.remark,
    )


@contextlib.contextmanager
def stopwatch(contender: Contender, device: str):
    """A list of four moments: now, first call of the UNet, first of the decoder, end of the block."""
    stamps = [_now(device)]
    owner, name = contender.decoder
    decode = getattr(owner, name)

    def reached(phase: int) -> None:
        if len(stamps) == phase:
            stamps.append(_now(device))

    def watched(*arguments, **named):
        reached(2)
        return decode(*arguments, **named)

    hook = contender.unet.register_forward_pre_hook(lambda *_: reached(1))
    setattr(owner, name, watched)
    try:
        yield stamps
        stamps.append(_now(device))
    finally:
        hook.remove()
        setattr(owner, name, decode)


def _now(device: str) -> tuple[float, float]:
    """Seconds on the clock, and of work by all cores for this process."""
    import torch

    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return time.perf_counter(), time.process_time()


def _resident() -> int:
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else largest * 1024


def alone(name: str, task: Task) -> Sample | str:
    """Measure one program in a fresh process; a text says in one line why there is no measurement."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_alone, args=(name, task, sender), daemon=True)
    process.start()
    sender.close()
    try:
        answer = receiver.recv()
    except EOFError:
        answer = "its process was ended from outside, most likely for want of memory"
    process.join()
    return answer


def _alone(name: str, task: Task, sender: Any) -> None:
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        with contextlib.redirect_stderr(nowhere):
            try:
                answer = _sampled(name, task)
            except Exception as error:  # any failure of a foreign program is a line of the table
                answer = reason(error)
    sender.send(answer)


def _sampled(name: str, task: Task) -> Sample:
    if task.cap_bytes:
        _cap(task.device, task.cap_bytes)
    module, function = PROGRAMS[name]
    contender = getattr(importlib.import_module(module), function)(task)
    return measure(contender, task.steps, task.device)


def _cap(device: str, most: int) -> None:
    """Let PyTorch take at most so many bytes of the CUDA device."""
    import torch

    index = torch.device(device).index or 0
    share = most / torch.cuda.get_device_properties(index).total_memory
    torch.cuda.set_per_process_memory_fraction(min(share, 1.0), index)


def reason(error: Exception) -> str:
    """An exception in one line."""
    text = (str(error).strip() or "no message").splitlines()[0]
    kind = "" if isinstance(error, ImportError) else f"{type(error).__name__}: "
    return f"{kind}{text}"[:REASON_LENGTH]
