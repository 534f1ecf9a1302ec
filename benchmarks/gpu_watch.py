"""What benchmarks/gpu.py looks at a GPU with: clocks, peaks of memory, steps of fits, waits, parts."""

from __future__ import annotations

import collections
import contextlib
import json
import statistics
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import torch
from full_size import full_size
from orbit import small
from recon_stages import orbit_views, placed, random_prior

from sv3d_pipe.artifacts import Field, Views
from sv3d_pipe.cameras import N_FRAMES
from sv3d_pipe.config import Config
from sv3d_pipe.contracts import Prior
from sv3d_pipe.nerf.fit_field import fit_field
from sv3d_pipe.road.context import Context

GB = 1e9
WAIT = "synchroniz"  # in the warning that PyTorch gives where the host waits for the device


class Log:
    """Numbers as JSON lines, in the file at once, so that a run that is ended keeps what it had.

    Args:
        began: the script, by time.monotonic().
    """

    def __init__(self, path: Path, began: float):
        self.path, self.began = path, began
        self.current = "start"  # the section at work
        self.writing = threading.RLock()

    @property
    def seconds(self) -> float:
        """Since the script began."""
        return time.monotonic() - self.began

    def say(self, what: str, **numbers: Any) -> None:
        row = {"at_s": round(self.seconds, 1), "what": what} | numbers
        line = json.dumps(row, default=str)
        with self.writing, self.path.open("a") as file:
            file.write(line + "\n")
            print(line, flush=True)

    def failed(self, section: str) -> None:
        """A row about the exception that is being handled."""
        trace = traceback.format_exc()
        self.say("failed", section=section, error=trace.strip().splitlines()[-1][:500], trace=trace[-1500:])

    def beside(self, name: str) -> Path:
        """A file of longer text beside the numbers."""
        return self.path.with_name(f"{self.path.stem}.{name}")


@dataclass
class Bench:
    """The device, what sections share, and the numbers that later sections need.

    Attributes:
        tiny: small pictures and a small network, to rehearse on a CPU.
        ends_s: second of the log at which the script ends.
        found: seconds of stages by name.
    """

    device: str
    tiny: bool
    log: Log
    ends_s: float
    found: dict[str, float] = field(default_factory=dict)

    @property
    def cuda(self) -> bool:
        return self.device.startswith("cuda")

    @property
    def size(self) -> int:
        """Side of the views in pixels."""
        return 128 if self.tiny else 576

    @cached_property
    def views(self) -> Views:
        """True views of a procedural object; the last one counts as the photo."""
        views = orbit_views(placed(3), 5 if self.tiny else N_FRAMES, self.size)
        return Views(views.rgba, views.cameras, photos=views.rgba[-1:])

    @cached_property
    def prior(self) -> Prior:
        """SV3D with random weights, at its full size unless tiny."""
        network = small() if self.tiny else full_size()
        prior = random_prior(network, self.views.rgba[-1], self.size, self.device)
        prior.pipeline.set_progress_bar_config(disable=True)
        return prior

    @cached_property
    def field(self) -> Field:
        """A field of few steps, for refine to start from."""
        steps = 30 if self.tiny else 200
        config = Config.preset("draft").replace({"nerf.steps": steps})
        return fit_field(config.nerf, self.views, Context(device=self.device))[0]

    @property
    def left_s(self) -> float:
        return self.ends_s - self.log.seconds

    def sync(self) -> None:
        if self.cuda:
            torch.cuda.synchronize(self.device)

    def median_ms(self, work: Callable[[], Any], rounds: int = 7) -> float:
        """Milliseconds of the work, the first time not counted."""
        times = []
        for _ in range(rounds + 1):
            self.sync()
            start = time.perf_counter()
            work()
            self.sync()
            times.append(1e3 * (time.perf_counter() - start))
        return round(statistics.median(times[1:]), 3)

    def peak(self, work: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
        """The work's result; its seconds and, on CUDA, the most GB of tensors and of what PyTorch held for them."""
        if self.cuda:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)
        self.sync()
        start = time.perf_counter()
        result = work()
        self.sync()
        row = {"s": round(time.perf_counter() - start, 3)}
        if self.cuda:
            row["peak_gb"] = round(torch.cuda.max_memory_allocated(self.device) / GB, 2)
            row["reserved_gb"] = round(torch.cuda.max_memory_reserved(self.device) / GB, 2)
        return result, row

    @contextlib.contextmanager
    def waits(self) -> Iterator[collections.Counter[str]]:
        """Counts where the host waits for the device, as PyTorch sees it: by file and line."""
        counted: collections.Counter[str] = collections.Counter()
        if not self.cuda:
            yield counted
            return
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                yield counted
            finally:
                torch.cuda.set_sync_debug_mode("default")
        counted.update(f"{Path(w.filename).name}:{w.lineno}" for w in seen if WAIT in str(w.message))


@contextlib.contextmanager
def parts(bench: Bench, functions: list[tuple[ModuleType | type, str]]) -> Iterator[dict[str, float]]:
    """Adds up the seconds of functions, given by module or class and name there, the device's work included.

    The device is waited for before and after each, so that the whole is slower than without.
    """
    spent: dict[str, float] = collections.Counter()

    def clocked(name: str, function: Callable) -> Callable:
        def call(*arguments: Any, **named: Any) -> Any:
            bench.sync()
            start = time.perf_counter()
            try:
                return function(*arguments, **named)
            finally:
                bench.sync()
                spent[name] += time.perf_counter() - start

        return call

    with contextlib.ExitStack() as stack:
        for owner, name in functions:
            shown = f"{owner.__name__}.{name}" if isinstance(owner, type) else name
            stack.enter_context(mock.patch.object(owner, name, clocked(shown, getattr(owner, name))))
        yield spent


class StepBar:
    """The progress bar of one fit: when each step ended, and what to do before some of them.

    Args:
        before: number of a step (from 0) to what is called just before it.
    """

    def __init__(self, before: dict[int, Callable[[], None]]):
        self.before, self.done = before, 0
        self.before.get(0, lambda: None)()
        self.stamps = [time.perf_counter()]

    def update(self, advance: int = 1, metric: str | None = None) -> None:
        if not advance:
            return
        self.done += advance
        self.before.get(self.done, lambda: None)()
        self.stamps.append(time.perf_counter())

    def median_ms(self, first: int = 5) -> float | None:
        """Of the steps from the first that counts on; None if there are none."""
        times = [1e3 * (b - a) for a, b in zip(self.stamps[first:], self.stamps[first + 1 :])]
        return round(statistics.median(times), 2) if times else None


class Steps:
    """Watches the steps of a stage: every progress bar by its title, the newest of each.

    Args:
        title: of the bar to which ``before`` belongs, see :class:`StepBar`.
        seconds: after which the stage ends with Cancelled.
    Attributes:
        bars: by title.
        context: the stage's surroundings.
    """

    def __init__(
        self,
        device: str,
        title: str = "",
        before: dict[int, Callable[[], None]] | None = None,
        seconds: float = 1e9,
    ):
        ends = time.monotonic() + seconds
        self.bars: dict[str, StepBar] = {}
        self._title, self._before = title, before or {}
        self.context = Context(device=device, open_bar=self._open, cancelled=lambda: time.monotonic() > ends)

    @contextlib.contextmanager
    def _open(self, title: str, total: int) -> Iterator[StepBar]:
        self.bars[title] = bar = StepBar(self._before if title == self._title else {})
        yield bar
