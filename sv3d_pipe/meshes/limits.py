"""How much a mesh file holds, told from its header and its lines before anything is read."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

from sv3d_pipe.errors import UserError
from sv3d_pipe.inputs import MOST_FACES

MOST_PARTS = 20_000  # nodes that place a mesh times its primitives, or materials, or solids
MOST_TEXT = 100 * 2**20  # bytes of a mesh written as text: its words take ten times as much memory
BYTES = {
    "char": 1, "uchar": 1, "short": 2, "ushort": 2, "int": 4, "uint": 4, "float": 4, "double": 8, "int8": 1, "uint8": 1,
    "int16": 2, "uint16": 2, "int32": 4, "uint32": 4, "float32": 4, "float64": 8,
}  # fmt: skip


def require_few(path: Path, kind: str, data: bytes) -> None:
    """Raise UserError if a mesh file has too many triangles, vertices or parts, or too much text.

    Args:
        kind: its suffix; glTF files are counted by :class:`sv3d_pipe.meshes.gltf.Gltf`.
    """
    COUNTS.get(kind, _count_text)(path, data)


def too_many(path: Path) -> str:
    return (
        f"{path} has more than {MOST_FACES:,} triangles, which is the most that is read; simplify the mesh."
    )


def _require(path: Path, faces: int, vertices: int = 0, parts: int = 0) -> None:
    if faces > MOST_FACES:
        raise UserError(too_many(path))
    if vertices > 3 * MOST_FACES:
        raise UserError(f"{path} has more than {3 * MOST_FACES:,} vertices; simplify the mesh.")
    if parts > MOST_PARTS:
        raise UserError(f"{path} has more than {MOST_PARTS:,} parts; join them.")


def _count_text(path: Path, data: bytes, lines: int | None = None) -> None:
    """Raise UserError if a mesh written as text is too large, or has more than ``lines`` lines."""
    if len(data) > MOST_TEXT:
        size = len(data) // 2**20
        raise UserError(
            f"{path} has {size} MB of text; at most {MOST_TEXT // 2**20} MB are read: save it as binary."
        )
    if b"<!ENTITY" in data:
        raise UserError(f"{path} defines entities of its own, which are not read; export the mesh again.")
    if lines is not None and data.count(b"\n") + data.count(b"\r") > 2 * lines + 1000:
        raise UserError(f"{path} is damaged: it has more lines than it promises; export the mesh again.")


def _count_obj(path: Path, data: bytes) -> None:
    _count_text(path, data)
    faces = 0
    for line in re.finditer(rb"^f\b.*$", data.replace(b"\\\n", b" "), re.MULTILINE):
        faces += max(0, line[0].count(b" ") + line[0].count(b"\t") - 2)
        if faces > MOST_FACES:
            raise UserError(too_many(path))
    materials = {name[0] for name in re.finditer(rb"^usemtl.*$", data, re.MULTILINE)}
    _require(path, faces, data.count(b"\nv"), len(materials))


def _count_ply(path: Path, data: bytes) -> None:
    end = data.find(b"end_header", 0, 2**20)
    lines = data[:end].decode("ascii", "replace").splitlines() if end >= 0 else []
    counts: dict[str, int] = {}
    kinds: dict[str, list[list[str]]] = {}  # of the properties of each element
    for words in map(str.split, lines):
        if len(words) == 3 and "element" in words[0] and words[2].isdecimal() and len(words[2]) < 20:
            counts[words[1]], kinds[words[1]] = int(words[2]), []
        elif words[:1] == ["property"] and kinds:
            kinds[next(reversed(kinds))].append(words[1:-1])
    _require(path, counts.get("face", 0), max(counts.values(), default=0))
    if not any("binary" in line for line in lines[1:2]):
        _count_text(path, data, sum(counts.values()) + len(lines))
    else:
        start = data.find(b"\n", end) + 1
        _require(path, counts.get("face", 0) * _corners(data, start, counts, kinds, "big" in lines[1]))


def _corners(
    data: bytes, start: int, counts: dict[str, int], kinds: dict[str, list[list[str]]], big: bool
) -> int:
    """The corners of a binary PLY file's first face less 2: trimesh expects as many of all its faces.

    1 where it cannot be told, as in files that hold anything but numbers before the faces.
    """
    for name, properties in kinds.items():
        for kind in properties:
            if name == "face" and kind[0] == "list":
                width = BYTES.get(kind[1], 1)
                return int.from_bytes(data[start : start + width], "big" if big else "little") - 2
            if kind[0] not in BYTES:
                return 1
            start += BYTES[kind[0]] * (counts[name] if name != "face" else 1)
    return 1


def _count_stl(path: Path, data: bytes) -> None:
    faces = int.from_bytes(data[80:84], "little")
    if len(data) == 84 + 50 * faces:
        _require(path, faces)
    else:
        _count_text(path, data)
        _require(path, data.count(b"vertex") // 3, 0, data.count(b"endsolid"))


def _count_off(path: Path, data: bytes) -> None:
    words = re.sub(rb"#[^\n]*", b"", data[: 2**16]).replace(b"OFF", b"OFF ").split()[1:3]
    vertices, faces = (
        int(word) if word.isdigit() and len(word) < 20 else 0 for word in [*words, b"", b""][:2]
    )
    _require(path, faces, vertices)
    _count_text(path, data, vertices + faces)


def _count_3mf(path: Path, data: bytes) -> None:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        size = sum(entry.file_size for entry in archive.infolist())
        if size > MOST_TEXT:
            raise UserError(
                f"{path} unpacks to {size // 2**20:,} MB; at most {MOST_TEXT // 2**20} MB are read."
            )


COUNTS: dict[str, Callable[[Path, bytes], None]] = {
    ".obj": _count_obj, ".ply": _count_ply, ".stl": _count_stl, ".off": _count_off, ".3mf": _count_3mf,
}  # fmt: skip
