"""How fast does finetune's Muon move mini's weights beside torch's?

    python benchmarks/muon_step.py --rounds 8

Torch's works in bfloat16 everywhere, ours where the device is made for it.
"""

from __future__ import annotations

import argparse

import torch
from recon_rounds import Comparison, Contender, compared, timed

from sv3d_pipe.finetune.muon import Muon
from sv3d_pipe.orbit.volume import VolumeDenoiser

RATE, DECAY = 7e-3, 0.01


def comparison() -> Comparison:
    """Each contender moves its own copy of the matrices along the same gradients."""
    torch.manual_seed(0)
    start = [
        layer.weight.detach() for layer in VolumeDenoiser().modules() if isinstance(layer, torch.nn.Linear)
    ]
    gradients = [torch.randn_like(weight) for weight in start]

    def contender(name: str, make) -> Contender:
        def prepare(_):
            weights = [torch.nn.Parameter(weight.clone()) for weight in start]
            for weight, gradient in zip(weights, gradients):
                weight.grad = gradient.clone()
            return weights, make(weights)

        def step(prepared) -> torch.Tensor:
            weights, optimizer = prepared
            optimizer.step()
            moved = [(weight.detach() - before).flatten() for weight, before in zip(weights, start)]
            return torch.cat(moved)

        return Contender(name, timed(step, prepare))

    def torch_muon(weights):
        return torch.optim.Muon(weights, lr=RATE, weight_decay=DECAY, adjust_lr_fn="match_rms_adamw")

    contenders = (
        contender("ours", lambda weights: Muon(weights, lr=RATE, weight_decay=DECAY)),
        contender("torch.optim.Muon", torch_muon),
    )
    return Comparison(f"Muon on mini, {torch.get_num_threads()} threads", contenders, agree, {})


def agree(moves: dict[str, torch.Tensor]) -> str:
    ours, theirs = moves["ours"], moves["torch.optim.Muon"]
    return f"Moves differ by {((ours - theirs).norm() / theirs.norm()).item():.2g} of their length"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=8)
    compared(comparison(), parser.parse_args().rounds)


if __name__ == "__main__":
    main()
