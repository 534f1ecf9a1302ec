"""Which pictures a folder holds, and which workspace belongs to which picture or capture."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sv3d_pipe.errors import UserError
from sv3d_pipe.files import file_sha256
from sv3d_pipe.road.workspace import Workspace

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


def kind_of(identity: dict[str, Any]) -> str:
    """Whether an identity or a workspace's run is that of a "photo" or of a "capture"."""
    return "capture" if "capture" in identity else "photo"


def is_same_source(mine: dict[str, str], run: dict[str, Any] | None) -> bool:
    """Whether a workspace's last run was of this photo or capture: the same path, or it moved or was copied."""
    if run is None:
        return True
    kind = kind_of(mine)
    if kind != kind_of(run):
        return False
    same_name = Path(mine[kind]).name == Path(run[kind]).name
    return mine[kind] == run[kind] or (same_name and mine["sha256"] == run["sha256"])


def workspace_for(
    photo: Path, parent: Path, identify: Callable[[Path], dict[str, str]] = photo_identity
) -> Path:
    """The workspace of ``photo`` below ``parent``: ``a``; or, where another photo has that, ``a-jpg``, ``a-jpg-2``.

    The folder is made and reserved, so ``a.png`` and ``a.jpg`` never share one even when both are asked for before
    either is run, by two processes or by one; and a photo finds its own again. The same for captures with their
    ``identify``; one that is given by its transforms file is named after the folder.

    Raises:
        UserError: the photo cannot be read, or no folder can be made.
    """
    mine = identify(photo)
    kind = kind_of(mine)
    named = photo
    if kind == "capture":
        named = photo.resolve().parent if photo.is_file() else photo.resolve()
    stem, suffix = named.stem, named.suffix.lstrip(".").lower() or kind
    names = [stem, f"{stem}-{suffix}"] + [f"{stem}-{suffix}-{i}" for i in range(2, 1000)]
    for name in names:
        workspace = Workspace(parent / name)
        if is_same_source(mine, workspace.source()) and is_same_source(mine, workspace.reserve(mine)):
            return workspace.root
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
