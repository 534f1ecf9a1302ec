"""What a run shows while it works: one bar per stage on a terminal, one line per stage elsewhere.

Everything here goes to stderr; stdout belongs to results.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape

from sv3d_pipe.road.context import SilentBar

if TYPE_CHECKING:
    from sv3d_pipe.road.records import StageRecord


class Reporter:
    """Shows nothing. Used as a context manager around a run; the others build on it."""

    def __enter__(self) -> Reporter:
        return self

    def __exit__(self, *_) -> None:
        pass

    def start(self, stage: str) -> None:
        """A stage begins to work."""

    @contextmanager
    def bar(self, title: str, total: int):
        """A progress bar of the stage at work, as a stage's context offers it."""
        yield SilentBar()

    def finish(self, record: StageRecord) -> None:
        """A stage has been committed."""

    def skip(self, record: StageRecord) -> None:
        """A stage was finished before."""

    def warn(self, stage: str, sentence: str) -> None:
        """A stage's warning for the user."""

    def say(self, sentence: str) -> None:
        """A sentence for the user."""


class LineReporter(Reporter):
    """One line per stage, for logs and pipes."""

    def __init__(self, console: Console):
        self.console = console

    def finish(self, record: StageRecord) -> None:
        self.say(
            f"{record.stage}: {record.seconds:.1f} s, {format_memory(record.peak_memory_mb)}, "
            f"{format_metric(record.metrics)}"
        )

    def skip(self, record: StageRecord) -> None:
        self.say(f"{record.stage}: skipped, finished before")

    def warn(self, stage: str, sentence: str) -> None:
        self.say(f"{stage}: warning: {sentence}")

    def say(self, sentence: str) -> None:
        self.console.print(sentence, markup=False, highlight=False, soft_wrap=True)


class BarReporter(LineReporter):
    """Live bars: stage, share done, time left and the number the stage is judged by."""

    def __enter__(self) -> BarReporter:
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[metric]}"),
            console=self.console,
            transient=True,
        )
        self._progress.start()
        return self

    def __exit__(self, *_) -> None:
        self._progress.stop()

    def start(self, stage: str) -> None:
        self._stage = stage
        self._task = self._progress.add_task(f"{stage:<8}", total=None, metric="")

    @contextmanager
    def bar(self, title: str, total: int):
        metric = "" if title == self._stage else title
        self._progress.reset(self._task, total=total, metric=metric)
        yield _LiveBar(self._progress, self._task)

    def finish(self, record: StageRecord) -> None:
        self._progress.update(self._task, total=1, completed=1, metric=escape(format_metric(record.metrics)))

    def skip(self, record: StageRecord) -> None:
        self._progress.add_task(f"{record.stage:<8}", total=1, completed=1, metric="skipped, finished before")


class RemoteReporter(Reporter):
    """Hands everything on to a :class:`Retold` in another process.

    Args:
        tell: takes (what, arguments), which can be pickled.
    """

    def __init__(self, tell: Callable[[tuple[str, tuple]], None]):
        self.tell = tell

    def __enter__(self) -> RemoteReporter:
        self.tell(("enter", ()))
        return self

    def __exit__(self, *_) -> None:
        self.tell(("exit", ()))

    def start(self, stage: str) -> None:
        self.tell(("start", (stage,)))

    @contextmanager
    def bar(self, title: str, total: int):
        self.tell(("bar", (title, total)))
        yield _RemoteBar(self.tell)

    def finish(self, record: StageRecord) -> None:
        self.tell(("finish", (record,)))

    def skip(self, record: StageRecord) -> None:
        self.tell(("skip", (record,)))

    def warn(self, stage: str, sentence: str) -> None:
        self.tell(("warn", (stage, sentence)))

    def say(self, sentence: str) -> None:
        self.tell(("say", (sentence,)))


@dataclass(frozen=True)
class _RemoteBar:
    tell: Callable[[tuple[str, tuple]], None]

    def update(self, advance: int = 1, metric: str | None = None) -> None:
        self.tell(("update", (advance, metric)))


class Retold:
    """Tells a reporter what a :class:`RemoteReporter` was told.

    A context manager around all of it, and closed after each run: the other process may have died in the middle.
    """

    def __init__(self, reporter: Reporter):
        self.reporter, self._open = reporter, ExitStack()

    def __enter__(self) -> Retold:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        self._open.close()

    def hear(self, message: tuple[str, tuple]) -> None:
        what, arguments = message
        if what == "enter":
            self._open.enter_context(self.reporter)
        elif what == "exit":
            self.close()
        elif what == "bar":
            self._bar = self._open.enter_context(self.reporter.bar(*arguments))
        elif what == "update":
            self._bar.update(*arguments)
        else:
            getattr(self.reporter, what)(*arguments)


class _LiveBar:
    def __init__(self, progress: Any, task: Any):
        self._progress = progress
        self._task = task

    def update(self, advance: int = 1, metric: str | None = None) -> None:
        shown = {} if metric is None else {"metric": escape(metric)}
        self._progress.update(self._task, advance=advance, **shown)


def make_reporter(quiet: bool = False) -> Reporter:
    """Bars if stderr is a terminal, else lines; nothing if quiet."""
    if quiet:
        return Reporter()
    console = Console(stderr=True)
    return BarReporter(console) if console.is_terminal else LineReporter(console)


def format_metric(metrics: dict[str, Any]) -> str:
    """The first metric in words: ``{"photo_psnr_db": 24.318}`` is ``photo psnr 24.3 dB``."""
    if not metrics:
        return ""
    name, value = next(iter(metrics.items()))
    unit = " dB" if name.endswith("_db") else ""
    text = f"{value:.4g}" if isinstance(value, float) else f"{value:,}" if type(value) is int else str(value)
    return f"{name.removesuffix('_db').replace('_', ' ')} {text}{unit}"


def format_memory(mb: float) -> str:
    return f"{mb / 1024:.2f} GB" if mb >= 1024 else f"{mb:.0f} MB"
