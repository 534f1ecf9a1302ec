"""Low-rank adaptation (arXiv 2106.09685) of a denoiser, by peft, and its way back into plain weights."""

from __future__ import annotations

import torch
from torch import nn

from sv3d_pipe.errors import UserError

POSE = "add_embedding"  # trained whole, see phases.choose_trained


def add_lora(unet: nn.Module, rank: int) -> None:
    """Freeze a network and add to each of its linear layers W a trained B A of this rank, at first zero.

    peft keeps the product apart from W, so W needs neither gradient nor copy.

    Raises:
        UserError: peft is not installed.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise UserError("--train lora needs peft; install it with `pip install 'img2mesh[train]'`.") from None
    linear = [name for name, layer in unet.named_modules() if isinstance(layer, nn.Linear)]
    targets = [name for name in linear if not name.startswith(POSE)]
    unet.requires_grad_(False)
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=rank, target_modules=targets), unet)


def merged(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A network's weights with LoRA's products added, under the names they had before LoRA.

    Args:
        state: of a network after :func:`add_lora` (or of any other, which stays as it is).
    """
    plain = {
        name.replace(".base_layer.", "."): value for name, value in state.items() if ".lora_" not in name
    }
    for name, down in state.items():
        if name.endswith(".lora_A.default.weight"):
            layer = name.removesuffix(".lora_A.default.weight")
            up = state[f"{layer}.lora_B.default.weight"]
            plain[f"{layer}.weight"] = plain[f"{layer}.weight"] + up @ down  # alpha = rank: scale 1
    return plain
