"""The model cache: contents hashed once, checkpoints converted once, every write whole or not at all.

``models/`` holds diffusers folders, ``downloads/`` original files, ``cache.json`` what is remembered:
the SHA-256 of files already read and the licenses already shown.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import struct
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any

from sv3d_pipe.errors import UserError
from sv3d_pipe.files import write_atomically

OnBytes = Callable[[int, int], None]
ITEM_BYTES = {"fp16": 2, "bf16": 2, "fp32": 4}
NAMES = {"F16": "fp16", "BF16": "bf16", "F32": "fp32"}  # safetensors' names of them
PATIENCE_S = 2.0  # shorter work shows no progress
BLOCK_BYTES = 2**22
LONGEST_HEADER = 100_000_000  # safetensors' own limit


def cache_folder() -> Path:
    """``$IMG2MESH_CACHE``, else ``$XDG_CACHE_HOME/img2mesh``, else ``~/.cache/img2mesh``."""
    if own := os.environ.get("IMG2MESH_CACHE"):
        return Path(os.path.expanduser(own)).absolute()
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base).absolute() / "img2mesh"
    return Path.home() / ".cache" / "img2mesh"


def model_folder(name: str) -> Path:
    """Where the converted model of this name lies, or would lie."""
    return cache_folder() / "models" / name


def is_model(folder: Path) -> bool:
    return (folder / "model_index.json").is_file()


def file_model(source: Path) -> Path:
    """The fp16 diffusers folder of an original single file; made on first use, found by content later.

    Raises:
        UserError: the file is not such a checkpoint, or the cache cannot be written.
    """
    name = f"{content_sha256(source)[:16]}-fp16"
    if not is_model(model_folder(name)):
        with held(name):
            if not is_model(model_folder(name)):
                convert_into(source, name, "fp16")
    return model_folder(name)


def convert_into(source: Path, name: str, dtype: str) -> None:
    """Convert an original single file into ``models/<name>``, in place of what is there.

    Hold the lock ``name``. Nothing that a later run would take for the model is left by a failure.
    """
    from sv3d_pipe.orbit.sv3d.convert import to_folder

    check_disk({f"converted to {dtype}": converted_bytes(source, dtype)}, source.name)
    target = model_folder(name)
    partial = target.with_name(f".{name}.partial")
    remove(partial)
    partial.mkdir(parents=True)
    try:
        with slow_bar(f"Converting {source.name}") as on_bytes:
            to_folder(source, partial / "new", dtype, on_bytes=on_bytes)
        for path in (partial / "new").rglob("*"):
            if path.is_file():
                flush(path)
        if target.exists():
            target.rename(partial / "old")
        (partial / "new").rename(target)
    finally:
        remove(partial)


def content_sha256(path: Path, title: str | None = None) -> str:
    """SHA-256 of a file's content, remembered by real path, size and time of change.

    Args:
        title: of the progress bar, if reading takes long.
    """
    real = path.resolve()
    before = real.stat()
    mark = [before.st_size, before.st_mtime_ns]
    known = recall("sha256").get(str(real))
    if known is not None and known["mark"] == mark:
        return known["sha256"]
    digest, done = hashlib.sha256(), 0
    with real.open("rb") as file, slow_bar(title or f"Reading {path.name}") as on_bytes:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
            done += len(block)
            on_bytes(done, max(done, before.st_size))
    after = real.stat()
    if [after.st_size, after.st_mtime_ns] != mark:
        raise UserError(f"{path} changed while it was being read; try again when it is complete.")
    remember("sha256", str(real), {"mark": mark, "sha256": digest.hexdigest()})
    return digest.hexdigest()


def move_hashed(source: Path, target: Path) -> None:
    """Rename a file; its SHA-256 stays known."""
    known = recall("sha256").get(str(source.resolve()))
    source.replace(target)
    if known is not None:
        remember("sha256", str(target.resolve()), known)


def recall(table: str) -> dict[str, Any]:
    """What is remembered under ``table``; nothing if the memory is missing or unreadable."""
    try:
        return dict(json.loads((cache_folder() / "cache.json").read_text())[table])
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def remember(table: str, key: str, value: Any) -> None:
    """Remember ``value``; hashes of files that are gone are forgotten."""
    with held("cache"):
        tables = {name: recall(name) for name in ("sha256", "licences")}
        tables[table][key] = value
        tables["sha256"] = {path: kept for path, kept in tables["sha256"].items() if Path(path).exists()}
        write_atomically(cache_folder() / "cache.json", json.dumps(tables, indent=1) + "\n")


@contextmanager
def held(name: str):
    """Hold the cache's lock ``name``; while another process holds it, say so and wait.

    Raises:
        UserError: the cache cannot be written.
    """
    from filelock import FileLock, Timeout

    root = cache_folder()
    lock = FileLock(root / f".{name}.lock")
    try:
        root.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=1.0)
        except Timeout:
            say(f"Another process is busy with {name} in {root}; waiting until it is done.")
            lock.acquire()
    except OSError as error:
        raise UserError(
            f"Cannot write to the model cache {root} ({error.strerror}); set IMG2MESH_CACHE to another folder."
        ) from None
    try:
        yield
    finally:
        lock.release()


def check_disk(needed: dict[str, int], name: str, folder: Path | None = None) -> None:
    """Raise UserError if the disk of ``folder`` (the cache) has no room for ``needed``, purpose -> bytes."""
    wanted = (folder or cache_folder()).absolute()
    there = next(place for place in (wanted, *wanted.parents) if place.exists())
    free, total = shutil.disk_usage(there).free, sum(needed.values())
    if free < total:
        parts = " and ".join(f"{gigabytes(size)} {purpose}" for purpose, size in needed.items())
        other = (
            "choose a folder on another disk" if folder else "set IMG2MESH_CACHE to a folder on another disk"
        )
        raise UserError(
            f"{name} needs {gigabytes(total)} of disk ({parts}), but {gigabytes(free)} are free at {there}; "
            f"free {gigabytes(total - free)} or {other}."
        )


def converted_bytes(source: Path, dtype: str) -> int:
    """At most this much disk a conversion takes; 0 for a file that is not a safetensors file."""
    tensors = safetensors_header(source)
    return sum(prod(tensor["shape"]) for tensor in tensors.values()) * ITEM_BYTES[dtype]


def folder_dtype(folder: Path) -> str | None:
    """fp16, bf16 or fp32: the type in which a model folder keeps its UNet; None if it cannot be told."""
    for path in sorted((folder / "unet").glob("*.safetensors")):
        for tensor in safetensors_header(path).values():
            return NAMES.get(tensor["dtype"])
    return None


def safetensors_header(path: Path) -> dict[str, dict[str, Any]]:
    """Name -> dtype and shape of a safetensors file's tensors; empty if it is none."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length)) if length <= LONGEST_HEADER else {}
        return {name: entry for name, entry in header.items() if _is_tensor(entry)}
    except (OSError, ValueError, AttributeError, TypeError, RecursionError, struct.error):
        return {}


def _is_tensor(entry: Any) -> bool:
    """Whether an entry of a safetensors header describes a tensor: a type and a list of sizes."""
    if not (isinstance(entry, dict) and isinstance(entry.get("dtype"), str)):
        return False
    shape = entry.get("shape")
    return isinstance(shape, list) and all(isinstance(size, int) and 0 <= size < 2**48 for size in shape)


def folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def gigabytes(size: int) -> str:
    """``9368890196`` is ``9.37 GB``; smaller sizes are in MB or kB."""
    if size >= 1e9:
        return f"{size / 1e9:.2f} GB"
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.1f} kB"


def flush(path: Path) -> None:
    """Have a file on the disk before its name promises that it is whole."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def say(sentence: str) -> None:
    """Tell the user something on stderr, where there is one."""
    if sys.stderr is not None:
        print(sentence, file=sys.stderr, flush=True)


@contextmanager
def slow_bar(title: str):
    """Yield ``on_bytes(done, total)``: it shows a bar on stderr once the work takes over two seconds.

    A stderr that is not a terminal gets one line instead; a program without stderr, nothing.
    """
    bar = _SlowBar(title)
    try:
        yield bar
    finally:
        bar.close()


class _SlowBar:
    def __init__(self, title: str):
        self.title = title
        self.began = time.monotonic()
        self.progress = self.task = None
        self.told = False

    def __call__(self, done: int, total: int) -> None:
        if not self.told and time.monotonic() - self.began > PATIENCE_S:
            self.told = True
            self._open(total)
        if self.progress is not None:
            self.progress.update(self.task, completed=done, total=total)

    def _open(self, total: int) -> None:
        from rich.console import Console
        from rich.errors import LiveError
        from rich.markup import escape
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

        if sys.stderr is None or not sys.stderr.isatty():
            say(f"{self.title}, {gigabytes(total)}, ...")
            return
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
        progress = Progress(*columns, console=Console(stderr=True), transient=True)
        try:
            progress.start()
        except LiveError:  # another bar is on the screen
            return
        self.progress, self.task = progress, progress.add_task(escape(self.title), total=total)

    def close(self) -> None:
        if self.progress is not None:
            self.progress.stop()
