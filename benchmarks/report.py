"""What every benchmark leaves behind: a table, a JSON file, a contact sheet, and where to go on from."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

from sv3d_pipe.artifacts import on_white, save_png
from sv3d_pipe.config import stable_hash


def resumed(
    out: Path, name: str, settings: dict, compute: Callable[[Path], dict[str, Any]]
) -> dict[str, Any]:
    """The row of one item: read if it was computed under the same settings, else computed and kept.

    Args:
        compute: gets a folder of its own to write pictures into and returns the row.
    """
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "row.json"
    key = stable_hash(settings)
    if file.exists() and (kept := json.loads(file.read_text()))["key"] == key:
        return kept["row"]
    row = {"name": name, **compute(folder)}
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps({"key": key, "row": row}, indent=1))
    partial.replace(file)
    return row


def mean(rows: list[dict], columns: list[str]) -> dict[str, float]:
    """Column means over the rows that have a number there."""
    values = {c: [r[c] for r in rows if isinstance(r.get(c), int | float)] for c in columns}
    return {c: float(np.mean(v)) for c, v in values.items() if v}


def print_table(title: str, rows: list[dict], columns: list[str]) -> None:
    """One line per row and one with the means."""
    table = Table("name", *columns, title=title)
    for row in [*rows, {"name": "mean", **mean(rows, columns)}]:
        table.add_row(row["name"], *(_cell(row.get(c)) for c in columns), end_section=row is rows[-1])
    width = 8 + max(len(r["name"]) for r in rows) + sum(3 + max(8, len(c)) for c in columns)
    Console(width=width).print(table)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4f}" if abs(value) < 1 else f"{value:.2f}"
    return "" if value is None else str(value)


def write_json(path: Path, settings: dict, rows: list[dict], summary: dict) -> None:
    path.write_text(json.dumps({"settings": settings, "summary": summary, "rows": rows}, indent=1))


def strip(images: list[np.ndarray], size: int) -> np.ndarray:
    """Pictures [S, S, 3 or 4] side by side on white, each size x size: [size, n * size, 3]."""
    shown = [on_white(i) if i.shape[-1] == 4 else i for i in images]
    method = [cv2.INTER_AREA if i.shape[0] > size else cv2.INTER_NEAREST for i in shown]
    return np.concatenate(
        [cv2.resize(np.float32(i), (size, size), interpolation=m) for i, m in zip(shown, method)], 1
    )


def contact_sheet(path: Path, rows: list[tuple[str, np.ndarray]]) -> None:
    """Stack labeled strips of one width into a PNG."""
    lines = []
    for label, picture in rows:
        line = np.ascontiguousarray(picture * 255 + 0.5).astype(np.uint8)
        cv2.putText(line, label[:60], (4, 12), cv2.FONT_HERSHEY_SIMPLEX, 0.38, (0, 0, 160), 1, cv2.LINE_AA)
        lines.append(line / np.float32(255))
    if lines:
        save_png(path, np.concatenate(lines, 0))
