"""A folder of photos to a folder of meshes, one after the other; a bad photo stops nothing."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from sv3d_pipe.errors import UserError, explain
from sv3d_pipe.files import write_atomically
from sv3d_pipe.road.report import Reporter
from sv3d_pipe.road.run import Result
from sv3d_pipe.road.sources import images_below, workspace_for


class Converter(Protocol):
    """What makes a mesh of one photo: :class:`sv3d_pipe.pipeline.Image2Mesh`."""

    reporter: Reporter

    def check(self, start: str = "prep", until: str = "export") -> None: ...

    def __call__(self, photo: Path, out: Path, **run: Any) -> Result: ...


@dataclass(frozen=True)
class Item:
    """What became of one photo: a result, or the sentence that says why not.

    Attributes:
        photo: path relative to the folder.
    """

    photo: Path
    result: Result | None
    error: str | None
    seconds: float

    @property
    def status(self) -> str:
        """failed, skipped (all was finished before) or done."""
        if self.result is None:
            return "failed"
        return "skipped" if all(run.skipped for run in self.result.stages) else "done"

    def summary(self) -> dict[str, Any]:
        result = {} if self.result is None else self.result.summary()
        seconds = round(self.seconds, 2)
        return (
            {"photo": self.photo.as_posix(), "status": self.status, "error": self.error}
            | result
            | {"seconds": seconds}
        )


def run_batch(
    image2mesh: Converter,
    folder: Path,
    out: Path,
    exclude: tuple[str, ...] = (),
    on_item: Callable[[int, int, Path], None] = lambda index, total, photo: None,
    **run: Any,
) -> list[Item]:
    """Make a mesh of every picture below ``folder``; its path is kept below ``out``.

    After each photo ``out/batch.json`` says what became of all so far.

    Args:
        exclude: patterns of file names to leave out.
        on_item: called with number (from 1), total and path before each photo.
        run: ``until`` and ``force_from``, as :class:`sv3d_pipe.pipeline.Image2Mesh` takes them.
    Raises:
        UserError: there is no such folder, or no picture in it.
    """
    if not folder.is_dir():
        raise UserError(f"There is no folder {folder}; `img2mesh batch` takes a folder of pictures.")
    photos = images_below(folder, out, exclude)
    if not photos:
        raise UserError(
            f"There are no pictures in {folder}; it must hold PNG, JPEG, WebP, BMP, TIFF or GIF files."
        )
    image2mesh.check(until=run.get("until", "export"))
    items: list[Item] = []
    for index, photo in enumerate(photos, 1):
        relative = photo.relative_to(folder)
        on_item(index, len(photos), relative)
        items.append(_run_one(image2mesh, photo, relative, out / relative.parent, run))
        out.mkdir(parents=True, exist_ok=True)
        write_atomically(out / "batch.json", json.dumps(summarize(items), indent=1) + "\n")
    return items


def summarize(items: list[Item]) -> dict[str, Any]:
    """Counts by status and one entry per photo, as plain JSON values."""
    counts = {
        status: sum(item.status == status for item in items) for status in ("done", "skipped", "failed")
    }
    return {"photos": len(items), **counts, "items": [item.summary() for item in items]}


def _run_one(image2mesh: Converter, photo: Path, relative: Path, parent: Path, run: dict[str, Any]) -> Item:
    began = time.monotonic()
    workspace, result, error = None, None, None
    try:
        workspace = workspace_for(photo, parent)
        result = image2mesh(photo, workspace, **run)
    except Exception as reason:  # one photo's trouble, whatever it is, is not the next one's
        error = explain(reason, workspace)
        image2mesh.reporter.say(f"{relative} failed: {error}")
    return Item(relative, result, error, time.monotonic() - began)
