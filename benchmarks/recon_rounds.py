"""Contenders for one piece of work take turns; medians, and ratios within a round."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

WARM_UP = -1  # number of the round that does not count


@dataclass(frozen=True)
class Contender:
    """One way to do the work: the number of a round to (seconds, result)."""

    name: str
    attempt: Callable[[int], tuple[float, Any]]


@dataclass(frozen=True)
class Comparison:
    """Contenders for one piece of work, ours first.

    Attributes:
        agree: says how near to each other their results, by name, are.
        missing: why contenders are not there, by name.
    """

    title: str
    contenders: tuple[Contender, ...]
    agree: Callable[[dict[str, Any]], str]
    missing: dict[str, str]


def timed(
    work: Callable[[Any], Any], prepare: Callable[[int], Any] = lambda number: number
) -> Callable[[int], tuple[float, Any]]:
    """An attempt that clocks the work on what was prepared for the round beforehand."""

    def attempt(number: int) -> tuple[float, Any]:
        material = prepare(number)
        start = time.perf_counter()
        result = work(material)
        return time.perf_counter() - start, result

    return attempt


def rounds(comparison: Comparison, count: int, warm_up: bool = True) -> tuple[list[dict[str, float]], str]:
    """Let the contenders take turns.

    Returns:
        Per round the seconds by name, and how far the results of the last round agree.
    """
    if warm_up:
        for contender in comparison.contenders:
            contender.attempt(WARM_UP)
    done, results = [], {}
    for number in range(count):
        done.append({})
        for contender in comparison.contenders:
            done[-1][contender.name], results[contender.name] = contender.attempt(number)
        say(f"{comparison.title}: round {number + 1} of {count}")
    return done, comparison.agree(results)


def rows(done: list[dict[str, float]]) -> list[dict[str, Any]]:
    """Of each contender the median seconds, their range, and the median over the rounds of its seconds
    divided by those of the first contender in the same round."""
    first = next(iter(done[0]))
    table = []
    for name in done[0]:
        seconds = [r[name] for r in done]
        ratio = statistics.median(r[name] / r[first] for r in done)
        median = statistics.median(seconds)
        table.append({"way": name, "s": median, "min": min(seconds), "max": max(seconds), "x/ours": ratio})
    return table


def compared(comparison: Comparison, count: int, warm_up: bool = True) -> dict[str, Any]:
    """Run a comparison and print its table; what to keep of it."""
    done, agreement = rounds(comparison, count, warm_up)
    table = rows(done)
    show(comparison.title, table, f"Medians of {count}; x/ours above 1: slower than ours. {agreement}.")
    for name, why in comparison.missing.items():
        print(f"{name}: not run: {why}")
    return {
        "title": comparison.title, "rows": table, "rounds": done, "agreement": agreement,
        "not run": comparison.missing,
    }  # fmt: skip


def show(title: str, table: list[dict[str, Any]], caption: str = "") -> None:
    """Print rows that have the same keys, the first column left, the others right."""
    columns = list(table[0])
    printed = Table()
    for number, column in enumerate(columns):
        printed.add_column(column, justify="right" if number else "left")
    for row in table:
        printed.add_row(*(cell(row[column]) for column in columns))
    console = Console(width=40 + 15 * len(columns), highlight=False, markup=False)
    console.print(f"\n{title}", soft_wrap=True)
    console.print(printed)
    console.print(caption, soft_wrap=True)


def cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def say(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


def write(path: Path, report: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(json.dumps(report, indent=1))
    partial.replace(path)
