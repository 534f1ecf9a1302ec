"""The chunks of a GLB file, and texture coordinates moved as glTF's extension KHR_texture_transform says."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np

from sv3d_pipe.errors import UserError

MAGIC, JSON_CHUNK, BINARY_CHUNK = b"glTF", 0x4E4F534A, 0x004E4942


def chunks(path: Path, data: memoryview) -> tuple[str, memoryview]:
    """The JSON text and the binary buffer of a GLB file; the text and nothing of a glTF file.

    Raises UserError if it is cut short or no text.
    """
    text, binary, start = None, data[:0], 12
    if data[:4] != MAGIC:
        text, start = data, len(data)
    while start + 8 <= len(data):
        length, kind = struct.unpack_from("<II", data, start)
        chunk = data[start + 8 : start + 8 + length]
        if len(chunk) < length:
            raise UserError(f"{path} is cut short; save or download it again.")
        if kind == JSON_CHUNK and text is None:
            text = chunk
        elif kind == BINARY_CHUNK and not len(binary):
            binary = chunk
        start += 8 + length
    try:
        document = str(text or b"", "utf-8-sig")
    except UnicodeDecodeError:
        document = ""
    if not document.lstrip().startswith(("{", "[")):
        raise UserError(f"Cannot read the mesh {path}: it is not a glTF file; check what it is.")
    return document, binary


def transformed(uv: np.ndarray, moved: dict[str, Any]) -> np.ndarray:
    """Texture coordinates [V, 2], v down, moved as KHR_texture_transform says: scaled, turned, shifted."""
    angle = float(moved.get("rotation", 0))
    cosine, sine = np.cos(angle), np.sin(angle)
    u, v = (uv * np.array(moved.get("scale", (1, 1)), np.float64)).T
    turned = np.stack([cosine * u + sine * v, cosine * v - sine * u], -1)
    return (turned + np.array(moved.get("offset", (0, 0)), np.float64)).astype("<f4")
