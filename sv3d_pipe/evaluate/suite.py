"""A suite: the same measurement on many objects, resumable, and what is left behind.

Every object gets a folder with its ``scores.json`` and pictures; the suite a JSON document, its tables as
markdown and a contact sheet, worst objects first. Scores are kept under a key that hashes the settings,
the stages' versions, the model and the object's bytes: what is found under its key is not measured again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import sv3d_pipe
from sv3d_pipe.config import Config, stable_hash
from sv3d_pipe.contact_sheet import contact_sheet
from sv3d_pipe.errors import explain
from sv3d_pipe.evaluate.display import Display
from sv3d_pipe.evaluate.perceptual import availability
from sv3d_pipe.evaluate.scores import ABOUT_SHAPES, about_pictures
from sv3d_pipe.evaluate.tables import (
    Row,
    Table,
    number,
    object_table,
    summarize,
    summary_table,
    word,
    worst_first,
)
from sv3d_pipe.files import plain, write_atomically
from sv3d_pipe.pictures import load_png, save_png
from sv3d_pipe.pipeline import PHOTO_ROUTE
from sv3d_pipe.road.records import versions
from sv3d_pipe.road.sources import content_sha256

VERSION = 1  # of the measurements: raise it when the same meshes get other numbers
N_WORST = 10
# Every suite takes its pictures from the orbit of these settings.
CAMERAS = ("orbit.kind", "orbit.elevation_deg", "orbit.amplitude_deg", "orbit.azimuths", "orbit.elevations")


@dataclass(frozen=True)
class Options:
    """What a suite is run with; its numbers depend on this and the objects.

    Attributes:
        config: of all stages. size: side of the rendered pictures; None is the suite's own choice.
        seed: of fits and samples. device: a device that is there. up: the files' upward axis, y or z.
        tell_depth: set export.depth to each object's own, in the suite photo.
        views: azimuths in degrees, from the first photo's, of further photos in the suite photo.
        view_error_deg: standard deviation of their true azimuths and elevations, which the road is not told.
        force: measure again what was measured before; the one field that numbers do not depend on.
    """

    config: Config
    size: int | None
    seed: int
    device: str
    up: str = "y"
    tell_depth: bool = False
    views: tuple[float, ...] = ()
    view_error_deg: float = 0.0
    force: bool = False


@dataclass(frozen=True)
class Suite:
    """A measurement, and how its numbers are shown.

    Attributes:
        measure: (object's file, its folder, options, display) -> its row and the pictures
            [h, w, 3] of its line in the contact sheet. Numbers are named ``<method>_<score>``.
        content: object's file -> what its row depends on besides the settings, as plain JSON values.
        stages: of the road that are run. fixed: settings that the suite overrules.
        methods, scores: lines and columns of the summary.
        columns: of the table of objects.
        judged, large_is_good: the number that ranks the objects, and whether large ones are good.
        label: scores written beside each method in the contact sheet. heading: the sheet's first line.
        about: what its own scores mean.
        breakdowns: rows -> more tables.
    """

    name: str
    title: str
    measure: Callable[[Any, Path, Options, Display], tuple[Row, np.ndarray]]
    stages: tuple[str, ...]
    methods: tuple[str, ...]
    scores: tuple[str, ...]
    columns: tuple[str, ...]
    judged: str
    large_is_good: bool
    label: tuple[str, ...]
    heading: str
    fixed: dict[str, Any] = field(default_factory=dict)
    breakdowns: Callable[[list[Row]], list[Table]] = lambda rows: []
    content: Callable[[Any], Any] = content_sha256
    about: dict[str, str] = field(default_factory=dict)

    def settings(self, options: Options) -> dict[str, Any]:
        """All that the numbers depend on, as plain JSON values."""
        flat = options.config.flat()
        used = {k: v for k, v in flat.items() if k in CAMERAS or k.partition(".")[0] in self.stages}
        settings = {
            "suite": self.name,
            "version": VERSION,
            "img2mesh": sv3d_pipe.__version__,
            "stages": {
                stage.name: stage.version for stage in PHOTO_ROUTE.stages if stage.name in self.stages
            },
            "config": used,
            "size": options.size,
            "seed": options.seed,
            "device": options.device,
            "up": options.up,
            "tell_depth": options.tell_depth,
            "perceptual": [k for k, text in availability().items() if not text.startswith("not computed")],
        }
        if options.views:
            settings |= {"views": list(options.views), "view_error_deg": options.view_error_deg}
        if "orbit" in self.stages:
            from sv3d_pipe.orbit.store.find import identity

            settings["model"] = identity(options.config.orbit.model)
        return settings


def run_suite(
    suite: Suite,
    objects: dict[str, Any],
    options: Options,
    out: Path,
    display: Display,
) -> dict[str, Any]:
    """Measure all objects (name -> file, or what else the suite measures) and write ``<suite>.json``, ``.md`` and ``.png`` into ``out``.

    An object that fails is listed with its reason and does not stop the others.

    Returns:
        the JSON document: about, settings, summary, worst, failed, rows.
    """
    options = replace(options, config=options.config.replace(suite.fixed))
    settings = suite.settings(options)
    rows, failed = [], []
    with display.showing(len(objects)):
        for name, path in objects.items():
            compute = partial(_measured, suite, path, options, display)
            try:
                row = resumed(out, name, [settings, suite.content(path)], compute, options.force)
            except Exception as error:  # one object's trouble, whatever it is, is not the next one's
                failed.append({"name": name, "error": explain(error, out / name)})
                display.done(f"{name} failed: {failed[-1]['error']}")
                continue
            rows.append(row)
            display.done(f"{name}: {_label(suite, row)}")
    ordered = worst_first(rows, suite.judged, suite.large_is_good)
    document = {
        "suite": suite.name,
        "about": suite.about | ABOUT_SHAPES | about_pictures(),
        "settings": settings,
        "versions": versions(),
        "summary": summarize(rows, suite.methods, suite.scores),
        "worst": [{"name": r["name"], suite.judged: number(r, suite.judged)} for r in ordered[:N_WORST]],
        "failed": failed,
        "rows": rows,
    }
    _write(suite, document, ordered, out)
    return document


def tables(suite: Suite, document: dict[str, Any], every_object: bool) -> list[Table]:
    """The summary, the breakdowns, and all objects or the ten worst."""
    rows = document["rows"]
    if not rows:
        return []
    ordered = worst_first(rows, suite.judged, suite.large_is_good)
    shown = ordered if every_object else ordered[:N_WORST]
    which = "All objects" if every_object else f"The {len(shown)} worst objects"
    return [
        summary_table(f"{suite.title}, {len(rows)} objects", document["summary"], suite.scores),
        *suite.breakdowns(rows),
        object_table(f"{which} by {suite.judged}", shown, suite.columns),
    ]


def resumed(out: Path, name: str, settings: Any, compute: Callable[[Path], Row], force: bool = False) -> Row:
    """The row of one item: read if it was computed under the same settings, else computed and kept.

    Args:
        settings: plain JSON values that the row depends on. compute: gets ``out/<name>`` to write
            pictures into and returns the row; what is not finite in it becomes None.
    """
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    file, key = folder / "scores.json", stable_hash(settings)
    kept = None if force else _kept(file, key)
    if kept is not None:
        return kept
    row = {"name": name, **plain(compute(folder))}
    write_atomically(file, json.dumps({"key": key, "row": row}, indent=1))
    return row


def _kept(file: Path, key: str) -> Row | None:
    try:
        document = json.loads(file.read_text())
        return dict(document["row"]) if document["key"] == key else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _measured(suite: Suite, path: Any, options: Options, display: Display, folder: Path) -> Row:
    """The row of one object, its line of pictures written beside it."""
    start = time.perf_counter()
    row, pictures = suite.measure(path, folder, options, display)
    save_png(folder / "strip.png", pictures)
    return {**row, "seconds": time.perf_counter() - start}


def _write(suite: Suite, document: dict[str, Any], ordered: list[Row], out: Path) -> None:
    write_atomically(out / f"{suite.name}.json", json.dumps(document, indent=1, allow_nan=False))
    notes = "".join(f"- {key}: {text}\n" for key, text in document["about"].items())
    failed = "".join(f"- {f['name']} failed: {f['error']}\n" for f in document["failed"])
    parts = [table.markdown() for table in tables(suite, document, every_object=True)]
    write_atomically(out / f"{suite.name}.md", "\n".join([f"# {suite.title}\n", *parts, failed, notes]))
    strips = [(f"{r['name']}   {_label(suite, r)}", load_png(out / r["name"] / "strip.png")) for r in ordered]
    contact_sheet(out / f"{suite.name}.png", suite.heading, strips)


def _label(suite: Suite, row: Row) -> str:
    """``nerf .0091 .88, refine ...``: the label's scores of each method."""
    shares = {m: [number(row, f"{m}_{s}") for s in suite.label] for m in suite.methods}
    return ", ".join(
        f"{m} {' / '.join(word(v) for v in values if v is not None)}"
        for m, values in shares.items()
        if any(v is not None for v in values)
    )
