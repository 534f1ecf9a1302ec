"""Where numba keeps the machine code that it has compiled.

By itself it takes the package's own folders or the user's cache, and where neither can be written (a container, a
read-only home) every module with such code fails on import. Then a folder of the user's own among the temporary
files takes their place. Standard library only: this runs before anything else is imported.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def keep_compiled_code() -> None:
    """Set ``NUMBA_CACHE_DIR`` where numba would find no folder to write to, if there is any at all."""
    if compiled_code_folder() is None:
        try:
            os.environ["NUMBA_CACHE_DIR"] = str(private_folder(Path(tempfile.gettempdir())))
        except OSError:
            pass  # nothing on this machine can be written: doctor says so, and so does whatever writes first


def compiled_code_folder() -> Path | None:
    """Where compiled code is kept: the folder named by ``NUMBA_CACHE_DIR``, else one of numba's own; None if none."""
    named = os.environ.get("NUMBA_CACHE_DIR")
    return next(filter(can_be_written, [Path(named)] if named else usual_folders()), None)


def usual_folders() -> list[Path]:
    """Where numba looks by itself: beside the code, and the user's cache if there is a home."""
    home = Path.home() if os.path.expanduser("~") != "~" else None
    own = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA") or home
    return [Path(__file__).parent / "__pycache__", *([Path(own) / "numba"] if own else [])]


def can_be_written(folder: Path) -> bool:
    """Whether a file can be made in the folder, which is made if need be: what numba itself tries."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        return False
    return True


def private_folder(temporary: Path) -> Path:
    """A folder that only this user can write: numba's files are pickles, which others must not be able to plant.

    The same one each time, so that code is compiled once; a new one where somebody else sits on that name.
    """
    folder = temporary / f"img2mesh-compiled-{os.getuid() if hasattr(os, 'getuid') else 'code'}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    own = not hasattr(os, "getuid") or (found.st_uid == os.getuid() and not found.st_mode & 0o077)
    if own and not folder.is_symlink():
        return folder
    return Path(tempfile.mkdtemp(prefix="img2mesh-compiled-", dir=temporary))
