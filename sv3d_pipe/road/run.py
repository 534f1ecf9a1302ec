"""Run, resume and skip: one photo's or capture's way through the stages of a workspace."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from sv3d_pipe.config import Config, stable_hash
from sv3d_pipe.device import PeakMemory, is_out_of_memory, resolve_device
from sv3d_pipe.errors import UserError
from sv3d_pipe.files import plain
from sv3d_pipe.mesh_formats import WRITTEN, parse_formats
from sv3d_pipe.road.context import Checkpoint, Context
from sv3d_pipe.road.records import MISSING, StageRecord, versions
from sv3d_pipe.road.report import Reporter
from sv3d_pipe.road.sources import SourceKind, is_same_source, word_of
from sv3d_pipe.road.workspace import Workspace


@dataclass(frozen=True)
class Stage:
    """One stage of a route.

    Attributes:
        version: raise it when the stage's results change for the same settings.
        takes: names of the stages whose artifacts it uses.
        work: (road, context) -> (artifact, metrics).
        load: folder -> artifact, as its ``save`` left it.
        identity: road -> what the result depends on besides settings, seed and upstream.
        redo: the command, after ``img2mesh``, that makes the stage again; may hold ``{root}`` and ``{source}``.
    """

    name: str
    version: int
    takes: tuple[str, ...]
    work: Callable[[Road, Context], tuple[Any, dict[str, Any]]]
    load: Callable[[Path], Any]
    identity: Callable[[Road], dict[str, str]] = lambda road: {}
    redo: str = ""


@dataclass(frozen=True)
class Route:
    """What a road runs: the kind of its source, and its stages in order."""

    kind: SourceKind
    stages: tuple[Stage, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(stage.name for stage in self.stages)


@dataclass(frozen=True)
class StageRun:
    """A stage's record, and whether it was finished before."""

    record: StageRecord
    skipped: bool


@dataclass(frozen=True)
class Result:
    """What a run leaves behind.

    Attributes:
        workspace: folder of the stages. mesh: the exported mesh, None if export was not run.
        stages: the stages of this run, in order. seconds: wall time of the whole run.
    """

    workspace: Path
    mesh: Path | None
    stages: tuple[StageRun, ...]
    seconds: float

    @property
    def failures(self) -> tuple[str, ...]:
        """A sentence for every part of the work that failed; a run that could not go on raises instead."""
        return ()

    def summary(self) -> dict[str, Any]:
        """Plain JSON values: workspace, mesh, seconds, and per stage skipped, seconds, metrics..."""
        kept = ("stage", "key", "seconds", "peak_memory_mb", "device", "metrics", "warnings")
        return {
            "workspace": str(self.workspace),
            "mesh": None if self.mesh is None else str(self.mesh),
            "seconds": round(self.seconds, 2),
            "stages": [
                {"skipped": run.skipped} | {name: getattr(run.record, name) for name in kept}
                for run in self.stages
            ],
        }


class Road:
    """The way of one source through the stages in its workspace.

    Args:
        route: the stages. workspace: where results are kept.
        source: the photo, or the folder of a capture; may be missing if the first stage is not run.
        device: as :func:`~sv3d_pipe.device.resolve_device` takes it; looked up when a stage runs.
        cancelled: asked after every step; when it says yes, the run ends with :class:`Cancelled`.
    """

    def __init__(
        self,
        route: Route,
        workspace: Workspace,
        source: Path,
        config: Config,
        seed: int,
        device: str,
        reporter: Reporter,
        cancelled: Callable[[], bool] = lambda: False,
    ):
        self.route = route
        self.workspace = workspace
        self.source = source
        self.config = config
        self.seed = seed
        self.device = device
        self.reporter = reporter
        self.cancelled = cancelled
        self.stages, self.names = route.stages, route.names
        self._artifacts: dict[str, Any] = {}

    @cached_property
    def identity(self) -> dict[str, str]:
        """Path and content hash of the input. Raises UserError if it cannot be read."""
        return self.route.kind.identity(self.source)

    def run(self, start: str | None = None, until: str = "export", force_from: str | None = None) -> Result:
        """Go from ``start`` to ``until``, skipping what is finished.

        Args:
            start: stages before this one are taken from the workspace as they are; None is the first.
            force_from: this stage and the later ones are run even if they are finished.
        Raises:
            UserError: bad input, or a stage before ``start`` is missing or damaged.
        """
        began = time.monotonic()
        start = start or self.names[0]
        first, last = self._place(start), self._place(until)
        forced = self._place(force_from) if force_from else len(self.stages)
        if last < first:
            raise UserError(f"{until} comes before {start}; the order is {', '.join(self.names)}.")
        runs: list[StageRun] = []
        with self._workspace(), self.reporter:
            self._claim(start)
            for index, stage in enumerate(self.stages[: last + 1]):
                upstream = {run.record.stage: run.record.fingerprint for run in runs}
                if index < first:
                    run = StageRun(self._as_is(stage, upstream), skipped=True)
                else:
                    run = self._finished_or_run(stage, upstream, force=index >= forced)
                runs.append(run)
                (self.reporter.skip if run.skipped else self.reporter.finish)(run.record)
        return Result(self.workspace.root, self._mesh(runs), tuple(runs), time.monotonic() - began)

    @contextmanager
    def _workspace(self):
        """The workspace, held; where the user's mistake is all that comes of it, it is removed again."""
        with self.workspace.lock(self.reporter.say):
            try:
                yield
            except UserError:
                self.workspace.remove_if_empty()
                raise

    def artifact(self, name: str) -> Any:
        """A stage's artifact as its files hold it, so that a run in one go and one stage by stage are the same."""
        if name not in self._artifacts:
            stage = next(stage for stage in self.stages if stage.name == name)
            self._artifacts[name] = stage.load(self.workspace.folder(name))
        return self._artifacts[name]

    def key(self, stage: Stage, upstream: dict[str, str]) -> str:
        """Hash of all that the stage's result depends on; ``upstream``: the fingerprints of what it takes."""
        files = named_files(getattr(self.config, stage.name, None))
        settings = {name: value for name, value in self._settings(stage).items() if name not in files}
        return stable_hash([stage.name, stage.version, settings, self.seed, upstream, stage.identity(self)])

    def _settings(self, stage: Stage) -> dict[str, Any]:
        config = getattr(self.config, stage.name, None)  # importing a capture has no settings of its own
        return {} if config is None else dataclasses.asdict(config)

    def _place(self, stage: str) -> int:
        if stage not in self.names:
            word = self.route.kind.word
            raise UserError(f"A {word} has no {stage} stage; its stages are {', '.join(self.names)}.")
        return self.names.index(stage)

    def _claim(self, start: str) -> None:
        """Refuse the workspace of another photo or capture; keep this run's settings in it."""
        run, path = self.workspace.read_run(), self.workspace.root / "run.json"
        if start == self.names[0]:
            mine = self.identity
            if run is None and path.exists():
                self.reporter.say(f"{path} was damaged; it is written again.")
            if not is_same_source(mine, run):
                word = word_of(run)
                raise UserError(
                    f"{self.workspace.root} is the workspace of another {word} ({run[word]}); "
                    "choose another folder with -o."
                )
        else:
            if run is None:
                raise UserError(f"{self.workspace.root} is not a workspace; make one with `img2mesh prep`.")
            mine = {name: run[name] for name in (word_of(run), "sha256")}
        self.workspace.write_run(mine | {"seed": self.seed, "config": self.config.flat()})

    def _as_is(self, stage: Stage, upstream: dict[str, str]) -> StageRecord:
        """The record of a stage that is finished and was made from the stages that are there."""
        record, state = self.workspace.record(stage.name), self.workspace.trouble(stage.name)
        if state is None:
            other = [name for name in stage.takes if record.upstream.get(name) != upstream[name]]
            if not other:
                return record
            state = f"older than the {other[0]} stage"
        root, run = self.workspace.root, self.workspace.read_run()
        redo = (stage.redo or f"{stage.name} {{root}}").format(root=root, source=run[word_of(run)])
        raise UserError(f"The {stage.name} stage of {root} is {state}; run `img2mesh {redo}` first.")

    def _finished_or_run(self, stage: Stage, before: dict[str, str], force: bool) -> StageRun:
        upstream = {name: before[name] for name in stage.takes}
        key, record = self.key(stage, upstream), self.workspace.record(stage.name)
        if force:
            self.workspace.drop_checkpoints(stage.name)
        elif record is None or record.key == key:
            trouble = self.workspace.trouble(stage.name)
            if trouble is None:
                return StageRun(record, skipped=True)
            if trouble != MISSING:
                self.reporter.say(f"The files of the {stage.name} stage are {trouble}; running it again.")
        return StageRun(self._run_stage(stage, key, upstream), skipped=False)

    def _run_stage(self, stage: Stage, key: str, upstream: dict[str, str]) -> StageRecord:
        self.workspace.make_room()
        device = resolve_device(self.device)
        checkpoint = Checkpoint(self.workspace.checkpoint_path(stage.name, key))
        context = Context(
            device,
            self.seed,
            self.reporter.bar,
            self.reporter.say,
            checkpoint=checkpoint,
            cancelled=self.cancelled,
        )
        self.reporter.start(stage.name)
        began = time.monotonic()
        try:
            with PeakMemory(device) as memory, _plain_memory_errors(stage.name, device):
                artifact, metrics = stage.work(self, context)
        finally:
            warnings = list(dict.fromkeys(context.warnings))
            for sentence in warnings:
                self.reporter.warn(stage.name, sentence)
        record = StageRecord(
            stage=stage.name,
            version=stage.version,
            key=key,
            upstream=upstream,
            config=self._settings(stage),
            seed=self.seed,
            device=device,
            versions=versions(),
            seconds=round(time.monotonic() - began, 3),
            peak_memory_mb=round(memory.peak_mb, 1),
            metrics=plain(metrics),
            warnings=warnings,
        )
        self._artifacts.pop(stage.name, None)
        return self.workspace.commit(record, artifact.save)

    def _mesh(self, runs: list[StageRun]) -> Path | None:
        if not runs or runs[-1].record.stage != "export":
            return None
        record = runs[-1].record
        written = [WRITTEN[name].file for name in parse_formats(record.config["format"])]
        return self.workspace.folder("export") / next(file for file in written if file in record.files)


def named_files(config: Any) -> set[str]:
    """The settings of a stage that name files; what those hold is part of the stage's identity."""
    specs = () if config is None else dataclasses.fields(config)
    return {spec.name for spec in specs if spec.metadata["files"]}


@contextmanager
def _plain_memory_errors(stage: str, device: str):
    """Say in plain words that memory has run out; PyTorch reports it as a RuntimeError."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise UserError(
            f"The {stage} stage ran out of memory on {device}; close other programs or choose "
            "smaller settings (`img2mesh config` lists them)."
        ) from error
