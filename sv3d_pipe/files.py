"""Files written whole or not at all, flushed to the disk, hashed; and values made fit for JSON."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import secrets
import shutil
from pathlib import Path
from typing import Any

from sv3d_pipe.errors import UserError


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file that is either the old or the new one at any moment, whoever else writes it.

    A link in its place is replaced, not followed.
    """
    partial = path.with_name(f".{path.name}-{secrets.token_hex(4)}.partial")
    try:
        with partial.open("xb" if isinstance(content, bytes) else "x") as file:
            file.write(content)
        sync(partial)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def read_own_json(path: Path, remedy: str) -> dict[str, Any]:
    """The object in a JSON file that img2mesh wrote, of any size; :func:`sv3d_pipe.inputs.read_json` reads those of others.

    Args:
        remedy: what to do about a file that holds none, as the end of a sentence.
    Raises:
        UserError: the file is damaged.
    """
    try:
        document = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise UserError(f"{path} is damaged; {remedy}.")
    return document


def remove(path: Path) -> None:
    """Remove a file, a link or a folder with all that is in it, if it is there; what a link leads to stays."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sync_tree(folder: Path) -> None:
    """Flush a folder and all that is in it."""
    for path in (*folder.rglob("*"), folder):
        sync(path)


def sync(path: Path) -> None:
    """Flush a file or folder to the disk, where the system can."""
    if path.is_dir() and os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def plain(value: Any) -> Any:
    """A value as JSON knows it: arrays and numpy numbers unpacked; what is not finite becomes None."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value
