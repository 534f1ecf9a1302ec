"""What an evaluation shows while it works: a bar of objects and one of the work on the current one."""

from __future__ import annotations

from contextlib import contextmanager

from rich.console import Console

from sv3d_pipe.road.context import SilentBar
from sv3d_pipe.road.report import Reporter


class Display:
    """On a terminal two live bars; elsewhere one line per object; nothing if quiet. All on stderr."""

    def __init__(self, quiet: bool = False):
        self.quiet = quiet
        self._console = Console(stderr=True)
        self._progress = None

    @contextmanager
    def showing(self, total: int):
        """Around the work on ``total`` objects."""
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        live = self._console.is_terminal and not self.quiet
        with Progress(*columns, console=self._console, transient=True, disable=not live) as progress:
            self._all = progress.add_task("objects", total=total)
            self._work = progress.add_task("", total=None)
            self._progress = progress
            try:
                yield
            finally:
                self._progress = None

    @contextmanager
    def bar(self, title: str, total: int):
        """A bar as a stage's context offers it."""
        if self._progress is None:
            yield SilentBar()
            return
        self._progress.reset(self._work, total=total, description=title)
        yield _Live(self._progress, self._work, title)

    def done(self, sentence: str) -> None:
        """One object is finished; the sentence says with what result."""
        if self._progress is not None:
            self._progress.advance(self._all)
        self.say(sentence)

    def say(self, sentence: str) -> None:
        if not self.quiet:
            self._console.print(sentence, markup=False, highlight=False, soft_wrap=True)


class _Live:
    def __init__(self, progress, task, title: str):
        self._progress, self._task, self._title = progress, task, title

    def update(self, advance: int = 1, metric: str | None = None) -> None:
        from rich.markup import escape

        words = {} if metric is None else {"description": f"{self._title} {escape(metric)}"}
        self._progress.update(self._task, advance=advance, **words)


class StageBars(Reporter):
    """The reporter of a run inside an evaluation: only the bars of its stages."""

    def __init__(self, display: Display):
        self._display = display

    def bar(self, title: str, total: int):
        return self._display.bar(title, total)
