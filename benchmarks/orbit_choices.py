"""What the sampler's small choices cost and change, on networks with random weights.

    python benchmarks/orbit_choices.py

A UNet of SV3D's build at 2/5 of its width, 7 frames of 128 px: seconds per call and difference from
the plain way (float32, guidance together, usual memory layout), relative to the output's deviation.
Then: what would change if frames of guidance scale 1 were left out of the unconditional half; and what
decoding in tiles changes with a VAE of half its width.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from diffusers.utils import logging
from orbit_memory import UNET, VAE
from rich.console import Console
from rich.table import Table

from sv3d_pipe.artifacts import load_png
from sv3d_pipe.orbit.conditioning import photo_on_white, time_ids
from sv3d_pipe.orbit.pipeline import PhotoCondition, StableVideo3DPipeline, euler_scheduler
from sv3d_pipe.orbit.plan import Plan, adopt, channels_last
from sv3d_pipe.orbit.unet import StableVideo3DUNet

FRAMES, LATENT = 7, 16
SMALLER = {"block_out_channels": [128, 256, 512, 512], "num_attention_heads": [2, 4, 8, 8]}


def networks() -> StableVideo3DPipeline:
    torch.manual_seed(0)
    vae = AutoencoderKL(**VAE | {"block_out_channels": [64, 128, 256, 256]}, scaling_factor=0.18215)
    return StableVideo3DPipeline(vae.eval(), StableVideo3DUNet(**UNET | SMALLER).eval(), euler_scheduler())


def questions(pipeline: StableVideo3DPipeline) -> tuple:
    """Arguments of ``predict_velocity``: noisy latents, ln(sigma) / 4, photo, poses, guidance scales."""
    draw = torch.Generator().manual_seed(1)
    photo = PhotoCondition(
        torch.randn((1, 4, LATENT, LATENT), generator=draw), torch.randn((1, 1, 1024), generator=draw)
    )
    ids = time_ids(np.arange(1, FRAMES + 1) * 360 / FRAMES, np.full(FRAMES, 10.0), 1e-5)
    noisy = torch.randn((FRAMES, 4, LATENT, LATENT), generator=draw)
    scales = 1 + 1.5 * (1 - (2 * torch.linspace(0, 1, FRAMES) - 1).abs())
    return noisy, 0.3, photo, ids, scales


def difference(ours: torch.Tensor, plain: torch.Tensor) -> str:
    return f"{(ours - plain).square().mean().sqrt() / plain.std():.1e}"


def set_up(
    pipeline: StableVideo3DPipeline, dtype: torch.dtype, layout: torch.memory_format, together: bool
) -> None:
    pipeline.unet.to(dtype)
    channels_last(pipeline.unet, layout)
    adopt(pipeline, Plan(together=together), "cpu")


WAYS = {
    "float32, guidance together": (torch.float32, torch.contiguous_format, True),
    "float32, one half after the other": (torch.float32, torch.contiguous_format, False),
    "float32, channels last": (torch.float32, torch.channels_last, True),
    "bfloat16": (torch.bfloat16, torch.contiguous_format, True),
    "bfloat16, channels last": (torch.bfloat16, torch.channels_last, True),
}


@torch.no_grad()
def ways(pipeline: StableVideo3DPipeline, rounds: int) -> Table:
    """All ways in turn, several rounds: on a busy machine only the best of each can be compared."""
    asked = questions(pipeline)
    weights = {name: value.clone() for name, value in pipeline.unet.state_dict().items()}
    seconds, velocity = {name: [] for name in WAYS}, {}
    for name in [*WAYS] * rounds:
        set_up(pipeline, *WAYS[name])
        pipeline.unet.load_state_dict(weights)  # in full, if they have just been in bfloat16
        pipeline.predict_velocity(*asked)  # warms up
        start = time.perf_counter()
        velocity[name] = pipeline.predict_velocity(*asked)
        seconds[name].append(time.perf_counter() - start)
    table = Table("way", "seconds", "difference", title=f"One guided call, {FRAMES} frames, {8 * LATENT} px")
    plain = next(iter(velocity.values()))
    for name in WAYS:
        table.add_row(name, f"{min(seconds[name]):.2f}", difference(velocity[name], plain))
    return table


@torch.no_grad()
def left_out(pipeline: StableVideo3DPipeline) -> str:
    """How the middle frames' unconditional velocity changes without the first and the last frame."""
    noisy, timestep, _, ids, _ = questions(pipeline)
    nothing = PhotoCondition(torch.zeros(1, 4, LATENT, LATENT), torch.zeros(1, 1, 1024))
    whole = pipeline.predict_velocity(noisy, timestep, nothing, ids, None)[1:-1]
    part = pipeline.predict_velocity(noisy[1:-1], timestep, nothing, ids[1:-1], None)
    return difference(part, whole)


@torch.no_grad()
def tiles(pipeline: StableVideo3DPipeline, photo: Path) -> str:
    """Levels of 255 that tiles change in one frame of 576 px: deviation and largest."""
    white = torch.from_numpy(photo_on_white(load_png(photo), 576)).permute(2, 0, 1)[None]
    latent = pipeline.vae.encode(white * 2 - 1).latent_dist.mode()
    frames = []
    for tiled in (False, True):
        adopt(pipeline, Plan(tiled=tiled), "cpu")
        frames.append(pipeline.vae.decode(latent).sample)
    levels = (frames[1] - frames[0]) * (255 / 2)
    spread = frames[0].std() * (255 / 2)
    return f"RMS {levels.square().mean().sqrt():.2f}, largest {levels.abs().max():.1f} levels of 255; frame's own {spread:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photo", type=Path, default=Path("examples/bird.png"), help="RGBA, square")
    parser.add_argument("--rounds", type=int, default=4)
    options = parser.parse_args()
    console = Console(width=100)
    logging.set_verbosity_error()
    pipeline = networks()
    console.print(ways(pipeline, options.rounds))
    console.print(
        f"Middle frames when the first and last are left out of the pass: changed by {left_out(pipeline)}"
    )
    console.print(f"Decoding in tiles: {tiles(pipeline, options.photo)}")


if __name__ == "__main__":
    main()
