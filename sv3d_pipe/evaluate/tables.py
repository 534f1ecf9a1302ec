"""Scores as tables: built once, shown on a terminal with rich and written as plain markdown."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

Row = dict[str, Any]


@dataclass(frozen=True)
class Table:
    """A table of finished words.

    Attributes:
        columns: headings; the first column is text, the others are numbers.
        lines: [n_lines][n_columns].
    """

    title: str
    columns: list[str]
    lines: list[list[str]]

    def markdown(self) -> str:
        """The table as GitHub-flavored markdown, its columns padded to one width."""
        grid = [self.columns, *self.lines]
        widths = [max(3, *(len(line[i]) for line in grid)) for i in range(len(self.columns))]
        rule = ["-" * w if i == 0 else "-" * (w - 1) + ":" for i, w in enumerate(widths)]
        padded = [
            [word.ljust(w) if i == 0 else word.rjust(w) for i, (word, w) in enumerate(zip(line, widths))]
            for line in grid
        ]
        shown = [padded[0], rule, *padded[1:]]
        return f"**{self.title}**\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in shown) + "\n"

    def show(self) -> None:
        """Print the table on stderr, as wide as it is."""
        from rich import box
        from rich.console import Console
        from rich.markup import escape
        from rich.table import Table as RichTable

        table = RichTable(box=box.SIMPLE)
        for i, column in enumerate(self.columns):
            table.add_column(escape(column), justify="left" if i == 0 else "right", no_wrap=True)
        for line in self.lines:
            table.add_row(*(escape(word) for word in line))
        console = Console(stderr=True)
        console.width = max(console.width, Console(width=10_000).measure(table).maximum)
        console.print(self.title, markup=False, highlight=False, soft_wrap=True)
        console.print(table)


def number(row: Row, key: str) -> float | None:
    """A row's finite number (or yes / no as 1 / 0) under a key; None if it has none."""
    value = row.get(key)
    known = isinstance(value, (bool, int, float)) and math.isfinite(value)
    return float(value) if known else None


def word(value: Any) -> str:
    """A value for a table: four decimals below 1, two below 1000; yes and no; nothing for None."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4f}" if abs(value) < 1 else f"{value:.2f}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def summarize(rows: list[Row], methods: tuple[str, ...], scores: tuple[str, ...]) -> dict[str, dict]:
    """Mean and median of ``<method>_<score>`` over the rows that have it.

    Returns:
        method -> score -> {"mean", "median", "n"}.
    """
    summary: dict[str, dict] = {}
    for method in methods:
        columns = {s: [number(r, f"{method}_{s}") for r in rows] for s in scores}
        known = {s: [v for v in values if v is not None] for s, values in columns.items()}
        summary[method] = {
            s: {"mean": float(np.mean(v)), "median": float(np.median(v)), "n": len(v)}
            for s, v in known.items()
            if v
        }
    return summary


def summary_table(title: str, summary: dict[str, dict], scores: tuple[str, ...]) -> Table:
    """One line per score, one column per method: mean / median. Scores that no method has are left out."""
    shown = [s for s in scores if any(s in known for known in summary.values())]
    methods = [method for method, known in summary.items() if known]
    lines = [[s, *(_mean_median(summary[method].get(s)) for method in methods)] for s in shown]
    return Table(f"{title}, mean / median", ["", *methods], lines)


def _mean_median(known: dict[str, float] | None) -> str:
    return "" if known is None else f"{word(known['mean'])} / {word(known['median'])}"


def object_table(title: str, rows: list[Row], columns: tuple[str, ...]) -> Table:
    """One line per object; columns that no row has are left out."""
    shown = [c for c in columns if any(r.get(c) is not None for r in rows)]
    return Table(title, ["object", *shown], [[r["name"], *(word(r.get(c)) for c in shown)] for r in rows])


def worst_first(rows: list[Row], key: str, large_is_good: bool) -> list[Row]:
    """The rows by ``key``, the worst first; those without it come before all."""

    def rank(row: Row) -> tuple[bool, float]:
        value = number(row, key)
        return value is not None, 0.0 if value is None else (value if large_is_good else -value)

    return sorted(rows, key=rank)
