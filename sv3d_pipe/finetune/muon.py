"""Muon: momentum whose update has equal singular values.

torch.optim.Muon always works in bfloat16, which CPUs without it emulate, thirty times slower than float32.
Here the device decides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch

from sv3d_pipe.device import prefers_bfloat16

# a, b, c of a x + b x^3 + c x^5, which takes singular values in (0, 1] to about 1 in five turns
# (Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks").
QUINTIC = (3.4445, -4.7750, 2.0315)
TURNS = 5
MOMENTUM = 0.95


class Muon(torch.optim.Optimizer):
    """Moves matrices by their Nesterov momentum U S V^T with its singular values made equal (arXiv 2502.16982, section 2).

    The update, rate times 0.2 sqrt(max(n, m)) U V^T, is as large as AdamW's usually are.

    Args:
        params: matrices [n, m], or parameter groups of them.
        lr: learning rate of the updates, and with ``weight_decay`` of the shrinking of weights.
    Raises:
        ValueError: a parameter is not a matrix.
    """

    def __init__(self, params: Iterable, lr: float, weight_decay: float):
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})
        shapes = [tuple(p.shape) for group in self.param_groups for p in group["params"]]
        if any(len(shape) != 2 for shape in shapes):
            raise ValueError(f"Muon moves matrices, not parameters of shapes {shapes}")

    @torch.no_grad()
    def step(self, closure: Callable[[], torch.Tensor] | None = None) -> torch.Tensor | None:
        """Move all parameters that have a gradient. A closure computes the loss anew, as in all of torch."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._move(p, group["lr"], group["weight_decay"])
        return loss

    def _move(self, p: torch.nn.Parameter, rate: float, weight_decay: float) -> None:
        state = self.state[p]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(p)
        momentum = state["momentum_buffer"].lerp_(p.grad, 1 - MOMENTUM)
        update = orthogonalized(p.grad.lerp(momentum, MOMENTUM), work_dtype(p.device))
        p.mul_(1 - rate * weight_decay).add_(update, alpha=-rate * 0.2 * max(p.shape) ** 0.5)


def work_dtype(device: torch.device) -> torch.dtype:
    """The faster of float32 and bfloat16."""
    return torch.bfloat16 if prefers_bfloat16(str(device)) else torch.float32


def orthogonalized(matrix: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """About U V^T for a matrix U S V^T: singular values of 0.002 of its Frobenius norm and more become 0.68 to 1.21.

    Args:
        matrix: [n, m].
        dtype: number format of the work, and of the result.
    """
    wide = matrix.shape[0] <= matrix.shape[1]
    x = (matrix if wide else matrix.T).to(dtype)
    x = x / x.norm().clamp(min=1e-7)
    a, b, c = QUINTIC
    for _ in range(TURNS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x if wide else x.T
