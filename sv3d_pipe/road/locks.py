"""One process at a time in a folder that another one may remove."""

from __future__ import annotations

import errno
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sv3d_pipe.files import write_atomically

LOCK, HOLDER = ".lock", ".holder.json"
UNWRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT)


@contextmanager
def locked(folder: Path, make: Callable[[], None], say: Callable[[str], None]) -> Iterator[OSError | None]:
    """Wait until no other process holds the folder, and hold it.

    Args:
        make: makes the folder; called again when who held it has removed it.
        say: called with a sentence on who holds it, if there is a wait.
    Yields:
        None; or, where nothing can be written, the system's refusal, and nobody is kept away.
    """
    from filelock import FileLock, Timeout

    file, holder = folder / LOCK, folder / HOLDER
    lock, waiting = FileLock(file), False
    try:
        while not lock.is_locked:
            make()
            if file.is_symlink():
                file.unlink(missing_ok=True)
            try:
                lock.acquire(timeout=0.2 if waiting else 0)
            except FileNotFoundError:  # removed between the two lines
                continue
            except Timeout:
                if not waiting:
                    say(f"{folder} is in use by {_read(holder)}; waiting until it is free.")
                waiting = True
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        yield error
        return
    try:
        me = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%H:%M:%S")}
        with suppress(OSError):  # a full disk
            write_atomically(holder, json.dumps(me))
        yield None
    finally:
        if file.exists():  # else it was removed, and the next one may be there already
            holder.unlink(missing_ok=True)
        lock.release()


def _read(holder: Path) -> str:
    try:
        about = json.loads(holder.read_text())
        return f"process {about['pid']} on {about['host']} since {about['since']}"
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return "another process"
