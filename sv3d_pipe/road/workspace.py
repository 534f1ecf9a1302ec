"""The artifact store of one photo or capture: a folder per stage, committed whole, verified, locked.

``<workspace>/3-nerf/`` holds the stage's files and its ``stage.json``. Names that begin with a dot
are the store's own: ``.lock``, half-written stages, and the checkpoints of unfinished ones.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Callable
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from sv3d_pipe.errors import UserError
from sv3d_pipe.files import file_sha256, remove, sync, sync_tree, write_atomically
from sv3d_pipe.road.locks import HOLDER, LOCK, locked
from sv3d_pipe.road.records import (
    DAMAGED,
    FOREIGN,
    MISSING,
    StageRecord,
    Unusable,
    entries,
    read_run,
    read_source,
    sealed,
)

STAGES = ("prep", "orbit", "nerf", "refine", "export")
FOLDERS = {"capture": "2-capture"} | {stage: f"{i}-{stage}" for i, stage in enumerate(STAGES, 1)}
SOURCE = ".source.json"  # what a folder is reserved for before its first run
MADE = ".made"  # in a folder that was made here, not by the user
FREE_BYTES = 256 * 2**20  # a draft run writes about 20 MB, standard and quality up to 200 MB


class Workspace:
    """The folder of one photo's stages. Hold :meth:`lock` while reading or writing stages.

    Args:
        root: the folder; made by :meth:`lock`.

    Attributes:
        held: whether :meth:`lock` keeps other processes away, so that stages may be written.
    """

    def __init__(self, root: Path):
        self.root = Path(root)
        self.held = self._made = False
        self._refusal: OSError | None = None

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
        """The record of the finished stage; None if there is none or it cannot be used."""
        try:
            return StageRecord.read(self.folder(stage) / "stage.json")
        except Unusable:
            return None

    def trouble(self, stage: str) -> str | None:
        """What a stage's files are if they cannot be used: missing, damaged, from another version.

        None if every file that the record names is there and has its size and SHA-256.
        """
        folder = self.folder(stage)
        try:
            record = StageRecord.read(folder / "stage.json")
        except Unusable as reason:
            return DAMAGED if str(reason) == MISSING and os.path.lexists(folder) else str(reason)
        for name, expected in record.files.items():
            path = folder / name
            if not path.is_file() or path.stat().st_size != expected["size"]:
                return DAMAGED
            if file_sha256(path) != expected["sha256"]:
                return DAMAGED
        return None

    def commit(self, record: StageRecord, save: Callable[[Path], None]) -> StageRecord:
        """Make ``save``'s files the stage's files, all or nothing.

        They are written into a sibling folder and synced; then the folders change places. A process
        killed between the two renames is put right by the next :meth:`lock`.

        Returns:
            the record with ``files`` filled in.
        """
        target = self.folder(record.stage)
        fresh, old = self._sibling(target, "new"), self._sibling(target, "old")
        remove(fresh)
        fresh.mkdir()
        try:
            save(fresh)
            record = replace(record, files=entries(fresh))
            (fresh / "stage.json").write_text(record.text())
            sync_tree(fresh)
        except BaseException:
            remove(fresh)
            raise
        remove(old)
        if os.path.lexists(target):
            target.rename(old)
        fresh.rename(target)
        sync(self.root)
        remove(old)
        self.drop_checkpoints(record.stage)
        return record

    def read_run(self) -> dict[str, Any] | None:
        """What :meth:`write_run` kept of the last run: photo or capture, seed, settings. None if there is none.

        None also if it is damaged. Raises UserError if another version wrote it.
        """
        path = self.root / "run.json"
        try:
            return read_run(path)
        except Unusable as reason:
            if str(reason) != FOREIGN:
                return None
            raise UserError(
                f"{path} is {reason}; use that version, or choose another folder with -o."
            ) from None

    def source(self) -> dict[str, Any] | None:
        """What the workspace is of: that of its last run, else what it is reserved for; None if it is free."""
        return self.read_run() or self._reservation()

    def reserve(self, source: dict[str, str]) -> dict[str, Any]:
        """Make the folder and reserve it for ``source`` unless it is taken; returns whose it is now.

        Of several processes that reserve a folder at once, one succeeds.
        """
        path = self.root / SOURCE
        if path.exists() and self._reservation() is None:
            remove(path)  # a damaged one
        while not path.exists():
            self._make()
            with suppress(FileNotFoundError):  # another process has removed the folder
                self._write_first(path, sealed(source))
        return self.source() or source

    def _write_first(self, path: Path, text: str) -> None:
        """Write a file unless another process was faster."""
        partial = self.root / f"{path.name}-{secrets.token_hex(4)}.partial"
        try:
            with partial.open("x") as file:
                file.write(text)
            os.link(partial, path)  # unlike a rename it never replaces
        except FileExistsError:
            pass
        except OSError:  # a file system without links
            if not path.exists():
                partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)

    def _reservation(self) -> dict[str, Any] | None:
        try:
            return read_source(self.root / SOURCE)
        except Unusable:
            return None

    def write_run(self, run: dict[str, Any]) -> None:
        """Keep what :meth:`read_run` returns, unless it is kept already or nothing can be written here."""
        if self.held and run != self.read_run():
            write_atomically(self.root / "run.json", sealed(run))

    def remove_if_empty(self) -> None:
        """Remove the folder again if it was made here and no stage and no in-stage state has been kept in it.

        Hold :meth:`lock`, or be sure that nobody else works in it.
        """
        own = ("run.json", HOLDER, SOURCE, MADE, LOCK)  # the lock last: until then nobody else comes in
        if (self.root / MADE).exists() and {path.name for path in self.root.iterdir()} <= {*own}:
            for name in own:
                remove(self.root / name)
            with suppress(OSError):  # another process has it already
                self.root.rmdir()

    @contextmanager
    def lock(self, say: Callable[[str], None] = lambda sentence: None):
        """Make the folder, wait until no other process works in it, and tidy up after a killed one.

        What is finished can also be read where nothing can be written; :meth:`make_room` tells.

        Args:
            say: called with a sentence on who holds the workspace, if there is a wait.
        Raises:
            UserError: the folder cannot be made, or is new and the disk is nearly full.
        """
        with locked(self.root, self._make, say) as refusal:
            self._refusal, self.held = refusal, refusal is None
            try:
                if self.held:
                    if self._made:  # by us, though another process may have removed it and its mark
                        (self.root / MADE).touch()
                    self._recover()
                yield self
            finally:
                self.held = False

    def make_room(self) -> None:
        """Raise UserError unless a stage can be written: the folder is held, and the disk has room."""
        try:
            if self._refusal is not None:
                raise self._refusal
            with tempfile.TemporaryFile(dir=self.root):
                pass
        except OSError as error:
            raise self._unwritable(error) from None
        self._check_room(self.root)

    def _make(self) -> None:
        """Make the folder if it is not there; then it is marked as made here."""
        try:
            if not self.root.is_dir():
                above = self.root.absolute().parents
                self._check_room(next(parent for parent in above if parent.exists()))
                self.root.mkdir(parents=True, exist_ok=True)
                self._made = True
                with suppress(FileNotFoundError):  # another process has removed it again
                    (self.root / MADE).touch()
        except OSError as error:
            raise self._unwritable(error) from None
        self._made |= (self.root / MADE).exists()

    def _unwritable(self, error: OSError) -> UserError:
        reason = "it is a file" if self.root.is_file() else error.strerror
        return UserError(f"Cannot write to {self.root} ({reason}); choose another folder with -o.")

    def _check_room(self, folder: Path) -> None:
        free = shutil.disk_usage(folder).free
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
            if os.path.lexists(old) and not os.path.lexists(target):
                old.rename(target)
            remove(old)
            remove(fresh)
        for name in ("run.json", HOLDER):
            for partial in self.root.glob(f".{name}-*.partial"):
                partial.unlink()

    def _sibling(self, target: Path, word: str) -> Path:
        return self.root / f".{target.name}.{word}"
