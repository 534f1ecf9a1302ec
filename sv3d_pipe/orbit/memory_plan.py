"""How an orbit is fitted into memory: what it needs, which ways there are, the fastest that fits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch

from sv3d_pipe.device import give_back, is_out_of_memory
from sv3d_pipe.errors import UserError

MARGIN = 1.3  # on activations: workspaces of convolutions, and pieces of memory too small to use
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
    """All plans from the fastest to the most economical; ``low_vram`` leaves only the most economical.

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
        f"The memory of {device} is not enough for this orbit even in the most economical way; "
        "close other programs or choose a smaller orbit.size."
    )


def module_bytes(module: torch.nn.Module | None) -> int:
    """Of weights and buffers; 0 for None."""
    if module is None:
        return 0
    return sum(t.numel() * t.element_size() for t in (*module.parameters(), *module.buffers()))
