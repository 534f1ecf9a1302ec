"""The closing tables of a run and of a batch, on stderr."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from sv3d_pipe.road.report import format_memory, format_metric

if TYPE_CHECKING:
    from sv3d_pipe.road.batch import Item
    from sv3d_pipe.road.run import Result
    from sv3d_pipe.scenes import SceneResult


def show_table(result: Result) -> None:
    """The closing table of a run: stage, seconds, peak memory, metric."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE)
    table.add_column("stage")
    for name in ("seconds", "peak memory"):
        table.add_column(name, justify="right")
    table.add_column("metric")
    for run in result.stages:
        seconds = "skipped" if run.skipped else f"{run.record.seconds:.1f}"
        memory = "" if run.skipped else format_memory(run.record.peak_memory_mb)
        table.add_row(run.record.stage, seconds, memory, escape(format_metric(run.record.metrics)))
    table.add_section()
    worked = [run.record.peak_memory_mb for run in result.stages if not run.skipped]
    table.add_row("all", f"{result.seconds:.1f}", format_memory(max(worked)) if worked else "", "")
    Console(stderr=True).print(table)


def show_scene(result: SceneResult) -> None:
    """The closing table of several objects: name, box, seconds, the last stage's metric; and of their scene."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE)
    for name in ("object", "box"):
        table.add_column(name)
    table.add_column("seconds", justify="right")
    table.add_column("metric or reason", overflow="fold")
    for run in result.objects:
        seconds = "failed" if run.result is None else f"{run.result.seconds:.1f}"
        outcome = run.error or format_metric(run.result.stages[-1].record.metrics)
        table.add_row(run.name, run.box, seconds, escape(outcome))
    table.add_section()
    last = result.stages[-1].record
    scene = format_metric(last.metrics) if last.stage == "scene" else ""
    table.add_row("all", "", f"{result.seconds:.1f}", scene)
    Console(stderr=True).print(table)


def show_batch(items: list[Item]) -> None:
    """The closing table of a batch: photo, what became of it, seconds, the last stage's metric."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE)
    table.add_column("photo", overflow="fold")
    table.add_column("")
    table.add_column("seconds", justify="right")
    table.add_column("metric or reason", overflow="fold")
    for item in items:
        outcome = item.error or format_metric(item.result.stages[-1].record.metrics)
        table.add_row(escape(str(item.photo)), item.status, f"{item.seconds:.1f}", escape(outcome))
    Console(stderr=True).print(table)
