"""Contact sheets: labeled rows of pictures in one PNG."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from sv3d_pipe.pictures import on_white, save_png

MOST_ROWS = 200  # a PNG of more rows is too tall to look at
BAND = 18  # pixels of a label


def strip(images: list[np.ndarray], size: int) -> np.ndarray:
    """Pictures [S, S, 3 or 4] side by side on white, each size x size: [size, n * size, 3]."""
    shown = [on_white(i) if i.shape[-1] == 4 else i for i in images]
    method = [cv2.INTER_AREA if i.shape[0] > size else cv2.INTER_NEAREST for i in shown]
    return np.concatenate(
        [cv2.resize(np.float32(i), (size, size), interpolation=m) for i, m in zip(shown, method)], 1
    )


def contact_sheet(path: Path, heading: str, rows: list[tuple[str, np.ndarray]]) -> None:
    """Stack strips [h, w, 3] of one width into a PNG, each under its label, the heading above all."""
    if not rows:
        return
    width = rows[0][1].shape[1]
    lines = [_label(heading, width)]
    for label, picture in rows[:MOST_ROWS]:
        lines += [_label(label, width), picture]
    partial = path.with_name(f".{path.stem}.partial.png")
    save_png(partial, np.concatenate(lines, 0))
    partial.replace(path)


def _label(text: str, width: int) -> np.ndarray:
    band = np.full((BAND, width, 3), 255, np.uint8)
    cv2.putText(band, text, (4, 13), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 160), 1, cv2.LINE_AA)
    return band / np.float32(255)
