"""How fast is a training step of mini compared with the same step in plain torch?

    python benchmarks/mini_step.py --rounds 8

Forward and backward of a batch of 8 objects with 6 frames on the CPU, in bfloat16 where ``finetune`` would use
it. The normal step is compared with three variants: rendering by :func:`render_volume_torch`, torch's fused
attention, and both.
"""

from __future__ import annotations

import argparse
import contextlib
from unittest.mock import patch

import torch
import torch.nn.functional as F
from recon_rounds import Comparison, Contender, compared, timed

from sv3d_pipe.device import prefers_bfloat16
from sv3d_pipe.orbit.mini import denoiser as volume
from sv3d_pipe.orbit.mini.volume_render import render_volume_torch

BATCH, FRAMES = 8, 6
TORCH_RENDER = {"render_volume": render_volume_torch}
FUSED_ATTENTION = {"_attention": F.scaled_dot_product_attention}
VARIANTS = {
    "ours": {},
    "rendered in torch": TORCH_RENDER,
    "fused attention": FUSED_ATTENTION,
    "both": TORCH_RENDER | FUSED_ATTENTION,
}


def comparison() -> Comparison:
    """One network and batch; each contender replaces some of the network's parts for its step."""
    torch.manual_seed(0)
    net, half = volume.VolumeDenoiser(), prefers_bfloat16("cpu")
    sample, timestep = torch.randn(BATCH, FRAMES, 8, 64, 64), torch.full((BATCH,), 1.6)
    ids = torch.rand(BATCH, FRAMES, 3)

    def step(changes: dict) -> torch.Tensor:
        with contextlib.ExitStack() as stack:
            for name, function in changes.items():
                stack.enter_context(patch.object(volume, name, function))
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                velocity = net(sample, timestep, None, ids)[0].float()
            velocity.square().mean().backward()
        return velocity.detach()

    contenders = [
        Contender(name, timed(step, lambda _, changes=changes: changes)) for name, changes in VARIANTS.items()
    ]
    return Comparison(f"A step of mini, {torch.get_num_threads()} threads", tuple(contenders), agree, {})


def agree(velocities: dict[str, torch.Tensor]) -> str:
    largest = max((v - velocities["ours"]).abs().max().item() for v in velocities.values())
    return f"Velocities differ by at most {largest:.2g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=8)
    compared(comparison(), parser.parse_args().rounds)


if __name__ == "__main__":
    main()
