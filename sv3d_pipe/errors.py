"""The errors that a user can cause, and one plain sentence for every other."""

from __future__ import annotations

import errno
import tempfile
import traceback
from pathlib import Path

FORESEEN = (
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENAMETOOLONG, errno.ENOTDIR,
    errno.EISDIR, errno.EMFILE, errno.EIO,
)  # fmt: skip


class UserError(Exception):
    """Bad input, a bad option or a missing file. The message says what to do about it."""


class Cancelled(Exception):
    """The caller asked for the run to end. What is finished is kept, and the run can be continued."""


def is_foreseen(error: BaseException) -> bool:
    """Whether the user can do something about the error: a UserError, or the disk says no."""
    return isinstance(error, UserError) or (isinstance(error, OSError) and error.errno in FORESEEN)


def explain(error: BaseException, folder: Path | None) -> str:
    """The error in one line. The traceback of one that was not foreseen goes to a log file.

    Args:
        folder: where ``error.log`` is written; a temporary file is used if it cannot be.
    """
    if isinstance(error, UserError):
        return one_line(str(error))
    if is_foreseen(error):
        about = f"{error.filename}: " if error.filename else ""
        return f"The system refused to read or write a file: {about}{error.strerror}."
    what = one_line(f"{type(error).__name__}: {error}")
    return f"Something went wrong inside img2mesh ({what}); the details are in {write_log(error, folder)}."


def write_log(error: BaseException, folder: Path | None) -> Path:
    """Write the traceback to ``folder/error.log``, or to a temporary file."""
    text = "".join(traceback.format_exception(error))
    if folder is not None and folder.is_dir():
        try:
            path = folder / "error.log"
            path.write_text(text)
            return path
        except OSError:
            pass
    with tempfile.NamedTemporaryFile("w", prefix="img2mesh-", suffix=".log", delete=False) as file:
        file.write(text)
    return Path(file.name)


def one_line(text: str, longest: int = 300) -> str:
    words = " ".join(text.split())
    return words if len(words) <= longest else words[: longest - 1] + "…"
