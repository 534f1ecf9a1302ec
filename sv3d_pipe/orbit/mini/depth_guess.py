"""How deep the object of a photo is from front to back, guessed by a network of its own.

A small orbit model that was trained on a thousand objects has no idea of it; this network reads it off the
features of a classifier that knows what things are (sv3d_pipe.orbit.mini.recognizer).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import nn

from sv3d_pipe.orbit.mini.recognizer import COARSE, FINE, FINE_SIDE, Units

PARTS = 5  # equally likely ones, of all depths that are possible
ELEVATIONS_DEG = (10.0, 10.0)  # middle and unit of the photo's elevation


@dataclass(frozen=True)
class Guess:
    """A depth, as likely too small as too large (see :func:`sv3d_pipe.geometry.extent.relative_depth`), and the expected
    absolute error of its logarithm."""

    depth: float
    error: float

    def possible(self) -> torch.Tensor:  # [5]
        """Depths in the middle of equally likely parts of a Laplace distribution of ln(depth), which the heads learn."""
        # The probability that lies between the guess and the middle of each part.
        beyond = (torch.arange(PARTS) + 0.5) / PARTS - 0.5
        off = -beyond.sign() * torch.log1p(-2 * beyond.abs())  # quantiles of Laplace(0, 1)
        return self.depth * torch.exp(self.error * off)


class DepthGuesser(ModelMixin, ConfigMixin):
    """Photo and its elevation to ln(depth); depth as in :func:`sv3d_pipe.geometry.extent.relative_depth`.

    Args:
        count: of networks that guess, each for itself; the mean of their guesses counts.
        width: channels of their convolutions.
        dropout: of features and hidden units while training.
    """

    __module__ = "sv3d_pipe"  # what saved models call it by

    @register_to_config
    def __init__(self, count: int = 3, width: int = 64, dropout: float = 0.1):
        super().__init__()
        self.units = Units()
        self.heads = nn.ModuleList(Head(width, dropout) for _ in range(count))

    def forward(
        self,
        fine: torch.Tensor,  # [B, 120, 12, 12]
        whole: torch.Tensor,  # [B, 1280]
        elevation_deg: torch.Tensor,  # [B]
    ) -> tuple[torch.Tensor, torch.Tensor]:  # [count, B], [count, B]
        """Every head's ln(depth), and the logarithm of its expected absolute error."""
        fine, whole = self.units(fine, whole)
        height = (elevation_deg - ELEVATIONS_DEG[0]) / ELEVATIONS_DEG[1]
        height = torch.stack([height, height**2], -1)
        guess, error = torch.stack([head(fine, whole, height) for head in self.heads]).unbind(-1)
        return guess, error.clamp(-3, 2)

    @torch.no_grad()
    def guess(
        self,
        fine: torch.Tensor,  # [B, 120, 12, 12]
        whole: torch.Tensor,  # [B, 1280]
        elevation_deg: float,
    ) -> Guess:
        """How deep the object of one photo is: means of what all heads read off B looks at it."""
        guesses, errors = self(fine, whole, torch.full((len(fine),), elevation_deg, device=self.device))
        return Guess(math.exp(guesses.mean().item()), math.exp(errors.mean().item()))


class Head(nn.Module):
    """Standardized features to ln(depth) and the logarithm of its expected error."""

    def __init__(self, width: int, dropout: float):
        super().__init__()
        self.dropout = dropout
        self.enter = nn.Conv2d(FINE, width, 1)
        self.place = nn.Parameter(torch.zeros(width, FINE_SIDE, FINE_SIDE))
        self.height = nn.Linear(2, width)
        self.same = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.GroupNorm(8, width), nn.SiLU())
        self.down = nn.Sequential(
            nn.Conv2d(width, 2 * width, 3, 2, 1), nn.GroupNorm(8, 2 * width), nn.SiLU(),
            nn.Conv2d(2 * width, 2 * width, 3, 2, 1), nn.GroupNorm(8, 2 * width), nn.SiLU(),
        )  # fmt: skip
        self.known = nn.Linear(COARSE, 64)
        self.leave = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(2 * width * (FINE_SIDE // 4) ** 2 + 64, 96), nn.SiLU(),
            nn.Dropout(dropout), nn.Linear(96, 2),
        )  # fmt: skip

    def forward(
        self,
        fine: torch.Tensor,  # [B, 120, 12, 12]
        whole: torch.Tensor,  # [B, 1280]
        height: torch.Tensor,  # [B, 2] the elevation in its unit, and its square
    ) -> torch.Tensor:  # [B, 2]
        fine = F.dropout2d(fine, self.dropout / 2, self.training)
        x = F.silu(self.enter(fine) + self.place + self.height(height)[:, :, None, None])
        x = self.down(x + self.same(x)).flatten(1)
        known = self.known(F.dropout(whole, self.dropout, self.training))
        return self.leave(torch.cat([x, known], 1))
