"""Orbit models on this machine: found by name or path, identified by content."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from sv3d_pipe.built_in import built_in_folder
from sv3d_pipe.errors import UserError
from sv3d_pipe.orbit.store import cache
from sv3d_pipe.orbit.store.known import MODELS, Model

WHOLE_FILE_BYTES = 128 * 2**20  # larger files are sampled by identity()
SAMPLE_BYTES = 2**16
SAMPLES = 64


def list_models() -> list[dict[str, Any]]:
    """One row per known model: name, about, size, licence, licence_url, source, available, path, bytes.

    ``path`` and ``bytes`` are None for a model that is not on this machine.
    """
    rows = []
    for model in MODELS:
        path = _place(model)
        here = path is not None
        row = {
            key: getattr(model, key) for key in ("name", "about", "size", "licence", "licence_url", "source")
        }
        row["available"] = _availability(model, path)
        rows.append(row | {"path": str(path) if here else None, "bytes": _bytes(path) if here else None})
    return rows


def find_model(name: str) -> Path:
    """The diffusers folder of a model, from any working directory.

    Args:
        name: ``mini``; the path of a diffusers folder or of an original SV3D .safetensors file, which is
            converted into the model cache on first use; ``sv3d-u`` or ``sv3d-p`` once downloaded.
    Raises:
        UserError: the name is unknown, the model is not here, or the file or folder is not such a model.
    """
    if name == "mini":
        return built_in_folder("mini")
    path = Path(os.path.expanduser(name))  # an unknown user's ~ stays as it is
    if cache.is_model(path):
        return path
    if path.is_file():
        return _of_file(path)
    for model in MODELS:
        if model.name == name:
            return _downloaded(model)
    if path.exists():
        raise UserError(f"{name} holds no model_index.json, so it is not a diffusers model folder.")
    if path.suffix == ".safetensors":
        raise UserError(f"There is no file {name}; check the path.")
    raise UserError(
        f"There is no orbit model {name!r}; choose one of {', '.join(model.name for model in MODELS if model.runs)}, "
        "or give the path of a diffusers folder or of an SV3D .safetensors file."
    )


def _of_file(path: Path) -> Path:
    if path.suffix != ".safetensors":
        raise UserError(
            f"{path} is not a .safetensors file; checkpoints of other kinds can run code and are never loaded."
        )
    return cache.file_model(path)


def _downloaded(model: Model) -> Path:
    path = _place(model)
    if not model.runs:
        first = "" if path else f"`img2mesh models download {model.name}`, then "
        raise UserError(
            f"{model.name} paints videos, not orbits; to fine-tune from it, run {first}"
            f"`img2mesh models convert {path or model.file} OUT --start p`, then give OUT as the model."
        )
    if path is None:
        raise UserError(
            f"{model.name} is not here yet: run `img2mesh models download {model.name}`, or give the path of "
            f"{model.file} or of a diffusers folder as the model."
        )
    return path


def _place(model: Model) -> Path | None:
    """Where a known model is on this machine: its folder, or the file of one that does not run."""
    if model.name == "mini":
        return built_in_folder("mini")
    if not model.runs:
        file = cache.cache_folder() / "downloads" / model.file
        return file if file.is_file() else None
    folder = cache.model_folder(model.name)
    return folder if cache.is_model(folder) else None


def _availability(model: Model, path: Path | None) -> str:
    if path is None:
        return f"not here; `img2mesh models download {model.name}`"
    if model.name == "mini":
        return f"built in, {cache.gigabytes(_bytes(path))}"
    dtype = f"{cache.folder_dtype(path)}, " if path.is_dir() else ""
    return f"{path}, {dtype}{cache.gigabytes(_bytes(path))}"


def _bytes(path: Path) -> int:
    return cache.folder_bytes(path) if path.is_dir() else path.stat().st_size


def identity(name: str) -> str:
    """SHA-256 over the names, sizes and contents of a model's settings and weights.

    Of files above 128 MiB 64 evenly spaced blocks stand for the content, so that it stays fast.
    """
    folder = find_model(name)
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.suffix in (".json", ".safetensors")):
        size = path.stat().st_size
        digest.update(f"{path.relative_to(folder).as_posix()}:{size}\n".encode())
        with path.open("rb") as file:
            if size <= WHOLE_FILE_BYTES:
                digest.update(hashlib.sha256(file.read()).digest())
            else:
                for i in range(SAMPLES):
                    file.seek(i * (size - SAMPLE_BYTES) // (SAMPLES - 1))
                    digest.update(file.read(SAMPLE_BYTES))
    return digest.hexdigest()
