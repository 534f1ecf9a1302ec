"""Orbit models from their folders into memory, checked, as the orbit stage wants them."""

from __future__ import annotations

import functools
import json
import threading
import warnings
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers.utils import is_accelerate_available, logging
from safetensors import SafetensorError

from sv3d_pipe.config import OrbitConfig
from sv3d_pipe.device import network_dtype
from sv3d_pipe.errors import UserError
from sv3d_pipe.orbit.denoising_pipeline import OrbitPipeline
from sv3d_pipe.orbit.mini.mini_painter import MiniPainter
from sv3d_pipe.orbit.mini.pixel_pipeline import MiniPipeline
from sv3d_pipe.orbit.model import OrbitModel
from sv3d_pipe.orbit.store import cache
from sv3d_pipe.orbit.store.find import find_model, identity
from sv3d_pipe.orbit.sv3d.diffusion_pipeline import StableVideo3DPipeline
from sv3d_pipe.orbit.sv3d.sv3d_painter import SV3DPainter, channels_last

SVD_WIDTH = 768  # SVD's UNet takes three numbers of 256: fps, motion, noise on the photo
PAINTERS = {StableVideo3DPipeline: SV3DPainter, MiniPipeline: MiniPainter}
LOADING = threading.Lock()


def load_model(config: OrbitConfig, device: str) -> OrbitModel:
    """The model of the settings, in the number format and layout of the device.

    Its weights wait on the CPU; a plan brings them to the device. Threads that ask for one model share its
    networks and wait for each other to paint.
    """
    with LOADING:
        pipeline = load_pipeline(config.model, "cpu", network_dtype(config.dtype, device))
        if device.startswith("cuda") and not pipeline.paints_alpha:
            channels_last(pipeline.unet)
        if config.compile and pipeline.unet._compiled_call_impl is None:
            pipeline.unet.compile()
    return PAINTERS[type(pipeline)](pipeline, config.model, partial(identity, config.model))


@functools.lru_cache(maxsize=1)
def load_pipeline(name: str, device: str, dtype: str = "float32") -> OrbitPipeline:
    """The model ready to use on ``device``; the last one asked for is kept.

    Args:
        name: as :func:`find_model` takes it.
        dtype: float32, float16 or bfloat16, of the UNet and the image encoder of a model with a VAE.
            The VAE itself, and models without one (mini), are always in float32.
    Raises:
        UserError: the folder's files are incomplete or of another kind of model.
    """
    folder = find_model(name)
    _check_kind(folder)
    types = {"vae": torch.float32, "default": getattr(torch, dtype)} if _has_vae(folder) else None
    try:
        with _quiet(with_transformers=_has_vae(folder)):
            kind = StableVideo3DPipeline if _has_vae(folder) else MiniPipeline
            pipeline = kind.from_pretrained(
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
    return pipeline.to(device, silence_dtype_warnings=True)


@contextmanager
def _quiet(with_transformers: bool):
    """Without the libraries' progress bars, warnings and logs; what matters comes as an exception."""
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


def _check_weights(pipeline: OrbitPipeline, folder: Path) -> None:
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
            f"{folder} is a Stable Video Diffusion model, which paints videos, not orbits; to fine-tune "
            "from it, convert its single file with `img2mesh models convert svd_xt.safetensors OUT --start p`."
        )
    if kind is None:
        raise UserError(
            f"{folder / 'model_index.json'} is damaged; delete the folder and get the model again."
        )
    if kind not in (StableVideo3DPipeline.__name__, MiniPipeline.__name__):
        raise UserError(
            f"{folder} holds a {kind}, not the StableVideo3DPipeline of an orbit model; "
            "if it was made from SV3D, give the original .safetensors file instead."
        )


def is_sv3d(name: str) -> bool:
    """Whether a model, named as :func:`find_model` takes it, has SV3D's architecture: released, converted or fine-tuned."""
    return _has_vae(find_model(name))


def _has_vae(folder: Path) -> bool:
    return _settings(folder / "vae" / "config.json").get("_class_name") == "AutoencoderKL"


def _settings(path: Path) -> dict[str, Any]:
    """A JSON file of settings; empty if it is missing or unreadable."""
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return {}
