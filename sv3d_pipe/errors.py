"""The errors that a user can cause, and one plain sentence for every other."""

from __future__ import annotations

import errno
import os
import re
import tempfile
import traceback
from pathlib import Path

FORESEEN = (
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENAMETOOLONG, errno.ENOTDIR,
    errno.EISDIR, errno.EMFILE, errno.EIO, errno.EFBIG, errno.ELOOP, errno.EEXIST,
)  # fmt: skip
HELP = dict.fromkeys(
    (errno.ENOSPC, errno.EDQUOT),
    " Free some space and run the same command again; what is finished is kept.",
) | {errno.EFBIG: " Raise the limit on file sizes (ulimit -f) and run the same command again."}
# How those who do not raise an OSError with a number say the same: Rust, PyTorch (twice), NumPy, tempfile
REFUSALS = re.compile(
    r"os error (\d+)|PytorchStreamWriter failed|inline_container\.cc.*unexpected pos"
    r"|requested and \d+ written|No usable temporary directory"
)


class UserError(Exception):
    """Bad input, a bad option or a missing file. The message says what to do about it."""


class Cancelled(Exception):
    """The caller asked for the run to end. What is finished is kept, and the run can be continued."""


def is_foreseen(error: BaseException) -> bool:
    """Whether the user can do something about the error: a UserError, or the disk says no."""
    return isinstance(error, UserError) or refusal(error) is not None


def refusal(error: BaseException | None) -> OSError | None:
    """The system's no to a file behind an error, whatever library has wrapped it; None if there is none."""
    if error is None or (isinstance(error, OSError) and error.errno in FORESEEN):
        return error
    found = REFUSALS.search(str(error))
    if found is None:
        return refusal(error.__cause__)
    code = int(found[1] or errno.ENOSPC)
    return OSError(code, os.strerror(code) if found[1] else "a file could not be written whole")


def explain(error: BaseException, folder: Path | None) -> str:
    """The error in one line. The traceback of one that was not foreseen goes to a log file.

    Args:
        folder: where ``error.log`` is written; a temporary file is used if it cannot be.
    """
    if isinstance(error, UserError):
        return one_line(str(error))
    no = refusal(error)
    if no is not None:
        about = f"{no.filename}: " if no.filename else ""
        return f"The system refused to read or write a file: {about}{no.strerror}.{HELP.get(no.errno, '')}"
    what, log = one_line(f"{type(error).__name__}: {error}"), write_log(error, folder)
    where = "run it with --debug for the details" if log is None else f"the details are in {log}"
    return f"Something went wrong inside img2mesh ({what}); {where}."


def write_log(error: BaseException, folder: Path | None) -> Path | None:
    """Write the traceback to ``folder/error.log``, or to a temporary file; None if neither can be written."""
    text = "".join(traceback.format_exception(error))
    if folder is not None and folder.is_dir():
        try:
            path = folder / "error.log"
            path.unlink(missing_ok=True)  # a link in its place would be followed
            path.write_text(text)
            return path
        except OSError:
            pass
    try:
        with tempfile.NamedTemporaryFile("w", prefix="img2mesh-", suffix=".log", delete=False) as file:
            file.write(text)
    except OSError:
        return None
    return Path(file.name)


def one_line(text: str, longest: int = 300) -> str:
    words = " ".join(text.split())
    return words if len(words) <= longest else words[: longest - 1] + "…"
