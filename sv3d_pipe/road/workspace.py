"""The artifact store of one photo or capture: a folder per stage, committed whole, verified, locked.

``<workspace>/3-nerf/`` holds the stage's files and its ``stage.json``. Names that begin with a dot
are the store's own: ``.lock``, half-written stages, and the checkpoints of unfinished ones.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import socket
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import sv3d_pipe
from sv3d_pipe.errors import UserError
from sv3d_pipe.files import file_sha256, sync, sync_tree, write_atomically

STAGES = ("prep", "orbit", "nerf", "refine", "export")
FOLDERS = {"capture": "2-capture"} | {stage: f"{i}-{stage}" for i, stage in enumerate(STAGES, 1)}
SOURCE = ".source.json"  # what a folder is reserved for before its first run
FREE_BYTES = 256 * 2**20  # a draft run writes about 20 MB, standard and quality up to 200 MB


@dataclass(frozen=True)
class StageRecord:
    """What ``stage.json`` says about a finished stage.

    Attributes:
        key: hash of everything the stage's result depends on.
        upstream: keys of the stages whose artifacts it took.
        seconds: wall time. peak_memory_mb: largest resident (or CUDA) memory in MiB.
        metrics: plain JSON values; the first is the one the stage is judged by.
        files: relative path -> {"size": bytes, "sha256": hex}.
    """

    stage: str
    version: int
    key: str
    upstream: dict[str, str]
    config: dict[str, Any]
    seed: int
    device: str
    versions: dict[str, str]
    seconds: float
    peak_memory_mb: float
    metrics: dict[str, Any]
    warnings: list[str]
    files: dict[str, dict[str, Any]] = field(default_factory=dict)


class Workspace:
    """The folder of one photo's stages. Hold :meth:`lock` while reading or writing stages.

    Args:
        root: the folder; made by :meth:`lock`.
    """

    def __init__(self, root: Path):
        self.root = Path(root)

    def folder(self, stage: str) -> Path:
        """Where the stage's files are, e.g. ``<root>/3-nerf``."""
        return self.root / FOLDERS[stage]

    def checkpoint_path(self, stage: str, key: str) -> Path:
        """File for the in-stage state of the run of ``stage`` that has this key, on any device."""
        return self.root / f".{stage}-{key[:16]}.checkpoint"

    def drop_checkpoints(self, stage: str) -> None:
        """Remove the in-stage state of all runs of ``stage``, half-written files included."""
        for pattern in (f".{stage}-*.checkpoint", f".{stage}-*.partial"):
            for path in self.root.glob(pattern):
                path.unlink(missing_ok=True)

    def record(self, stage: str) -> StageRecord | None:
        """The record of the finished stage; None if there is none or it cannot be read."""
        try:
            return StageRecord(**json.loads((self.folder(stage) / "stage.json").read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def verified(self, stage: str) -> StageRecord | None:
        """The record, if every file of the stage is there and has its size and SHA-256."""
        record = self.record(stage)
        if record is None:
            return None
        for name, expected in record.files.items():
            path = self.folder(stage) / name
            if not path.is_file() or path.stat().st_size != expected["size"]:
                return None
            if file_sha256(path) != expected["sha256"]:
                return None
        return record

    def commit(self, record: StageRecord, save: Callable[[Path], None]) -> StageRecord:
        """Make ``save``'s files the stage's files, all or nothing.

        They are written into a sibling folder and synced; then the folders change places. A process
        killed between the two renames is put right by the next :meth:`lock`.

        Returns:
            the record with ``files`` filled in.
        """
        target = self.folder(record.stage)
        fresh, old = self._sibling(target, "new"), self._sibling(target, "old")
        _remove(fresh)
        fresh.mkdir()
        try:
            save(fresh)
            record = StageRecord(**{**asdict(record), "files": _describe(fresh)})
            (fresh / "stage.json").write_text(json.dumps(asdict(record), indent=1) + "\n")
            sync_tree(fresh)
        except BaseException:
            _remove(fresh)
            raise
        _remove(old)
        if target.exists():
            target.rename(old)
        fresh.rename(target)
        sync(self.root)
        _remove(old)
        self.drop_checkpoints(record.stage)
        return record

    def read_run(self) -> dict[str, Any] | None:
        """What :meth:`write_run` kept of the last run: photo or capture, seed, settings. None if there is none."""
        try:
            return json.loads((self.root / "run.json").read_text())
        except (OSError, ValueError):
            return None

    def source(self) -> dict[str, Any] | None:
        """What the workspace is of: that of its last run, else what it is reserved for; None if it is free."""
        return self.read_run() or self._reservation()

    def reserve(self, source: dict[str, str]) -> dict[str, Any]:
        """Make the folder and reserve it for ``source`` unless it is taken; returns whose it is now.

        Of several processes that reserve a folder at once, one succeeds.
        """
        self._make()
        partial = self.root / f".source-{os.getpid()}-{threading.get_ident()}.partial"
        partial.write_text(json.dumps(source) + "\n")
        try:
            os.link(partial, self.root / SOURCE)  # unlike a rename it never replaces
        except FileExistsError:
            pass
        except OSError:  # a file system without links
            if not (self.root / SOURCE).exists():
                partial.replace(self.root / SOURCE)
        finally:
            partial.unlink(missing_ok=True)
        return self.source() or source

    def _reservation(self) -> dict[str, Any] | None:
        try:
            return json.loads((self.root / SOURCE).read_text())
        except (OSError, ValueError):
            return None

    def write_run(self, run: dict[str, Any]) -> None:
        write_atomically(self.root / "run.json", json.dumps(run, indent=1) + "\n")

    def remove_if_empty(self) -> None:
        """Remove the folder again if no stage and no in-stage state has been kept in it."""
        own = {"run.json", ".lock", SOURCE}
        if self.root.is_dir() and {path.name for path in self.root.iterdir()} <= own:
            _remove(self.root)

    @contextmanager
    def lock(self, say: Callable[[str], None] = lambda sentence: None):
        """Make the folder, wait until no other process works in it, and tidy up after a killed one.

        Args:
            say: called with a sentence on who holds the workspace, if there is a wait.
        Raises:
            UserError: the folder cannot be made or written, or the disk is nearly full.
        """
        from filelock import FileLock, Timeout

        self._make()
        lock = FileLock(self.root / ".lock")
        holder = self.root / ".holder.json"
        try:
            lock.acquire(timeout=0)
        except Timeout:
            say(f"{self.root} is in use by {_read_holder(holder)}; waiting until it is free.")
            lock.acquire(poll_interval=0.2)
        try:
            me = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%H:%M:%S")}
            holder.write_text(json.dumps(me))
            self._recover()
            yield self
        finally:
            holder.unlink(missing_ok=True)
            lock.release()

    def _make(self) -> None:
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            probe = self.root / f".probe-{os.getpid()}"
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            raise UserError(
                f"Cannot write to {self.root} ({error.strerror}); choose another folder with -o."
            ) from None
        free = shutil.disk_usage(self.root).free
        if free < FREE_BYTES:
            raise UserError(
                f"Only {free / 2**20:.0f} MB are free on the disk of {self.root}; "
                f"free at least {FREE_BYTES // 2**20} MB or choose another folder with -o."
            )

    def _recover(self) -> None:
        """Undo what a killed commit left half done."""
        for stage in FOLDERS:
            target = self.folder(stage)
            fresh, old = self._sibling(target, "new"), self._sibling(target, "old")
            if old.exists() and not target.exists():
                old.rename(target)
            _remove(old)
            _remove(fresh)

    def _sibling(self, target: Path, word: str) -> Path:
        return self.root / f".{target.name}.{word}"


def _describe(folder: Path) -> dict[str, dict[str, Any]]:
    return {
        path.relative_to(folder).as_posix(): {"size": path.stat().st_size, "sha256": file_sha256(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _read_holder(path: Path) -> str:
    try:
        holder = json.loads(path.read_text())
        return f"process {holder['pid']} on {holder['host']} since {holder['since']}"
    except (OSError, ValueError, KeyError):
        return "another process"


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


def versions() -> dict[str, str]:
    """Versions of the programs that numbers may depend on."""
    from importlib import metadata

    found = {"python": platform.python_version(), "img2mesh": sv3d_pipe.__version__}
    for package in ("torch", "numpy", "numba", "diffusers"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
