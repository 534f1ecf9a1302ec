"""Orbit models: which there are, where they lie, what may be done with them."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import sv3d_pipe
from sv3d_pipe.errors import UserError

if TYPE_CHECKING:
    from sv3d_pipe.orbit.pipeline import StableVideo3DPipeline

WHOLE_FILE_BYTES = 128 * 2**20  # larger files are sampled by identity()
SAMPLE_BYTES = 2**16
SAMPLES = 64


@dataclass(frozen=True)
class Model:
    """One known orbit model."""

    name: str
    about: str
    size: str
    licence: str
    source: str
    available: str


MODELS = (
    Model(
        "mini",
        "small pose-conditioned model trained by this project, for trying the pipeline",
        "64 px RGBA, 21 frames",
        "Apache-2.0",
        "part of img2mesh (checkpoints/mini)",
        "built in",
    ),
    Model(
        "sv3d-u",
        "Stable Video 3D, static orbits without pose",
        "576 px, 21 frames, 9.4 GB",
        "Stability AI's SV3D licence (non-commercial at release)",
        "stabilityai/sv3d on the Hugging Face hub",
        "not downloaded or converted by this edition: give a diffusers folder",
    ),
    Model(
        "sv3d-p",
        "Stable Video 3D, any orbit, conditioned on pose",
        "576 px, 21 frames, 9.4 GB",
        "Stability AI's SV3D licence (non-commercial at release)",
        "stabilityai/sv3d on the Hugging Face hub",
        "not downloaded, converted or run by this edition",
    ),
)


def list_models() -> list[dict[str, str]]:
    """One row per known model: name, about, size, licence, source, available."""
    return [asdict(model) for model in MODELS]


def find_model(name: str) -> Path:
    """The folder of a model: ``mini`` from any working directory, or the path of a diffusers folder.

    Raises:
        UserError: the name is unknown or the folder holds no model.
    """
    if name == "mini":
        return _built_in()
    path = Path(name).expanduser()
    if (path / "model_index.json").is_file():
        return path
    for model in MODELS:
        if model.name == name:
            raise UserError(
                f"{name} is not part of img2mesh ({model.licence}): give the path of its diffusers folder as the model."
            )
    if path.exists():
        raise UserError(f"{name} holds no model_index.json, so it is not a diffusers model folder.")
    raise UserError(
        f"There is no orbit model {name!r}; choose mini or give the path of a diffusers model folder."
    )


def _built_in() -> Path:
    """The copy inside the installed package, else the one beside it in the source tree."""
    package = Path(sv3d_pipe.__file__).parent
    for root in (package, package.parent):
        folder = root / "checkpoints" / "mini"
        if (folder / "model_index.json").is_file():
            return folder
    raise UserError("The built-in model mini is missing from this installation; install img2mesh again.")


@functools.lru_cache(maxsize=1)
def load_pipeline(name: str, device: str) -> StableVideo3DPipeline:
    """The model ready to use on ``device``; the last one asked for is kept.

    Raises:
        UserError: the folder's files are incomplete or of another kind of model.
    """
    from diffusers.utils import is_accelerate_available, logging

    from sv3d_pipe.orbit.pipeline import StableVideo3DPipeline

    folder = find_model(name)
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        pipeline = StableVideo3DPipeline.from_pretrained(
            str(folder),
            local_files_only=True,
            use_safetensors=True,
            low_cpu_mem_usage=is_accelerate_available(),
        )
    except (OSError, ValueError, ImportError, AttributeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"The orbit model in {folder} cannot be loaded: {reason}") from error
    finally:
        if shown:
            logging.enable_progress_bar()
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


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
