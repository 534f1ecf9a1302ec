"""How fast is a training step of mini beside the same step in plain torch?

    python benchmarks/mini_step.py --rounds 8

Forward and backward of a batch of 8 objects with 6 frames, in bfloat16 where ``finetune`` would use it.
Compared with the step as it is: rendering by :func:`render_volume_torch`, and torch's fused attention. The
variants take turns; ratios are medians over the rounds of a variant's seconds divided by ours in the same round.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import time
from unittest.mock import patch

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.progress import track
from rich.table import Table

from sv3d_pipe.device import prefers_bfloat16, resolve_device
from sv3d_pipe.orbit import volume
from sv3d_pipe.orbit.render import render_volume_torch

VARIANTS = {
    "ours": {},
    "rendered in torch": {"render_volume": render_volume_torch},
    "fused attention": {"_attention": F.scaled_dot_product_attention},
    "both": {"render_volume": render_volume_torch, "_attention": F.scaled_dot_product_attention},
}


def seconds(net: volume.VolumeDenoiser, inputs: tuple[torch.Tensor, ...], changes: dict) -> float:
    """Of one step with parts of the network's module exchanged."""
    device = inputs[0].device
    half = prefers_bfloat16(str(device))
    with contextlib.ExitStack() as stack:
        for name, function in changes.items():
            stack.enter_context(patch.object(volume, name, function))
        _wait(device)
        start = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            velocity = net(inputs[0], inputs[1], None, inputs[2])[0]
        velocity.float().square().mean().backward()
        _wait(device)
        return time.perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    device = torch.device(resolve_device(options.device))
    torch.manual_seed(0)
    net = volume.VolumeDenoiser().to(device)
    frames = torch.randn(options.batch, 6, 8, 64, 64, device=device)
    timestep, ids = (
        torch.full((options.batch,), 1.6, device=device),
        torch.rand(options.batch, 6, 3, device=device),
    )
    taken: dict[str, list[float]] = {name: [] for name in VARIANTS}
    for number in track(range(options.rounds + 1), "Taking turns", transient=True):
        for name, changes in VARIANTS.items():
            duration = seconds(net, (frames, timestep, ids), changes)
            if number:  # the first round warms up
                taken[name].append(duration)
    table = Table("step", "seconds", "ratio to ours", title=f"{device}, {torch.get_num_threads()} threads")
    for name, values in taken.items():
        ratio = statistics.median(a / b for a, b in zip(values, taken["ours"]))
        table.add_row(name, f"{statistics.median(values):.2f}", f"{ratio:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
