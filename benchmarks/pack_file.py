"""The file of a pack of objects: grouped streams of meshes and pictures, compressed, with a digest.

A file is MAGIC, the SHA-256 of the rest, the length of the header (8 bytes), the header (JSON, xz), the body. Objects
are compressed in groups: what is alike in many meshes goes through xz together, and groups are unpacked side by side.
"""

from __future__ import annotations

import hashlib
import json
import lzma
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from pack_meshes import Told

from sv3d_pipe.errors import UserError

MAGIC = b"img2mesh objects 1\n"
STREAMS = ("steps", "corners", "named", "places", "uv")  # of Told
XZ = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "lc": 0, "lp": 0, "pb": 0}]


@dataclass(frozen=True)
class Grain:
    """How coarse a pack is.

    Attributes:
        position_bits: of a coordinate, over the longest side of the object. uv_bits: of a texture coordinate.
        texture: longest side of pictures in texels. quality: of pictures, up to 100.
    """

    position_bits: int = 13
    uv_bits: int = 12
    texture: int = 320
    quality: int = 85


@dataclass(frozen=True)
class Group:
    """Objects that are compressed together.

    Attributes:
        names: file names without suffix. pictures: each object's picture, by number.
        counts: for each object its triangles, then the length of each stream.
        blobs: offset in the body and length of each compressed stream.
    """

    names: list[str]
    pictures: list[int]
    counts: list[list[int]]
    blobs: list[tuple[int, int]]


@dataclass(frozen=True)
class Pack:
    """What a file holds.

    Attributes:
        grain: how coarse. groups: the objects. pictures: offset in the body and length of each.
        start: offset of the body in the file.
    """

    path: Path
    grain: Grain
    groups: list[Group]
    pictures: list[tuple[int, int]]
    start: int

    def read(self, place: tuple[int, int]) -> bytes:
        """A part of the body."""
        with open(self.path, "rb") as file:
            file.seek(self.start + place[0])
            return file.read(place[1])

    def meshes(self, group: Group) -> list[Told]:
        """The meshes of a group."""
        n_faces, *lengths = np.array(group.counts).T
        columns = []
        for kind, blob, counts in zip(STREAMS, group.blobs, lengths):
            values = _from_bytes(kind, lzma.decompress(self.read(blob)))
            columns.append(np.split(values, np.cumsum(counts)[:-1]))
        return [Told(*streams, int(count)) for *streams, count in zip(*columns, n_faces)]


def compress(meshes: list[Told]) -> tuple[list[list[int]], list[bytes]]:
    """The counts of a group's objects (see :class:`Group`) and its streams."""
    streams = [[getattr(mesh, kind) for mesh in meshes] for kind in STREAMS]
    counts = [[mesh.n_faces, *(len(stream[i]) for stream in streams)] for i, mesh in enumerate(meshes)]
    joined = [_to_bytes(np.concatenate(stream)) for stream in streams]
    return counts, [lzma.compress(stream, lzma.FORMAT_XZ, filters=XZ) for stream in joined]


def _to_bytes(values: np.ndarray) -> bytes:
    """Small differences [N] or [N, C] int32 as bytes, by column and then by significance; symbols stay as they are."""
    if values.dtype == np.uint8:
        return values.tobytes()
    rows = values if values.ndim == 2 else values[:, None]
    folded = ((rows << 1) ^ (rows >> 31)).astype("<u4")  # the sign is in the last bit
    return folded.view(np.uint8).T.tobytes()


def _from_bytes(kind: str, stream: bytes) -> np.ndarray:
    """The inverse of _to_bytes."""
    if kind in ("steps", "corners"):
        return np.frombuffer(stream, np.uint8)
    columns = {"named": 1, "places": 3, "uv": 2}[kind]
    significant = np.frombuffer(stream, np.uint8).reshape(4 * columns, -1)
    folded = np.ascontiguousarray(significant.T).view("<u4")
    values = (folded >> 1).astype(np.int32) ^ -(folded & 1).astype(np.int32)
    return values[:, 0] if kind == "named" else values


def write_pack(
    path: Path,
    grain: Grain,
    groups: list[tuple[list[str], list[int], list, list[bytes]]],
    pictures: list[bytes],
) -> dict[str, int]:
    """Write a file. Groups are names, pictures, counts and streams as of :class:`Group`; returns the bytes by kind."""
    parts: list[bytes] = []

    def placed(part: bytes) -> tuple[int, int]:
        parts.append(part)
        return sum(map(len, parts)) - len(part), len(part)

    found = [
        Group(names, numbers, counts, [placed(s) for s in streams])
        for names, numbers, counts, streams in groups
    ]
    document = {
        "grain": asdict(grain),
        "groups": [asdict(g) for g in found],
        "pictures": [placed(p) for p in pictures],
    }
    header = lzma.compress(json.dumps(document, separators=(",", ":")).encode())
    rest = b"".join([len(header).to_bytes(8, "little"), header, *parts])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(MAGIC + hashlib.sha256(rest).digest() + rest)
    sizes = {kind: sum(group.blobs[i][1] for group in found) for i, kind in enumerate(STREAMS)}
    return sizes | {"pictures": sum(map(len, pictures)), "header": len(header)}


def read_pack(path: Path) -> Pack:
    """Open a file. Raises UserError if it is missing, something else, or damaged."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise UserError(
            f"There is no {path}; make it with `python benchmarks/pack_objects.py pack`."
        ) from None
    if not content.startswith(MAGIC):
        raise UserError(f"{path} is not a pack of objects of this version; pack the objects again.")
    digest, rest = content[len(MAGIC) :][:32], content[len(MAGIC) + 32 :]
    if hashlib.sha256(rest).digest() != digest:
        raise UserError(f"{path} is damaged; copy it again, or pack the objects again.")
    length = int.from_bytes(rest[:8], "little")
    document = json.loads(lzma.decompress(rest[8 : 8 + length]))
    groups = [Group(**group) for group in document["groups"]]
    return Pack(
        path, Grain(**document["grain"]), groups, document["pictures"], len(content) - len(rest) + 8 + length
    )
