"""What moves the weights: AdamW, or Muon for matrices and AdamW for the rest."""

from __future__ import annotations

import torch

from sv3d_pipe.errors import UserError
from sv3d_pipe.finetune.muon import Muon
from sv3d_pipe.finetune.recipe import Recipe

# Muon's updates, scaled to the size of AdamW's, bear a larger rate: measured on mini (MODEL_CARD.md).
MUON_RATE = 7.0


def make_optimizers(net: torch.nn.Module, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Optimizers of all parameters of ``net`` that require gradients, each in one of them.

    Every parameter group has a ``share``, its learning rate relative to ``recipe.learning_rate``.
    Muon takes the weights of linear layers.

    Raises:
        UserError: bitsandbytes is missing for an AdamW with 8-bit state.
    """
    matrices = _linear_weights(net) if recipe.optimizer == "muon" else []
    taken = {id(p) for p in matrices}
    rest = [p for p in net.parameters() if p.requires_grad and id(p) not in taken]
    kind = _adamw_8bit() if recipe.adam_8bit else torch.optim.AdamW
    optimizers: list[torch.optim.Optimizer] = []
    if rest:
        group = {"params": rest, "share": 1.0}
        optimizers.append(kind([group], lr=recipe.learning_rate, betas=(0.9, 0.98), weight_decay=0.01))
    if matrices:
        group = {"params": matrices, "share": MUON_RATE}
        rate = recipe.learning_rate * MUON_RATE
        optimizers.append(Muon([group], lr=rate, weight_decay=0.01))
    return optimizers


def _linear_weights(net: torch.nn.Module) -> list[torch.nn.Parameter]:
    layers = (m for m in net.modules() if isinstance(m, torch.nn.Linear))
    return [layer.weight for layer in layers if layer.weight.requires_grad]


def _adamw_8bit() -> type[torch.optim.Optimizer]:
    try:
        from bitsandbytes.optim import AdamW8bit
    except ImportError:
        raise UserError(
            "--adam-8bit needs bitsandbytes; install it with `pip install bitsandbytes`."
        ) from None
    return AdamW8bit
