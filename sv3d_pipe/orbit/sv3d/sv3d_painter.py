"""SV3D as an orbit model: how much memory it needs, what the user should know, alpha for frames on white.

The constants are counted by ``benchmarks/orbit_memory.py`` on the full-size networks.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from diffusers.utils import is_accelerate_available

from sv3d_pipe.artifacts import Photo
from sv3d_pipe.cameras import orbit
from sv3d_pipe.config import OrbitConfig
from sv3d_pipe.device import free_bytes
from sv3d_pipe.errors import UserError
from sv3d_pipe.orbit.denoising_pipeline import OrbitOutput
from sv3d_pipe.orbit.elevation import seen_elevation
from sv3d_pipe.orbit.masks import crisp
from sv3d_pipe.orbit.memory_plan import Load, Plan, candidates, module_bytes, that_fit
from sv3d_pipe.orbit.model import Angles
from sv3d_pipe.orbit.painter import Painter
from sv3d_pipe.orbit.sv3d.diffusion_pipeline import TILE, StableVideo3DPipeline
from sv3d_pipe.prep.white_orbit import cut_from_white
from sv3d_pipe.road.context import Context

# Feature maps as wide as a network's first level that are alive at its worst moment, per frame.
UNET_MAPS = 28  # one half of guidance
DECODE_MAPS = 6
ENCODE_MAPS = 25  # with the graph for a gradient
UNET_NUMBERS, VAE_NUMBERS, CLIP_NUMBERS = 1_525_278_442, 83_653_843, 632_076_800  # in sv3d-p's weights
NEAR_DEG = 2.0  # cameras that stand no farther from where they are thought to be give the same masks
FEW_STEPS = 12  # fewer are enough only for models trained to need few, which SV3D's are not


class SV3DPainter(Painter):
    """A :class:`StableVideo3DPipeline` as an orbit model."""

    pipeline: StableVideo3DPipeline

    def plans(
        self, config: OrbitConfig, device: str, frames: int, with_gradient: bool = False
    ) -> tuple[Plan, ...]:
        """Raises UserError for low_vram without the package that moves the models."""
        load = load_of(self.pipeline, frames, config.size)
        return plans_within(room_for(self.pipeline, device), load, device, config.low_vram, with_gradient)

    def brief(self, config: OrbitConfig, plan: Plan, context: Context) -> None:
        dtype = str(self.pipeline.unet.dtype).removeprefix("torch.")
        context.say(f"Plan: UNet in {dtype} on {context.device}, {plan}.")
        if config.steps < FEW_STEPS:
            few = "1 sampling step is" if config.steps == 1 else f"{config.steps} sampling steps are"
            context.warn(
                f"{few} too few for {self.name}; use orbit.steps=50, or 20 with orbit.solver=dpm, "
                "and orbit.guidance=2.5."
            )

    def progress(self, timestep: torch.Tensor, denoised: torch.Tensor, target: np.ndarray) -> str:
        return f"noise {math.exp(4 * float(timestep)):.3g}"  # decoding would take longer than the step

    def cut_out(self, output: OrbitOutput, angles: Angles) -> np.ndarray:
        """A model that is told no cameras may have painted from another elevation; then that one's counts."""
        rgba = cut_from_white(output.frames, orbit(*angles))
        azimuth_deg, elevation_deg = angles
        seen = None if self.takes_pose else seen_elevation(rgba[..., 3], azimuth_deg, elevation_deg)
        higher = 0.0 if seen is None or not seen.clear else seen.elevation_deg - elevation_deg[-1]
        if abs(higher) < NEAR_DEG:
            return rgba
        return cut_from_white(output.frames, orbit(azimuth_deg, elevation_deg + higher))

    def solid(self, rgba: np.ndarray, photo: Photo, angles: Angles, config: OrbitConfig) -> np.ndarray:
        return crisp(rgba)


def plans_within(
    room: int, load: Load, device: str, low_vram: bool = False, with_gradient: bool = False
) -> tuple[Plan, ...]:
    """Ways to do the work in so many bytes, see :meth:`sv3d_pipe.orbit.model.OrbitModel.plans`.

    Raises UserError for low_vram without the package that moves the models.
    """
    offload = device.startswith("cuda") and is_accelerate_available()
    if low_vram and device.startswith("cuda") and not offload:
        raise UserError("low_vram needs the package accelerate; install it with `pip install accelerate`.")
    known = candidates(offload, low_vram)
    if device == "mps":  # both halves together have more elements than it can number
        known = tuple(plan for plan in known if not plan.together)
    if with_gradient:  # frames are encoded one by one, and none is decoded
        load = replace(load, decode=load.encode)
        known = tuple(plan for plan in known if plan.chunk == 1 and not plan.tiled)
    return that_fit(known, load, room)


def load_of(pipeline: StableVideo3DPipeline, frames: int, size: int) -> Load:
    """What an orbit of ``frames`` pictures ``size`` pixels wide asks of memory."""
    unet, vae = pipeline.unet, pipeline.vae
    weights = Load(module_bytes(unet), module_bytes(vae), module_bytes(pipeline.image_encoder))
    factor = 2 ** (len(vae.config.block_out_channels) - 1)
    latent = unet.config.block_out_channels[0] * unet.dtype.itemsize
    pixel = vae.config.block_out_channels[0] * vae.dtype.itemsize
    return _with_activations(weights, frames, size, factor, latent, pixel)


def released_load(frames: int, size: int, itemsize: int) -> Load:
    """As :func:`load_of`, for Stability's sv3d-p without its weights at hand.

    Args:
        itemsize: bytes per number of the UNet and the image encoder; the VAE's have four.
    """
    weights = Load(UNET_NUMBERS * itemsize, VAE_NUMBERS * 4, CLIP_NUMBERS * itemsize)
    return _with_activations(weights, frames, size, 8, 320 * itemsize, 128 * 4)


def _with_activations(weights: Load, frames: int, size: int, factor: int, latent: int, pixel: int) -> Load:
    """Of networks whose first level takes ``latent`` bytes per latent, and ``pixel`` per pixel in the VAE."""
    return replace(
        weights,
        half=UNET_MAPS * frames * latent * (size // factor) ** 2,
        decode=DECODE_MAPS * pixel * size**2,
        tile=DECODE_MAPS * pixel * min(size, TILE * factor) ** 2,
        encode=ENCODE_MAPS * pixel * size**2,
    )


def room_for(pipeline: StableVideo3DPipeline, device: str) -> int:
    """Bytes for weights and activations: what is free, and what the pipeline's weights take already."""
    modules = (pipeline.unet, pipeline.vae, pipeline.image_encoder)
    kind = torch.device(device).type
    return free_bytes(device) + sum(
        module_bytes(m) for m in modules if m is not None and m.device.type == kind
    )


def channels_last(module: torch.nn.Module, memory_format=torch.channels_last) -> None:
    """Lay out the weights of all 2D convolutions as a GPU's kernels want them; the others have no such layout."""
    for layer in module.modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.to(memory_format=memory_format)
