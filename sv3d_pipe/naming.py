"""Which pictures a folder holds, and which workspace belongs to which picture."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from sv3d_pipe.errors import UserError
from sv3d_pipe.workspace import Workspace, file_sha256

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif")


def photo_identity(photo: Path) -> dict[str, str]:
    """Absolute path and SHA-256 of a photo. Raises UserError if it cannot be read."""
    try:
        return {"photo": str(photo.resolve()), "sha256": file_sha256(photo)}
    except FileNotFoundError:
        raise UserError(f"There is no file {photo}; check the path.") from None
    except IsADirectoryError:
        raise UserError(f"{photo} is a folder; give the path of one picture.") from None
    except OSError as error:
        raise UserError(f"Cannot read {photo}: {error.strerror}.") from None


def is_same_photo(mine: dict[str, str], run: dict[str, Any] | None) -> bool:
    """Whether a workspace's last run was of this photo: the same path, or the file moved or copied."""
    if run is None:
        return True
    same_name = Path(mine["photo"]).name == Path(run["photo"]).name
    return mine["photo"] == run["photo"] or (same_name and mine["sha256"] == run["sha256"])


def workspace_for(photo: Path, parent: Path) -> Path:
    """The workspace of ``photo`` below ``parent``: ``a``; or, where another photo has that, ``a-jpg``, ``a-jpg-2``.

    ``a.png`` and ``a.jpg`` therefore never share a workspace, and a photo finds its own again.
    """
    mine = photo_identity(photo)
    stem, suffix = photo.stem, photo.suffix.lstrip(".").lower() or "photo"
    names = [stem, f"{stem}-{suffix}"] + [f"{stem}-{suffix}-{i}" for i in range(2, 1000)]
    for name in names:
        if is_same_photo(mine, Workspace(parent / name).read_run()):
            return parent / name
    raise UserError(f"{parent} holds too many workspaces named {stem}; choose another folder with -o.")


def images_below(folder: Path, out: Path, exclude: tuple[str, ...] = ()) -> list[Path]:
    """All pictures below ``folder``, sorted, without those below ``out``, in workspaces or hidden.

    Args:
        exclude: patterns of file names to leave out, e.g. ``*.matte.png``.
    """
    found = []
    for parent, folders, files in os.walk(folder):
        here = Path(parent)
        folders[:] = [
            name
            for name in folders
            if not name.startswith(".")
            and (here / name).resolve() != out.resolve()
            and not (here / name / "run.json").exists()
        ]
        for name in files:
            path = here / name
            hidden = name.startswith(".") or any(path.match(pattern) for pattern in exclude)
            if path.suffix.lower() in IMAGE_SUFFIXES and not hidden:
                found.append(path)
    return sorted(found)
