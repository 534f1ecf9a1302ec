"""Read the ``transforms.json`` of nerfstudio, instant-ngp and the NeRF synthetic scenes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sv3d_pipe.errors import UserError
from sv3d_pipe.files import file_sha256
from sv3d_pipe.inputs import read_json, require_file
from sv3d_pipe.road.sources import SourceKind

FILES = ("transforms.json", "transforms_train.json")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".PNG", ".JPG", ".JPEG")  # tried for a file_path without one
FEWEST, MOST = 3, 300
FARTHEST = 1e9  # units of the capture; cameras further away are none


@dataclass(frozen=True)
class Frame:
    """One entry of the list of frames.

    Attributes:
        image: an existing picture file.
        mask: an existing mask file, or None.
        c2w: [4, 4] float64 camera-to-world, OpenGL axes, in the capture's coordinates.
        optics: the document's fields with the frame's own on top; :func:`~sv3d_pipe.capture.lens.read_lens`
            reads the intrinsics from them.
    """

    image: Path
    mask: Path | None
    c2w: np.ndarray
    optics: dict[str, Any]


def is_capture(path: Path) -> bool:
    """Whether a path is a ``transforms.json`` or a folder that holds one."""
    return path.suffix.lower() == ".json" or any((path / name).is_file() for name in FILES)


def find_transforms(path: Path) -> Path:
    """The transforms file of a capture: the file itself, or the one in the folder.

    Raises UserError if there is none.
    """
    if path.suffix.lower() == ".json" and path.is_file():
        return path
    for name in FILES:
        if (path / name).is_file():
            return path / name
    if not path.exists():
        raise UserError(f"There is no file or folder {path}; check the path.")
    raise UserError(f"{path} is not a capture: it holds no transforms.json.")


def read_frames(path: Path) -> list[Frame]:
    """The frames of a capture, in the file's order.

    Args:
        path: the folder or the file. ``applied_transform`` is left alone, as in nerfstudio: it tells how the
            poses came about and is contained in them.
    Raises:
        UserError: the file is not understood, or pictures are missing; one sentence.
    """
    file = find_transforms(path)
    document = _read_json(file)
    entries = document.get("frames")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise UserError(f'{file} has no list "frames"; give a transforms.json of nerfstudio or instant-ngp.')
    if len(entries) < FEWEST:
        raise UserError(f"{file} has {len(entries)} frames; at least {FEWEST} are needed.")
    shared = {key: value for key, value in document.items() if key != "frames"}
    frames, missing = [], []
    for entry in entries:
        image = _find(file, entry, "file_path", missing)
        mask = _find(file, entry, "mask_path", missing) if entry.get("mask_path") else None
        frames.append(Frame(image, mask, _pose(file, entry), shared | entry))
    if missing:
        raise UserError(f"{len(missing)} files named in {file} are missing; the first is {missing[0]}.")
    return frames


def capture_sha256(path: Path) -> str:
    """Hash of a capture's transforms and of all pictures that they name. Raises UserError if one is missing."""
    file = find_transforms(path)
    frames = read_frames(path)
    parts = [file_sha256(file)]
    for frame in frames:
        parts += [file_sha256(part) for part in (frame.image, frame.mask) if part is not None]
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()


def capture_folder(path: Path) -> Path:
    """The folder of a capture, given as that folder or as its transforms file."""
    return path.resolve().parent if path.is_file() else path.resolve()


CAPTURE = SourceKind("capture", capture_sha256, capture_folder)


def _read_json(file: Path) -> dict[str, Any]:
    document = read_json(file)
    if not isinstance(document, dict):
        raise UserError(f"{file} is not a transforms.json: it holds no JSON object.")
    return document


def _find(file: Path, entry: dict, key: str, missing: list[Path]) -> Path:
    """The file that a frame names, relative to the transforms; those not found are added to ``missing``."""
    name = entry.get(key)
    if not isinstance(name, str) or not name:
        raise UserError(f"A frame of {file} has no {key}.")
    named = file.parent / name.replace("\\", "/")
    try:
        for path in (named, *(named.with_name(named.name + suffix) for suffix in SUFFIXES)):
            if path.is_file():
                require_file(path)
                return path
        if named.exists() and not named.is_dir():
            require_file(named)
    except (OSError, ValueError):  # a name that no file can have
        pass
    missing.append(named)
    return named


def _pose(file: Path, entry: dict) -> np.ndarray:
    """The frame's camera-to-world matrix, a uniform scale taken out of its axes."""
    name = entry.get("file_path")
    try:
        matrix = np.array(entry["transform_matrix"], np.float64)
    except (KeyError, ValueError, TypeError, ArithmeticError, RecursionError):
        matrix = np.zeros(0)
    if matrix.shape not in ((4, 4), (3, 4)) or not np.isfinite(matrix).all():
        raise UserError(f"transform_matrix of {name} in {file} must be 4 x 4 numbers.")
    if np.abs(matrix).max() > FARTHEST:
        raise UserError(
            f"transform_matrix of {name} in {file} holds numbers above {FARTHEST:g}; check its units."
        )
    c2w = np.eye(4)
    c2w[:3] = matrix[:3]
    axes = c2w[:3, :3]
    scale = np.cbrt(np.linalg.det(axes))
    if scale < 1e-9 or not np.allclose(axes.T @ axes, scale**2 * np.eye(3), atol=0.01 * scale**2):
        raise UserError(
            f"transform_matrix of {name} in {file} is not a camera-to-world matrix: its axes must be perpendicular "
            "and right-handed."
        )
    u, _, vt = np.linalg.svd(axes)
    c2w[:3, :3] = u @ vt
    return c2w
