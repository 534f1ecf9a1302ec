"""Orbit models on this machine: found by name or path, identified by content, loaded."""

from __future__ import annotations

import functools
import hashlib
import json
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sv3d_pipe
from sv3d_pipe.errors import UserError
from sv3d_pipe.orbit.store import cache
from sv3d_pipe.orbit.store.known import MODELS, Model

if TYPE_CHECKING:
    from sv3d_pipe.orbit.sv3d.diffusion_pipeline import StableVideo3DPipeline

WHOLE_FILE_BYTES = 128 * 2**20  # larger files are sampled by identity()
SAMPLE_BYTES = 2**16
SAMPLES = 64
SVD_WIDTH = 768  # SVD's UNet takes three numbers of 256: fps, motion, noise on the photo


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
        UserError: the name is unknown, the model is not here, or the file or folder is no such model.
    """
    if name == "mini":
        return _built_in()
    path = Path(name).expanduser()
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
            f"{model.name} paints videos, not orbits; to make a start for fine-tuning of it run {first}"
            f"`img2mesh models convert {path or model.file} OUT --start p`, and give OUT as the model."
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
        return _built_in()
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


def _built_in() -> Path:
    """The copy inside the installed package, else the one beside it in the source tree."""
    package = Path(sv3d_pipe.__file__).parent
    for root in (package, package.parent):
        folder = root / "checkpoints" / "mini"
        if (folder / "model_index.json").is_file():
            return folder
    raise UserError("The built-in model mini is missing from this installation; install img2mesh again.")


@functools.lru_cache(maxsize=1)
def load_pipeline(name: str, device: str, dtype: str = "float32") -> StableVideo3DPipeline:
    """The model ready to use on ``device``; the last one asked for is kept.

    Args:
        name: as :func:`find_model` takes it.
        dtype: float32, float16 or bfloat16, of the UNet and the image encoder of a model with a VAE.
            The VAE itself, and models without one (mini), are always in float32.
    Raises:
        UserError: the folder's files are incomplete or of another kind of model.
    """
    import torch
    from diffusers.utils import is_accelerate_available
    from safetensors import SafetensorError

    from sv3d_pipe.orbit.sv3d.diffusion_pipeline import StableVideo3DPipeline

    folder = find_model(name)
    _check_kind(folder)
    types = {"vae": torch.float32, "default": getattr(torch, dtype)} if _has_vae(folder) else None
    try:
        with _quiet(with_transformers=_has_vae(folder)):
            pipeline = StableVideo3DPipeline.from_pretrained(
                str(folder),
                local_files_only=True,
                use_safetensors=True,
                low_cpu_mem_usage=is_accelerate_available(),
                torch_dtype=types,  # the name known to every diffusers since 0.35
            )
    except (OSError, ValueError, ImportError, AttributeError, RuntimeError, SafetensorError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"The orbit model in {folder} cannot be loaded: {reason}") from error
    _check_weights(pipeline, folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


@contextmanager
def _quiet(with_transformers: bool):
    """Without the libraries' progress bars, warnings and logs; what matters comes as an exception."""
    from diffusers.utils import logging

    libraries = [logging]
    if with_transformers:
        from transformers.utils import logging as transformers_logging

        libraries.append(transformers_logging)
    before = [(library.get_verbosity(), library.is_progress_bar_enabled()) for library in libraries]
    for library in libraries:
        library.set_verbosity(library.CRITICAL)
        library.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for library, (verbosity, bars) in zip(libraries, before):
            library.set_verbosity(verbosity)
            if bars:
                library.enable_progress_bar()


def _check_weights(pipeline: StableVideo3DPipeline, folder: Path) -> None:
    """Raise UserError if a network has parameters that its files lack; the libraries would invent them."""
    for name, network in pipeline.components.items():
        files = list((folder / name).glob("*.safetensors"))
        if files and hasattr(network, "state_dict"):
            there = {key for path in files for key in cache.safetensors_header(path)}
            missing = sorted(set(network.state_dict()) - there)
            if missing:
                raise UserError(
                    f"The orbit model in {folder} cannot be loaded: {len(missing)} weights of its {name} are "
                    f"missing, first {missing[0]}; delete it and get the model again."
                )


def _check_kind(folder: Path) -> None:
    """Raise UserError for diffusers folders of other kinds of models."""
    kind = _settings(folder / "model_index.json").get("_class_name")
    vae = _settings(folder / "vae" / "config.json").get("_class_name")
    width = _settings(folder / "unet" / "config.json").get("projection_class_embeddings_input_dim")
    if vae == "AutoencoderKLTemporalDecoder" or width == SVD_WIDTH:
        raise UserError(
            f"{folder} is a Stable Video Diffusion model, which paints videos, not orbits; make a start for "
            "fine-tuning of its single file with `img2mesh models convert svd_xt.safetensors OUT --start p`."
        )
    if kind is None:
        raise UserError(
            f"{folder / 'model_index.json'} is damaged; delete the folder and get the model again."
        )
    if kind != "StableVideo3DPipeline":
        raise UserError(
            f"{folder} holds a {kind}, not the StableVideo3DPipeline of an orbit model; "
            "if it was made from SV3D, give the original .safetensors file instead."
        )


def _has_vae(folder: Path) -> bool:
    return _settings(folder / "vae" / "config.json").get("_class_name") == "AutoencoderKL"


def _settings(path: Path) -> dict[str, Any]:
    """A JSON file of settings; empty if it is missing or unreadable."""
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return {}


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
