"""How do time and memory of nerf and refine grow with the number of views, their size and the number of tetrahedra?

    python benchmarks/recon_growth.py --json out/recon_growth.json

One setting at a time differs from the middle one (20 views of 256 px, 64 cubes along the tetrahedral grid's
longest side). Every measurement is a separate process, which first does a small reconstruction to warm up.
It measures a few steps; their median and the time around them are extrapolated to the preset's number of steps.
Memory is what the stage's worst moment adds to the resident memory before it, sampled every 50 ms.
Exponents come from least squares on logarithms: time ~ setting ** exponent.
"""

from __future__ import annotations

import argparse
import dataclasses
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import sv3d_pipe  # noqa: F401  (before torch)

# isort: split
import numpy as np
import psutil
from command import run
from recon_rounds import say, show, write
from recon_stages import orbit_views, placed, warm_up

from sv3d_pipe.artifacts import Field
from sv3d_pipe.config import PRESETS, Config
from sv3d_pipe.device import PeakMemory
from sv3d_pipe.errors import UserError
from sv3d_pipe.nerf.field import RadianceField
from sv3d_pipe.nerf.fit_field import fit_field
from sv3d_pipe.refine.fit_mesh import refine_mesh
from sv3d_pipe.road.context import Context

VALUES = {"views": (10, 20, 40), "size": (128, 256, 384, 576), "tets": (32, 64, 96, 128)}
MEASURED = {"nerf": ("views", "size"), "refine": ("views", "size", "tets")}
FIELD_STEPS = 300  # of the fit that refine starts from
COSTS = ("s/step", "s around", "s in all", "peak MB")


@dataclass(frozen=True)
class Setting:
    """What one measurement is of.

    Attributes:
        views: number of pictures; size: their side in pixels, which refine renders too.
        tets: cubes along the longest side of the tetrahedral grid.
    """

    views: int = 20
    size: int = 256
    tets: int = 64


@dataclass(frozen=True)
class Sample:
    """Seconds of the median step and of everything around the steps; MiB that the stage added."""

    step_s: float
    around_s: float
    peak_mb: float


class Steps:
    """The time between a stage's reports of its steps. A stage opens the bar of its own name once."""

    def __init__(self, stage: str):
        self.stage, self.stamps = stage, []

    @contextmanager
    def bar(self, title: str, total: int) -> Iterator[Steps]:
        if title == self.stage:
            self.stamps.append(time.perf_counter())
        self._open = title == self.stage
        yield self
        self._open = False

    def update(self, advance: int = 1, metric: str | None = None) -> None:
        if self._open and advance:
            self.stamps.append(time.perf_counter())

    def seconds(self) -> list[float]:
        return np.diff(self.stamps).tolist()


def make_field(folder: Path, seed: int) -> None:
    """Fit what all refinements start from, and keep it in the folder."""
    config = replace(Config().nerf, steps=FIELD_STEPS)
    field, _ = fit_field(config, orbit_views(placed(seed), Setting.views, Setting.size), Context(seed=seed))
    field.save(folder)


def measure(stage: str, setting: Setting, config: Config, folder: Path, seed: int) -> Sample:
    """Run one stage with few steps; the field that refine starts from is in the folder."""
    warm_up()
    views = orbit_views(placed(seed), setting.views, setting.size)
    field = Field.load(folder)
    steps = Steps(stage)
    context = Context(seed=seed, open_bar=steps.bar)
    before = psutil.Process().memory_info().rss / 2**20
    start = time.perf_counter()
    with PeakMemory("cpu") as memory:
        if stage == "nerf":
            fit_field(config.nerf, views, context)
        else:
            refine = replace(config.refine, grid=setting.tets, render=setting.size)
            refine_mesh(refine, RadianceField.from_field(field), views, context)
    total, each = time.perf_counter() - start, steps.seconds()
    later = each[len(each) // 3 :]  # the first ones still find their memory and number of rays
    return Sample(statistics.median(later), total - sum(each), memory.peak_mb - before)


def alone(work: Any, *arguments: Any) -> Any:
    """The work's result from a fresh process. Raises UserError if that was killed."""
    try:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            return pool.submit(work, *arguments).result()
    except BrokenProcessPool:
        raise UserError(
            "A measurement was ended from outside, most likely for want of memory; "
            "leave out the largest settings with --most-size or --most-tets."
        ) from None


def exponent(values: list[float], costs: list[float]) -> tuple[float, float]:
    """The slope of log cost over log value by least squares, and the largest factor off that line."""
    x, y = np.log(values), np.log(costs)
    slope, offset = np.polyfit(x, y, 1)
    return float(slope), float(np.exp(np.abs(y - offset - slope * x).max()))


def settings(stage: str, largest: dict[str, int]) -> list[Setting]:
    """The middle setting and all that differ from it in one value, each once."""
    found = [Setting()]
    for name in MEASURED[stage]:
        found += [replace(Setting(), **{name: v}) for v in VALUES[name] if v <= largest[name]]
    return list(dict.fromkeys(found))


def row(stage: str, setting: Setting, samples: list[Sample], steps: int) -> dict[str, Any]:
    """Medians of one setting, and the seconds of so many steps."""
    step, around, peak = (
        statistics.median(getattr(s, name) for s in samples) for name in ("step_s", "around_s", "peak_mb")
    )
    costs = dict(zip(COSTS, (step, around, around + steps * step, peak)))
    return {"stage": stage} | dataclasses.asdict(setting) | costs


def growth(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Per stage and setting the exponent of each cost, with the largest factor off it in parentheses."""
    table = []
    for stage, names in MEASURED.items():
        for name in names:
            others = {k: v for k, v in dataclasses.asdict(Setting()).items() if k != name}
            line = [r for r in rows if r["stage"] == stage and others.items() <= r.items()]
            line.sort(key=lambda r: r[name])
            if len(line) < 2:
                continue
            fits = {cost: exponent([r[name] for r in line], [r[cost] for r in line]) for cost in COSTS}
            of = f"{stage}, {name} {line[0][name]} to {line[-1][name]}"
            table.append({"of": of} | {cost: f"{s:+.2f} (x{off:.2f})" for cost, (s, off) in fits.items()})
    return table


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add(
        "--preset",
        choices=sorted(PRESETS),
        default="standard",
        help="preset to whose steps the times are extrapolated",
    )
    add("--nerf-steps", type=int, default=60, help="number of measured steps of nerf")
    add("--refine-steps", type=int, default=12, help="number of measured steps of refine")
    add("--rounds", type=int, default=1, help="number of repetitions of everything")
    add("--most-views", type=int, default=max(VALUES["views"]), help="largest number of views to measure")
    add("--most-size", type=int, default=max(VALUES["size"]), help="largest pictures to measure")
    add("--most-tets", type=int, default=max(VALUES["tets"]), help="finest tetrahedral grid to measure")
    add("--seed", type=int, default=3, help="seed of the procedural object")
    add("--json", "--out", type=Path, help="write every number here")
    options = parser.parse_args(given)
    if options.rounds < 1 or min(options.nerf_steps, options.refine_steps) < 3:
        raise UserError("--rounds must be at least 1, --nerf-steps and --refine-steps at least 3.")
    return options


def main(given: list[str] | None = None) -> dict[str, Any]:
    options = arguments(given)
    preset = Config.preset(options.preset)
    few = {"nerf.steps": options.nerf_steps, "refine.steps": options.refine_steps, "nerf.surface": 128}
    largest = {name: getattr(options, f"most_{name}") for name in VALUES}
    samples: dict[tuple[str, Setting], list[Sample]] = {}
    with tempfile.TemporaryDirectory() as folder:
        alone(make_field, Path(folder), options.seed)
        for number in range(options.rounds):
            for stage in MEASURED:
                for setting in settings(stage, largest):
                    found = alone(measure, stage, setting, preset.replace(few), Path(folder), options.seed)
                    samples.setdefault((stage, setting), []).append(found)
                    say(f"round {number + 1} of {options.rounds}, {stage}, {setting}: {found}")
    wanted = {"nerf": preset.nerf.steps, "refine": preset.refine.steps}
    rows = [row(stage, setting, s, wanted[stage]) for (stage, setting), s in samples.items()]
    exponents = growth(rows)
    carried = " and ".join(f"{steps} steps of {stage}" for stage, steps in wanted.items())
    shown = [r if "tets" in MEASURED[r["stage"]] else r | {"tets": None} for r in rows]
    show(f"Cost of one setting at a time, medians of {options.rounds}", shown, f"s in all: for {carried}.")
    if exponents:
        show(
            "Exponents: cost ~ setting ** exponent", exponents, "In parentheses: largest factor off the fit."
        )
    report = {"options": {k: str(v) for k, v in vars(options).items()}, "rows": rows, "growth": exponents}
    if options.json:
        write(options.json, report)
    return report


if __name__ == "__main__":
    run(main)
