"""The store's own JSON files: written with their format and a checksum, believed only if they have both."""

from __future__ import annotations

import json
import platform
import typing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypedDict

import sv3d_pipe
from sv3d_pipe.config import stable_hash
from sv3d_pipe.files import file_sha256

FORMAT = 2  # raise it when the shape of a file changes; 1 had neither format nor checksum


class Unusable(Exception):
    """A file that cannot be believed. The message is what it is: missing, damaged, from another version."""


MISSING, DAMAGED, FOREIGN = "missing", "damaged", "from another version of img2mesh"


class FileEntry(TypedDict):
    """One file of a stage: its size in bytes, and the SHA-256 of its content in hex."""

    size: int
    sha256: str


@dataclass(frozen=True)
class StageRecord:
    """What ``stage.json`` says about a finished stage.

    Attributes:
        key: hash of everything the stage's result depends on.
        upstream: fingerprints of the stages whose artifacts it took.
        seconds: wall time. peak_memory_mb: largest resident (or CUDA) memory in MiB.
        metrics: plain JSON values; the first is the one the stage is judged by.
        files: relative path -> size and hash.
    """

    stage: str
    version: int
    key: str
    upstream: dict[str, str]
    config: dict[str, Any]
    seed: int
    device: str
    versions: dict[str, str]
    seconds: float
    peak_memory_mb: float
    metrics: dict[str, Any]
    warnings: list[str]
    files: dict[str, FileEntry] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """Hash of the key and of every file: what depends on a stage depends on what it really left."""
        return stable_hash([self.key, self.files])

    def text(self) -> str:
        """The content of ``stage.json``."""
        return sealed(asdict(self))

    @classmethod
    def read(cls, path: Path) -> StageRecord:
        """Raises Unusable."""
        values = unsealed(path)
        if not _fits_all(values, typing.get_type_hints(cls)):
            raise Unusable(DAMAGED)
        return cls(**values)


def read_run(path: Path) -> dict[str, Any]:
    """What ``run.json`` says of the last run: its source's path under its kind's word, sha256, seed, config.

    The first format is read, too. Raises Unusable.
    """
    values = unsealed(path, first_format=True)
    known = {"sha256": str, "seed": int, "config": dict[str, Any]}
    return _of_source(values, known)


def read_source(path: Path) -> dict[str, Any]:
    """What a workspace is reserved for: a source's path under its kind's word, and sha256. Raises Unusable."""
    return _of_source(unsealed(path, first_format=True), {"sha256": str})


def sealed(values: dict[str, Any]) -> str:
    """JSON text of the values, their format and their checksum."""
    values = {"format": FORMAT, **values}
    return json.dumps(values | {"checksum": stable_hash(values)}, indent=1) + "\n"


def unsealed(path: Path, first_format: bool = False) -> dict[str, Any]:
    """The values of a file that :func:`sealed` made.

    Args:
        first_format: whether those without format and checksum are taken.
    Raises:
        Unusable: it is missing or damaged, or has another format.
    """
    if not path.is_file():
        raise Unusable(MISSING)
    try:
        values = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        raise Unusable(DAMAGED) from None
    if not isinstance(values, dict):
        raise Unusable(DAMAGED)
    if "format" not in values and "checksum" not in values:
        if first_format:
            return values
        raise Unusable(FOREIGN)
    if values.pop("checksum", None) != stable_hash(values):
        raise Unusable(DAMAGED)
    if values.pop("format", None) != FORMAT:
        raise Unusable(FOREIGN)
    return values


def _of_source(values: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
    words = [name for name in values if name not in known]
    if len(words) != 1 or not _fits_all(values, known | {words[0]: str}):
        raise Unusable(DAMAGED)
    return values


def _fits_all(values: dict[str, Any], kinds: dict[str, Any]) -> bool:
    return values.keys() == kinds.keys() and all(_fits(values[name], kind) for name, kind in kinds.items())


def _fits(value: Any, kind: Any) -> bool:
    """Whether a value read from JSON is of a type as annotations give it."""
    of = typing.get_args(kind)
    if kind is Any:
        return True
    if typing.is_typeddict(kind):
        return isinstance(value, dict) and _fits_all(value, typing.get_type_hints(kind))
    if typing.get_origin(kind) is dict:
        return isinstance(value, dict) and all(_fits(item, of[1]) for item in value.values())
    if typing.get_origin(kind) is list:
        return isinstance(value, list) and all(_fits(item, of[0]) for item in value)
    kinds = (int, float) if kind is float else kind
    return isinstance(value, kinds) and not isinstance(value, bool)


def entries(folder: Path) -> dict[str, FileEntry]:
    """The files below a folder, by their paths in it."""
    return {
        path.relative_to(folder).as_posix(): {"size": path.stat().st_size, "sha256": file_sha256(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def versions() -> dict[str, str]:
    """Versions of the programs that numbers may depend on."""
    from importlib import metadata

    found = {"python": platform.python_version(), "img2mesh": sv3d_pipe.__version__}
    for package in ("torch", "numpy", "numba", "diffusers"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
