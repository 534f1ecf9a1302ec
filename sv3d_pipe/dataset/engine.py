"""A data set rendered by many processes, in any order, with the same bytes at the end.

``DATA/render.json`` says what the data set is to be; ``DATA/unfinished/`` holds the samples of shards that are
not complete; ``DATA/00000.tar`` and so on are complete shards; ``DATA/manifest.json`` closes it. An object's
place is its number, so neither the order of completion nor a kill in between can be seen in the result.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from sv3d_pipe.dataset.photograph import Job, photograph
from sv3d_pipe.dataset.shards import read_shard, write_shard
from sv3d_pipe.dataset.shoot import Shoot
from sv3d_pipe.errors import UserError, one_line
from sv3d_pipe.files import file_sha256, read_own_json, write_atomically
from sv3d_pipe.road.workers import each, with_threads

KILLER = "the process that rendered it died twice, perhaps because memory ran out"
ANEW = "delete the folder or choose another one with -o"
FORMAT = 3  # raised when the same settings would give other shards


@dataclass(frozen=True)
class DataSet:
    """A data set to be rendered into a folder.

    Attributes:
        seed: from which the jobs' seeds came. per_shard: objects in a shard.
    """

    folder: Path
    jobs: list[Job]
    look: Shoot
    seed: int
    per_shard: int = 100

    def shards(self) -> list[tuple[Path, list[Job]]]:
        """Each shard's file and the objects that belong in it."""
        starts = range(0, len(self.jobs), self.per_shard)
        return [
            (self.folder / f"{number:05d}.tar", self.jobs[start : start + self.per_shard])
            for number, start in enumerate(starts)
        ]

    def plan(self) -> dict[str, Any]:
        """What must be equal for two runs to work on the same data set."""
        lines = "\n".join(f"{job.name} {job.mesh.stat().st_size if job.mesh else 0}" for job in self.jobs)
        objects = {"objects": len(self.jobs), "objects_sha256": hashlib.sha256(lines.encode()).hexdigest()}
        return {
            "format": FORMAT,
            "seed": self.seed,
            **asdict(self.look),
            **objects,
            "per_shard": self.per_shard,
        }


def render_data_set(
    data: DataSet,
    workers: int = 1,
    blender: str | None = None,
    on_object: Callable[[int], None] = lambda count: None,
) -> dict[str, Any]:
    """Render what is missing of a data set.

    Args:
        workers: processes; 1 works in this one.
        blender: the executable, if the look asks for it.
        on_object: called with the number of objects just done, including those found already done.
    Returns:
        the manifest, as in ``manifest.json``.
    Raises:
        UserError: the folder holds another data set, another process works on it, or not one object
            could be rendered.
    """
    with _held(data.folder):
        _agree(data)
        unfinished = data.folder / "unfinished"
        unfinished.mkdir(exist_ok=True)
        for stray in (*unfinished.glob(".*.partial"), *data.folder.glob(".*.partial")):
            stray.unlink()
        _reopen(data, unfinished)
        shards = [(path, jobs) for path, jobs in data.shards() if not path.exists()]
        open_jobs = [job for _, jobs in shards for job in jobs if not _is_done(unfinished, job)]
        on_object(len(data.jobs) - len(open_jobs))
        work = partial(_work, data.look, blender, unfinished)
        _render_shards(shards, unfinished, work, workers, on_object)
        manifest = _manifest(data, unfinished)
        write_atomically(data.folder / "manifest.json", json.dumps(manifest, indent=1) + "\n")
        shutil.rmtree(unfinished)
    return manifest


def _render_shards(
    shards: list[tuple[Path, list[Job]]],
    unfinished: Path,
    work: Callable[[Job], None],
    workers: int,
    on_object: Callable[[int], None],
) -> None:
    """Photograph the objects of the shards; each shard is closed as soon as its last object is there."""
    missing = {path: {job.index for job in jobs if not _is_done(unfinished, job)} for path, jobs in shards}
    home = {job.index: (path, jobs) for path, jobs in shards for job in jobs}
    for path, jobs in shards:
        if not missing[path]:
            _close(path, jobs, unfinished)
    todo = [job for path, jobs in shards for job in jobs if job.index in missing[path]]
    count = min(workers, len(todo))
    places = [with_threads(1)] * count if count > 1 else []  # they share the processors already
    with closing(each(todo, work, partial(_skip, unfinished, reason=KILLER), places)) as done:
        for job, _ in done:
            on_object(1)
            path, jobs = home[job.index]
            missing[path].discard(job.index)
            if not missing[path]:
                _close(path, jobs, unfinished)


def _work(look: Shoot, blender: str | None, unfinished: Path, job: Job) -> None:
    """Photograph one object into ``unfinished``; what cannot be photographed leaves a sentence there."""
    try:
        sample = photograph(job, look, blender)
    except OSError:  # the disk's trouble, not the mesh's
        raise
    except Exception as error:  # foreign meshes break whatever reads them in their own ways
        reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        _skip(unfinished, job, reason.replace(str(job.mesh), job.mesh.name) if job.mesh else reason)
    else:
        _place(_sample_path(unfinished, job), sample)


def _skip(unfinished: Path, job: Job, reason: str) -> None:
    _place(_skip_path(unfinished, job), one_line(reason).encode())


def _place(path: Path, content: bytes) -> None:
    half = path.with_name(f".{path.name}.{os.getpid()}.partial")
    half.write_bytes(content)
    half.replace(path)


def _sample_path(unfinished: Path, job: Job) -> Path:
    return unfinished / f"{job.index:07d}.sample"


def _skip_path(unfinished: Path, job: Job) -> Path:
    return unfinished / f"{job.index:07d}.skipped"


def _is_done(unfinished: Path, job: Job) -> bool:
    return _sample_path(unfinished, job).exists() or _skip_path(unfinished, job).exists()


def _close(path: Path, jobs: list[Job], unfinished: Path) -> None:
    """Join a shard's samples in the order of their numbers and drop them."""
    samples = [sample for job in jobs if (sample := _sample_path(unfinished, job)).exists()]
    write_shard(path, (sample.read_bytes() for sample in samples))
    for sample in samples:
        sample.unlink()


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    from filelock import FileLock, Timeout

    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(
            f"Another process is rendering into {folder}; wait for it, or choose another folder."
        ) from None
    try:
        yield
    finally:
        lock.release()


def _agree(data: DataSet) -> None:
    """Write down the plan of a new data set, or make sure that this is the plan of the one that is there."""
    path, mine = data.folder / "render.json", data.plan()
    if not path.exists():
        if any(data.folder.glob("*.tar")):
            raise UserError(
                f"{data.folder} holds shards without a render.json; choose another folder with -o."
            )
        write_atomically(path, json.dumps(mine, indent=1) + "\n")
        return
    theirs = read_own_json(path, ANEW)
    usual = asdict(Shoot())  # what a data set was begun with that does not know of a setting
    for key, value in mine.items():
        if theirs.get(key, usual.get(key)) != value:
            known = {"format": "the version of img2mesh", "objects_sha256": "the list of objects"}
            before, now = (theirs.get(key), value) if key not in known else ("the old one", "another")
            raise UserError(
                f"{data.folder} was begun with other settings ({known.get(key, key)}: {before}, now {now}); "
                "choose another folder with -o."
            )


def _reopen(data: DataSet, unfinished: Path) -> None:
    """Check the shards of a finished data set; damaged ones are deleted, to be rendered again."""
    path = data.folder / "manifest.json"
    if not path.exists():
        return
    manifest, numbers = read_own_json(path, ANEW), {job.name: job for job in data.jobs}
    try:
        hashes = {shard["file"]: shard["sha256"] for shard in manifest["shards"]}
        skipped = [(numbers[one["name"]], one["reason"].encode()) for one in manifest["skipped"]]
    except (KeyError, TypeError, AttributeError):
        raise UserError(f"{path} is damaged; {ANEW}.") from None
    for shard, _ in data.shards():
        if shard.exists() and file_sha256(shard) != hashes.get(shard.name):
            shard.unlink()
    for job, reason in skipped:
        _place(_skip_path(unfinished, job), reason)


def _manifest(data: DataSet, unfinished: Path) -> dict[str, Any]:
    """What the data set holds; no clock and no path in it, so equal data have equal manifests."""
    entries = {path: read_shard(path) for path, _ in data.shards()}
    about = [entry.about for shard in entries.values() for entry in shard]
    skipped = [
        {"name": job.name, "reason": path.read_text()}
        for job in data.jobs
        if (path := _skip_path(unfinished, job)).exists()
    ]
    if not about:
        raise UserError(f"Not one of {len(data.jobs)} objects could be rendered: {skipped[0]['reason']}")
    return {
        **data.plan(),
        "rendered": len(about),
        "textured": sum(one.textured for one in about),
        "views_in_all": sum(len(one.azimuth_deg) for one in about),
        "skipped": skipped,
        "shards": [
            {
                "file": path.name,
                "objects": len(shard),
                "bytes": path.stat().st_size,
                "sha256": file_sha256(path),
            }
            for path, shard in entries.items()
        ],
    }
