"""OBJ text with its faces' numbers counted from the start, as trimesh takes them."""

from __future__ import annotations

import re
from pathlib import Path

from sv3d_pipe.errors import UserError

RELATIVE = re.compile(rb"^f\b.*[ \t/]-\d", re.MULTILINE)
ZERO = re.compile(rb"^f\b.*[ \t]0+(?:[/ \t\r]|$)", re.MULTILINE)


def absolute(path: Path, data: bytes) -> bytes:
    """The text with relative numbers (-1 is the last vertex so far) made absolute.

    Raises UserError for a face that names vertex 0, which there is not.
    """
    if ZERO.search(data):
        raise UserError(f"The mesh {path} is damaged: OBJ files count vertices from 1, but a face names 0.")
    if not RELATIVE.search(data):
        return data
    counts = {b"v": 0, b"vt": 0, b"vn": 0}
    lines = data.replace(b"\\\n", b" ").split(b"\n")
    for number, line in enumerate(lines):
        words = line.split()
        if words and words[0] in counts:
            counts[words[0]] += 1
        elif words and words[0] == b"f":
            lines[number] = b" ".join([b"f", *(_absolute(corner, counts) for corner in words[1:])])
    return b"\n".join(lines)


def _absolute(corner: bytes, counts: dict[bytes, int]) -> bytes:
    parts = [
        b"%d" % (counts[kind] + 1 + int(part)) if part.startswith(b"-") else part
        for kind, part in zip(counts, corner.split(b"/"))
    ]
    return b"/".join(parts)
