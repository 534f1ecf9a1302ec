"""What a route starts from, which workspace belongs to it, and which pictures a folder holds."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sv3d_pipe.errors import UserError
from sv3d_pipe.files import file_sha256
from sv3d_pipe.inputs import require_file
from sv3d_pipe.picture_kinds import FOREIGN, SUFFIXES
from sv3d_pipe.road.workspace import FOLDERS, Workspace

MOST_NAMED = 5  # of the files that a folder holds in vain
NOT_FOR_WORKSPACES = (
    *FOLDERS.values(),
    "run.json",
    "batch.json",
    "error.log",
)  # what else lies beside or above them


@dataclass(frozen=True)
class SourceKind:
    """A kind of thing that a route starts from.

    Attributes:
        word: "photo", "capture": what sentences call it, and its path's name in ``run.json``.
        sha256: path -> hash of all that belongs to it; raises UserError if it cannot be read.
        named_after: path -> the path that its workspace is named after.
    """

    word: str
    sha256: Callable[[Path], str]
    named_after: Callable[[Path], Path] = lambda path: path

    def identity(self, path: Path) -> dict[str, str]:
        """Absolute path, under the word, and ``sha256``. Raises UserError if it cannot be read."""
        sha256 = self.sha256(path)  # which says what is wrong with the path
        return {self.word: str(path.resolve()), "sha256": sha256}


def content_sha256(path: Path) -> str:
    """SHA-256 of a file. Raises UserError if it is no regular one, too large, or cannot be read."""
    require_file(path)
    try:
        return file_sha256(path)
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror}.") from None


PHOTO = SourceKind("photo", content_sha256)


def word_of(identity: dict[str, Any]) -> str:
    """The word of the kind that an identity, or a workspace's run, is of."""
    return next(key for key in identity if key not in ("sha256", "seed", "config"))


def is_same_source(mine: dict[str, str], run: dict[str, Any] | None) -> bool:
    """Whether a workspace's last run was of this source: the same path, or it moved or was copied."""
    if run is None:
        return True
    word = word_of(mine)
    if word not in run:
        return False
    same_name = Path(mine[word]).name == Path(run[word]).name
    return mine[word] == run[word] or (same_name and mine["sha256"] == run["sha256"])


def begun(root: Path) -> dict[str, Any] | None:
    """The last run of a workspace; None if the folder is none. Raises UserError if it cannot be read."""
    run = Workspace(root).read_run()
    if run is None and (root / "run.json").exists():
        raise UserError(
            f"{root / 'run.json'} is damaged; name the photo or capture again, with -o {root}: "
            "what is finished is kept."
        )
    return run


def workspace_for(source: Path, parent: Path, kind: SourceKind = PHOTO) -> Path:
    """The workspace of a photo or another source below ``parent``: ``a``; or, where another photo has that, ``a-jpg``, ``a-jpg-2``.

    The folder is made and reserved, so ``a.png`` and ``a.jpg`` never share one even when both are asked for before
    either is run, by two processes or by one; and a photo finds its own again.

    Raises:
        UserError: the source cannot be read, or no folder can be made.
    """
    mine, named = kind.identity(source), kind.named_after(source)
    stem, suffix = named.stem, named.suffix.lstrip(".").lower() or kind.word
    first = [] if stem in NOT_FOR_WORKSPACES else [stem]
    names = [*first, f"{stem}-{suffix}"] + [f"{stem}-{suffix}-{i}" for i in range(2, 1000)]
    for name in names:
        workspace = Workspace(parent / name)
        if is_same_source(mine, workspace.source() or workspace.reserve(mine)):
            return workspace.root
    raise UserError(f"{parent} holds too many workspaces named {stem}; choose another folder with -o.")


def images_below(
    folder: Path, out: Path, exclude: tuple[str, ...] = (), warn: Callable[[str], None] | None = None
) -> list[Path]:
    """All pictures below ``folder``, sorted, without those below ``out``, in workspaces or hidden.

    Args:
        exclude: patterns of file names to leave out, e.g. ``*.matte.png``.
        warn: is told how many pictures of other kinds, links to folders, folders that cannot be read, and pictures
            that are no regular files were left out, and the first ones' names.
    """
    found: list[Path] = []
    left_out: list[str] = []
    unread: list[OSError] = []
    for parent, folders, files in os.walk(folder, onerror=unread.append):
        here = Path(parent)
        folders[:] = [
            name
            for name in folders
            if not name.startswith(".")
            and (here / name).resolve() != out.resolve()
            and not (here / name / "run.json").exists()
        ]
        left_out += [f"{here.relative_to(folder) / name}/" for name in folders if (here / name).is_symlink()]
        for name in files:
            path = here / name
            if name.startswith(".") or any(path.match(pattern) for pattern in exclude):
                continue
            suffix = path.suffix.lower()
            if suffix in SUFFIXES and (path.is_file() or not path.exists()):
                found.append(path)
            elif suffix in SUFFIXES or suffix in FOREIGN:
                left_out.append(str(path.relative_to(folder)))
    left_out += [f"{os.path.relpath(error.filename, folder)}/" for error in unread]
    if left_out and warn is not None:
        named = ", ".join(sorted(left_out)[:MOST_NAMED]) + (", ..." if len(left_out) > MOST_NAMED else "")
        warn(
            f"{len(left_out)} left out in {folder} (pictures of a kind that is not read, links to folders, folders "
            f"without permission, pipes): {named}"
        )
    return sorted(found)
