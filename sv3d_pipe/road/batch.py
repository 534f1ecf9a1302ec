"""A folder of photos to a folder of meshes, one after the other or one per card; a bad photo stops nothing."""

from __future__ import annotations

import json
import time
import warnings
from bisect import insort
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from sv3d_pipe.device import usable_cores, visible_cards
from sv3d_pipe.errors import UserError, explain
from sv3d_pipe.files import write_atomically
from sv3d_pipe.further_photos import View, named_view, with_their_views
from sv3d_pipe.road.report import RemoteReporter, Reporter, Retold, format_metric
from sv3d_pipe.road.run import Result
from sv3d_pipe.road.sources import images_below, workspace_for
from sv3d_pipe.road.workers import each, tell, with_threads

KILLER = (
    "The process that worked on it died twice, perhaps because memory ran out; close other programs or choose "
    "smaller settings (`img2mesh config` lists them), and run the same command again."
)


class Converter(Protocol):
    """What makes a mesh of one photo: :class:`sv3d_pipe.pipeline.Image2Mesh`."""

    device: str

    def check(self, start: str = "prep", until: str = "export") -> None: ...

    def __call__(self, photo: Path | list[Path | View], out: Path, **run: Any) -> Result: ...


@dataclass(frozen=True)
class Item:
    """What became of one photo: a result, or the sentence that says why not, or both if some of its objects failed.

    Attributes:
        photo: path relative to the folder.
    """

    photo: Path
    result: Result | None
    error: str | None
    seconds: float

    @property
    def status(self) -> str:
        """failed, partial (some of its objects failed), skipped (all was finished before) or done."""
        if self.error is not None:
            return "failed" if self.result is None else "partial"
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
    make: Callable[[Reporter], Converter],
    reporter: Reporter,
    folder: Path,
    out: Path,
    exclude: tuple[str, ...] = (),
    **run: Any,
) -> list[Item]:
    """Make a mesh of every picture below ``folder``; its path is kept below ``out``.

    Pictures beside it that are its further views by their names, ``mug@180.png`` beside ``mug.png``, belong to it, see
    :func:`sv3d_pipe.further_photos.with_their_views`.

    One after the other, by a process beside this one, so that a photo that kills it (out of memory, a crash in a
    library) ends nothing else; or, where the device is "auto" and there are several CUDA cards, by one process per
    card. After each photo ``out/batch.json`` says what became of all so far.

    Args:
        make: gives what makes the meshes and tells of it to a reporter; picklable.
        exclude: patterns of file names to leave out.
        run: ``until`` and ``force_from``, as :class:`sv3d_pipe.pipeline.Image2Mesh` takes them.
    Returns:
        in the order of the photos' paths.
    Raises:
        UserError: there is no such folder, or no picture in it.
    """
    if not folder.is_dir():
        raise UserError(f"There is no folder {folder}; `img2mesh batch` takes a folder of pictures.")
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; choose a folder with -o.")
    views = with_their_views(images_below(folder, out, exclude, reporter.say))
    photos = list(views)
    if not photos:
        raise UserError(
            f"There are no pictures in {folder}; it must hold PNG, JPEG, WebP, BMP, TIFF, GIF or AVIF files."
        )
    image2mesh = make(Reporter())
    image2mesh.check(until=run.get("until", "export"))
    cards = visible_cards()[: len(photos)] if image2mesh.device == "auto" else []
    items: list[Item] = []
    refused: set[str] = set()

    def keep(item: Item) -> None:
        insort(items, item, key=lambda item: item.photo)
        try:
            out.mkdir(parents=True, exist_ok=True)
            write_atomically(out / "batch.json", json.dumps(summarize(items), indent=1) + "\n")
        except OSError as error:  # a full or read-only disk: what is finished on it is still told
            if error.strerror not in refused:
                reporter.say(f"{out / 'batch.json'} was not written ({error.strerror}).")
            refused.add(error.strerror)

    with closing(_finished(cards, make, views, folder, out, run, reporter)) as finished:
        for number, item in enumerate(finished, 1):
            if len(cards) > 1:
                _tell(reporter, f"[{number}/{len(photos)}] {item.photo}", item)
            elif item.error:
                reporter.say(f"{item.photo} {item.status}: {item.error}")
            keep(item)
    return items


def summarize(items: list[Item]) -> dict[str, Any]:
    """Counts by status and one entry per photo, as plain JSON values."""
    counts = {
        status: sum(item.status == status for item in items)
        for status in ("done", "skipped", "partial", "failed")
    }
    return {"photos": len(items), **counts, "items": [item.summary() for item in items]}


def _finished(
    cards: list[str],
    make: Callable[[Reporter], Converter],
    views: dict[Path, list[Path]],
    folder: Path,
    out: Path,
    run: dict[str, Any],
    reporter: Reporter,
) -> Generator[Item, None, None]:
    """The photos as the processes finish them: one per card, or a single one, whose progress the reporter shows.

    Closing the generator ends the processes.
    """
    alone = len(cards) < 2
    threads = with_threads(max(1, usable_cores() // max(1, len(cards))))
    places = [{}] if alone else [{"CUDA_VISIBLE_DEVICES": card} | threads for card in cards]
    work = partial(_run_in_worker, make, folder, out, run, views, alone)
    with Retold(reporter) as retold:
        photos = list(views)
        told = _announced(photos, folder, retold) if alone else _reserved(photos, folder, out)
        with closing(each(told, work, partial(_give_up, folder), places, retold.hear)) as finished:
            for _, item in finished:
                retold.close()
                yield item


def _announced(photos: list[Path], folder: Path, retold: Retold) -> Iterator[Path]:
    """The photos, each named when it is its turn."""
    for number, photo in enumerate(photos, 1):
        retold.close()
        retold.reporter.say(f"[{number}/{len(photos)}] {photo.relative_to(folder)}")
        yield photo


def _reserved(photos: list[Path], folder: Path, out: Path) -> Iterator[Path]:
    """The photos, each after its workspace has been reserved: their names do not depend on which worker is first."""
    for photo in photos:
        with suppress(UserError, OSError):  # the worker meets it again, and says so
            workspace_for(photo, out / photo.relative_to(folder).parent)
        yield photo


def _run_in_worker(
    make: Callable[[Reporter], Converter],
    folder: Path,
    out: Path,
    run: dict[str, Any],
    views: dict[Path, list[Path]],
    aloud: bool,
    photo: Path,
) -> Item:
    reporter = RemoteReporter(tell) if aloud else Reporter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _run_one(make(reporter), folder, out, run, photo, views[photo])


def _run_one(
    image2mesh: Converter, folder: Path, out: Path, run: dict[str, Any], photo: Path, views: list[Path]
) -> Item:
    began, relative = time.monotonic(), photo.relative_to(folder)
    workspace, result, error = None, None, None
    try:
        workspace = workspace_for(photo, out / relative.parent)
        given = [photo, *map(named_view, views)] if views else photo
        result = image2mesh(given, workspace, **run)
        error = " ".join(result.failures) or None
    except Exception as reason:  # one photo's trouble, whatever it is, is not the next one's
        error = explain(reason, workspace)
    return Item(relative, result, error, time.monotonic() - began)


def _give_up(folder: Path, photo: Path) -> Item:
    return Item(photo.relative_to(folder), None, KILLER, 0.0)


def _tell(reporter: Reporter, title: str, item: Item) -> None:
    """One line on a photo that a worker has finished, and one per warning."""
    if item.error is not None:
        reporter.say(f"{title} {item.status}: {item.error}")
    if item.result is None:
        return
    metric = format_metric(item.result.stages[-1].record.metrics)
    reporter.say(f"{title} {item.status}: {item.seconds:.1f} s, {metric}")
    for stage in item.result.stages:
        for sentence in () if stage.skipped else stage.record.warnings:
            reporter.warn(stage.record.stage, sentence)
