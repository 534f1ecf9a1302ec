"""The programs that benchmarks/orbit.py compares, made of networks of equal size with random weights.

No code of the other programs is kept here: they are imported from where the user has them.
"""

from __future__ import annotations

import contextlib
import math
import sys
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLTemporalDecoder,
    StableVideoDiffusionPipeline,
    UNetSpatioTemporalConditionModel,
)
from orbit_watch import Contender, Task
from PIL import Image
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

from sv3d_pipe.cameras import orbit_azimuths
from sv3d_pipe.device import free_bytes
from sv3d_pipe.orbit.conditioning import pose_radians
from sv3d_pipe.orbit.memory_plan import candidates, that_fit
from sv3d_pipe.orbit.schedulers import euler_scheduler
from sv3d_pipe.orbit.sv3d.diffusion_pipeline import StableVideo3DPipeline
from sv3d_pipe.orbit.sv3d.sv3d_painter import load_of
from sv3d_pipe.orbit.sv3d.unet import StableVideo3DUNet

ELEVATION_DEG = 10.0
COND_AUG = 1e-5
CHUNK = 8  # frames per decode that diffusers' guide to SVD and the port's infer.py use
SEED = 0
SAVING = "; models on the CPU until they work (CUDA only), feed-forward layers in chunks"


def ours(task: Task) -> Contender:
    """This project's pipeline under the plan that it would choose itself."""
    unet = _network(StableVideo3DUNet, task, task.dtype, **task.network["unet"])
    if task.device.startswith("cuda"):
        unet.to(memory_format=torch.channels_last)  # as sv3d_pipe.orbit.store.load.load_model does
    vae = _network(AutoencoderKL, task, "float32", **task.network["vae"])
    pipeline = StableVideo3DPipeline(vae, unet, euler_scheduler(), _clip(task))
    pipeline.set_progress_bar_config(disable=True)

    load = load_of(pipeline, task.frames, task.size)
    room = free_bytes(task.device) + load.unet + load.vae + load.encoder
    room = min(room, task.cap_bytes or room)
    plan = that_fit(candidates(task.device.startswith("cuda"), task.low_vram), load, room)[0]
    pipeline.adopt(plan, task.device)

    def paint(steps: int) -> np.ndarray:
        return pipeline(
            photo(task.size),
            orbit_azimuths(task.frames),
            ELEVATION_DEG,
            num_inference_steps=steps,
            max_guidance_scale=task.guidance,
            size=task.size,
            generator=torch.Generator(task.device).manual_seed(SEED),
        ).frames

    remark = f"UNet and CLIP in {task.dtype}, VAE in float32; plan: {plan}"
    return Contender(paint, unet, (vae, "decode"), _weights(unet, vae, pipeline.image_encoder), remark)


def stock(task: Task) -> Contender:
    """diffusers' SVD pipeline: the same blocks, three numbers per video, a temporal decoder."""
    settings = task.network["unet"] | {"projection_class_embeddings_input_dim": 768}
    unet = _network(UNetSpatioTemporalConditionModel, task, task.dtype, **settings)
    kept = ("block_out_channels", "down_block_types", "layers_per_block", "latent_channels")
    vae_settings = {name: task.network["vae"][name] for name in kept}
    vae = _network(AutoencoderKLTemporalDecoder, task, task.dtype, **vae_settings)
    clip = _clip(task)
    pipeline = StableVideoDiffusionPipeline(vae, clip, unet, euler_scheduler(), CLIPImageProcessor())
    chunk = _saving(pipeline, task)

    def paint(steps: int) -> np.ndarray:
        with autocast(task, task.dtype == "bfloat16"):  # the pipeline mixes bfloat16 and float32 by itself
            return pipeline(**_video_call(task, steps, chunk)).frames[0]

    remark = f"weights in {task.dtype}; 3 numbers per video; temporal decoder, frames per decode: {chunk}"
    remark += SAVING * task.low_vram
    return Contender(paint, unet, (vae, "decode"), _weights(unet, vae, clip), remark)


def port(task: Task) -> Contender:
    """The public port to diffusers as its own infer.py runs it: float32 weights under autocast."""
    return _port(task, "float32")


def port_cast(task: Task) -> Contender:
    """The same with its weights in the type that it computes in, which saves memory."""
    return _port(task, task.dtype)


def _port(task: Task, weights: str) -> Contender:
    with importable(task.port, "--port", "chenguolin/sv3d-diffusers"):
        _supply_older_names()
        from diffusers_sv3d import StableVideo3DDiffusionPipeline, SV3DUNetSpatioTemporalConditionModel
    unet = _network(SV3DUNetSpatioTemporalConditionModel, task, weights, **task.network["unet"])
    vae = _network(AutoencoderKL, task, weights, **task.network["vae"])
    clip = _clip(task, weights)
    pipeline = StableVideo3DDiffusionPipeline(vae, clip, unet, euler_scheduler(), CLIPImageProcessor())
    chunk = _saving(pipeline, task)
    polar, azimuth = poses(task)
    angles = {"polars_rad": polar.tolist(), "azimuths_rad": azimuth.tolist()}

    def paint(steps: int) -> np.ndarray:
        with autocast(task, task.dtype != "float32"):
            return pipeline(**_video_call(task, steps, chunk), **angles).frames[0]

    remark = f"weights in {weights}, computes in {task.dtype}; image decoder, frames per decode: {chunk}"
    remark += SAVING * task.low_vram
    return Contender(paint, unet, (vae, "decode"), _weights(unet, vae, clip), remark)


def _supply_older_names() -> None:
    """Names that the port imports from modules of diffusers in which newer versions no longer have them."""
    from diffusers.models import attention_processor
    from diffusers.models.unets import unet_spatio_temporal_condition as unet
    from diffusers.pipelines.stable_video_diffusion import pipeline_stable_video_diffusion as pipeline

    vars(unet).setdefault("AttentionProcessor", attention_processor.AttentionProcessor)
    for name in ("Dict", "List", "Optional", "Union"):
        vars(pipeline).setdefault(name, getattr(typing, name))


def photo(size: int) -> np.ndarray:
    """[size, size, 4] opaque noise in [0, 1]; what it shows has no influence on time and memory."""
    rgba = np.random.default_rng(SEED).random((size, size, 4), np.float32)
    rgba[..., 3] = 1
    return rgba


def _video_call(task: Task, steps: int, chunk: int) -> dict[str, Any]:
    """Arguments that the SVD pipeline and the port share; guidance of both starts at 1."""
    return {
        "image": Image.fromarray((photo(task.size)[..., :3] * 255).astype(np.uint8)),
        "height": task.size,
        "width": task.size,
        "num_frames": task.frames,
        "num_inference_steps": steps,
        "max_guidance_scale": task.guidance,
        "decode_chunk_size": chunk,
        "generator": torch.Generator(task.device).manual_seed(SEED),
        "output_type": "np",
    }


def poses(task: Task) -> tuple[np.ndarray, np.ndarray]:
    return pose_radians(orbit_azimuths(task.frames), np.full(task.frames, ELEVATION_DEG))


def _saving(pipeline: StableVideoDiffusionPipeline, task: Task) -> int:
    """Put the pipeline on the device, with all that diffusers' guide advises for low_vram; returns frames per decode."""
    pipeline.set_progress_bar_config(disable=True)
    if not task.low_vram:
        return CHUNK
    if task.device.startswith("cuda"):
        pipeline.enable_model_cpu_offload(device=task.device)
    pipeline.unet.enable_forward_chunking()
    return 1


def _clip(task: Task, dtype: str = "") -> CLIPVisionModelWithProjection:
    settings = CLIPVisionConfig(**task.network["image_encoder"])
    return _network(CLIPVisionModelWithProjection, task, dtype or task.dtype, settings)


def _network(kind: type, task: Task, dtype: str, *arguments, **settings) -> torch.nn.Module:
    """A network made on the device and in the number format that it is used in, with random weights."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, dtype))
    try:
        with torch.device(task.device):
            module = kind(*arguments, **settings)
    finally:
        torch.set_default_dtype(before)
    return fill(module).eval()


@torch.no_grad()
def fill(module: torch.nn.Module) -> torch.nn.Module:
    """Random matrices and kernels, none of them zero: products of zeros draw less power and run faster."""
    for parameter in module.parameters():
        if parameter.ndim > 1:
            parameter.normal_(0, 1 / math.sqrt(math.prod(parameter.shape[1:])))
    return module


def autocast(task: Task, enabled: bool) -> torch.autocast:
    return torch.autocast(task.device.partition(":")[0], getattr(torch, task.dtype), enabled=enabled)


@contextlib.contextmanager
def importable(folder: str, option: str, repository: str) -> Iterator[None]:
    """With the folder first among the places to import from. Raises ImportError with what to do."""
    if not folder:
        raise ImportError(f"give {option} PATH, a checkout of GitHub's {repository}")
    if not Path(folder).is_dir():
        raise ImportError(f"there is no folder {folder}")
    sys.path.insert(0, str(Path(folder).resolve()))
    yield


def _weights(unet: torch.nn.Module, *others: torch.nn.Module) -> tuple[int, int]:
    counts = [sum(p.numel() for p in module.parameters()) for module in (unet, *others)]
    return counts[0], sum(counts)
