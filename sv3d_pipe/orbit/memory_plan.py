"""How an orbit is fitted into memory: what it needs, which ways there are, the fastest that fits.

The constants are counted by ``benchmarks/orbit_memory.py`` on the full-size networks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from diffusers import AutoencoderKL
from diffusers.utils import is_accelerate_available

from sv3d_pipe.config import OrbitConfig
from sv3d_pipe.device import free_bytes, give_back, is_out_of_memory, network_dtype
from sv3d_pipe.errors import UserError
from sv3d_pipe.orbit.store.find import load_pipeline
from sv3d_pipe.orbit.sv3d.diffusion_pipeline import StableVideo3DPipeline
from sv3d_pipe.orbit.sv3d.unet import StableVideo3DUNet

# Feature maps as wide as a network's first level that are alive at its worst moment, per frame.
UNET_MAPS = 28  # one half of guidance
DECODE_MAPS = 6
ENCODE_MAPS = 25  # with the graph for a gradient
MARGIN = 1.3  # on activations: workspaces of convolutions, and pieces of memory too small to use
TILE = 32  # latents per side of a tile: 256 px
GB = 1e9

Result = TypeVar("Result")


@dataclass(frozen=True)
class Load:
    """What one orbit asks of memory, in bytes.

    Attributes:
        unet, vae, encoder: weights. half: activations of the UNet for one half of guidance.
        decode, tile: activations of the VAE per frame, and per tile of one, decoded.
        encode: per frame encoded with gradient.
    """

    unet: int
    vae: int
    encoder: int
    half: int = 0
    decode: int = 0
    tile: int = 0
    encode: int = 0

    @classmethod
    def of(cls, pipeline: StableVideo3DPipeline, frames: int, size: int) -> Load:
        """Of an orbit of ``frames`` pictures ``size`` pixels wide; for small models without a VAE only weights."""
        unet, vae = pipeline.unet, pipeline.vae
        weights = _bytes(unet), _bytes(vae), _bytes(pipeline.image_encoder)
        if not (isinstance(vae, AutoencoderKL) and isinstance(unet, StableVideo3DUNet)):
            return cls(*weights)
        factor = 2 ** (len(vae.config.block_out_channels) - 1)
        latent_map = unet.config.block_out_channels[0] * unet.dtype.itemsize * (size // factor) ** 2
        pixel = vae.config.block_out_channels[0] * vae.dtype.itemsize
        return cls(
            *weights,
            half=UNET_MAPS * frames * latent_map,
            decode=DECODE_MAPS * pixel * size**2,
            tile=DECODE_MAPS * pixel * min(size, TILE * factor) ** 2,
            encode=ENCODE_MAPS * pixel * size**2,
        )


@dataclass(frozen=True)
class Plan:
    """One way to paint an orbit.

    Attributes:
        together: both halves of guidance in one call of the UNet.
        offload: modules wait on the CPU and are on the device only while they work.
        chunk: frames that the VAE decodes at a time.
        tiled: the VAE decodes in tiles, which changes the frames slightly.
    """

    together: bool = True
    offload: bool = False
    chunk: int = 4
    tiled: bool = False

    def peak(self, load: Load) -> int:
        """Bytes at the worst moment: the UNet at work, or the VAE."""
        everything = load.unet + load.vae + load.encoder
        painting = (load.unet + load.vae if self.offload else everything) + MARGIN * load.half * (
            2 if self.together else 1
        )
        decoding = (load.vae if self.offload else everything) + MARGIN * (
            load.tile if self.tiled else load.decode * self.chunk
        )
        return int(max(painting, decoding))

    def __str__(self) -> str:
        words = [
            "both halves of guidance together" if self.together else "one half of guidance after the other",
            "models on the CPU until they work" if self.offload else "all models resident",
            f"{self.chunk} frame{'s' * (self.chunk > 1)} per decode"
            + ", in tiles, which changes them" * self.tiled,
        ]
        return ", ".join(words)


def candidates(offload: bool, low_vram: bool = False) -> tuple[Plan, ...]:
    """All plans from the fastest to the thriftiest; ``low_vram`` leaves the thriftiest.

    Args:
        offload: whether modules can wait in a memory other than the device's.
    """
    fast = (Plan(), Plan(chunk=1), Plan(together=False, chunk=1))
    last = Plan(together=False, offload=offload, chunk=1)
    thrifty = (last, Plan(together=False, offload=offload, chunk=1, tiled=True))
    return thrifty if low_vram else tuple(dict.fromkeys((*fast, *thrifty)))


def that_fit(known: tuple[Plan, ...], load: Load, room: int) -> tuple[Plan, ...]:
    """The first plan that stays within ``room`` bytes and all after it; at least the last."""
    fitting = [i for i, plan in enumerate(known) if plan.peak(load) <= room]
    return known[fitting[0] :] if fitting else known[-1:]


def plans(
    config: OrbitConfig,
    pipeline: StableVideo3DPipeline,
    device: str,
    frames: int,
    with_gradient: bool = False,
) -> tuple[Plan, ...]:
    """How to paint ``frames`` frames: the fastest plan that fits what is free now, then thriftier ones.

    Args:
        with_gradient: leave room for the gradient of one encoded frame.
    Raises:
        UserError: low_vram without the package that moves the models.
    """
    load = Load.of(pipeline, frames, frame_size(config, pipeline))
    if not load.half:  # small models: nothing to win but half of guidance
        return (Plan(together=False),) if config.low_vram else (Plan(), Plan(together=False))
    offload = device.startswith("cuda") and is_accelerate_available()
    if config.low_vram and device.startswith("cuda") and not offload:
        raise UserError("low_vram needs the package accelerate; install it with `pip install accelerate`.")
    known = candidates(offload, config.low_vram)
    room = _room(pipeline, device) - (load.encode if with_gradient else 0)
    return that_fit(known, load, room)


def ready(config: OrbitConfig, device: str) -> StableVideo3DPipeline:
    """The model of the settings, in the number format and layout of the device, on the device."""
    pipeline = load_pipeline(config.model, device, network_dtype(config.dtype, device))
    if device.startswith("cuda") and isinstance(pipeline.unet, StableVideo3DUNet):
        channels_last(pipeline.unet)
    if config.compile and pipeline.unet._compiled_call_impl is None:
        pipeline.unet.compile()
    return pipeline


def channels_last(module: torch.nn.Module, memory_format=torch.channels_last) -> None:
    """Lay out the weights of all 2D convolutions as a GPU's kernels want them; the others have no such layout."""
    for layer in module.modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.to(memory_format=memory_format)


def frame_size(config: OrbitConfig, pipeline: StableVideo3DPipeline) -> int:
    """Side of the frames in pixels. Raises UserError if the model cannot paint the size of the settings."""
    try:
        return pipeline.frame_size(config.size)
    except ValueError as error:
        raise UserError(f"orbit.size {config.size} does not work: {error}.") from None


def adopt(pipeline: StableVideo3DPipeline, plan: Plan, device: str) -> None:
    """Set the pipeline up as planned, whatever it was set up for before."""
    pipeline.remove_all_hooks()
    pipeline.guidance_together = plan.together
    pipeline.frames_per_decode = plan.chunk
    if isinstance(pipeline.vae, AutoencoderKL):
        pipeline.vae.use_tiling = plan.tiled
        pipeline.vae.tile_latent_min_size = TILE
        pipeline.vae.tile_sample_min_size = TILE * 2 ** (len(pipeline.vae.config.block_out_channels) - 1)
    if plan.offload:
        pipeline.enable_model_cpu_offload(device=device)
    else:
        pipeline.to(device, silence_dtype_warnings=True)


def first_that_fits(
    known: tuple[Plan, ...], attempt: Callable[[Plan], Result], device: str, say: Callable[[str], None]
) -> Result:
    """``attempt`` with the first plan; where memory runs out, with the next.

    Raises:
        UserError: no plan is left.
    """
    for plan in known:
        try:
            return attempt(plan)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        # Only here, after the except block, has the traceback let go of the failed attempt's tensors.
        give_back(device)
        if plan is not known[-1]:
            say(f"The memory of {device} was not enough; trying again with {known[known.index(plan) + 1]}.")
    raise UserError(
        f"The memory of {device} is not enough for this orbit even in the thriftiest way; "
        "close other programs or choose a smaller orbit.size."
    )


def _room(pipeline: StableVideo3DPipeline, device: str) -> int:
    """Bytes for weights and activations: what is free, and what the pipeline's weights take already."""
    modules = (pipeline.unet, pipeline.vae, pipeline.image_encoder)
    kind = torch.device(device).type
    return free_bytes(device) + sum(_bytes(m) for m in modules if m is not None and m.device.type == kind)


def _bytes(module: torch.nn.Module | None) -> int:
    if module is None:
        return 0
    return sum(t.numel() * t.element_size() for t in (*module.parameters(), *module.buffers()))
