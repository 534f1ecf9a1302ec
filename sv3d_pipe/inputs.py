"""Files that a stranger gave: regular files of bounded size, read whole; JSON and text in any of Unicode's encodings."""

from __future__ import annotations

import json
import re
import stat
from pathlib import Path
from typing import Any

from sv3d_pipe.errors import UserError

MOST_BYTES = 256 * 2**20  # of a picture, or of a mesh with all that belongs to it
MOST_PIXELS = 50_000_000  # of a picture, decoded: about 7000 x 7000
MOST_FACES = 1_000_000  # triangles of a mesh
SMALLEST = 16  # pixels; below this a side of a picture holds nothing to reconstruct
MOST_ITEMS = 3_000_000  # of a JSON document: each becomes an object in memory
ADDRESS = re.compile(r"^(https?|ftp|s3|gs|file):/", re.IGNORECASE)  # of the web; Path makes one slash of two


def require_file(path: Path) -> None:
    """Raise UserError unless ``path`` is a regular file of at most MOST_BYTES: no folder, device, pipe or socket."""
    try:
        info = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        if is_address(path):
            address = str(path).replace(":/", "://", 1)
            raise UserError(f"{address} is a web address; download the file and give its path.") from None
        raise UserError(f"There is no file {path}; check the path.") from None
    except (OSError, ValueError) as error:  # a null character in the path is a ValueError
        raise UserError(f"Cannot read {path}: {getattr(error, 'strerror', error)}.") from None
    if stat.S_ISDIR(info.st_mode):
        raise UserError(f"{path} is a folder; give the path of one file.")
    if not stat.S_ISREG(info.st_mode):
        raise UserError(f"{path} is a device, pipe or socket; give a regular file.")
    if info.st_size > MOST_BYTES:
        raise UserError(_too_large(path, info.st_size))


def read_file(path: Path) -> bytes:
    """The content of a file that :func:`require_file` accepts. Raises UserError if it cannot be read."""
    require_file(path)
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)  # the size of some files, as those of /proc, is not known before
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror}; check its permissions.") from None
    if len(data) > MOST_BYTES:
        raise UserError(_too_large(path, len(data)))
    return data


def read_text(path: Path) -> str:
    """The text of a file in UTF-8, or in UTF-16 with a byte order mark. Raises UserError if it cannot be read."""
    data = read_file(path)
    try:
        return data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{path} is not a text in UTF-8; save it as UTF-8.") from None


def read_json(path: Path) -> Any:
    """The value in a JSON file. Raises UserError if it cannot be read, is not JSON, too long or nested too deeply."""
    return parse_json(read_text(path), path)


def parse_json(text: str, path: Path) -> Any:
    """:func:`read_json` of a text that is known already; ``path`` is what sentences call it."""
    if sum(map(text.count, ",[{")) > MOST_ITEMS:
        raise UserError(f"{path} holds more than {MOST_ITEMS:,} values; give a smaller file.")
    try:
        return json.loads(text)
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON: {error}.") from None
    except RecursionError:
        raise UserError(f"{path} is not a usable JSON file: it is nested too deeply.") from None


def is_address(path: Path) -> bool:
    """Whether what was given as a path is the address of a file on the web."""
    return ADDRESS.match(str(path)) is not None


def _too_large(path: Path, size: int) -> str:
    return f"{path} has {size / 2**20:,.0f} MB; at most {MOST_BYTES // 2**20} MB are read, so give a smaller file."
