"""How deep the object of a photo is from front to back, guessed by a network of its own.

A small orbit model that was trained on a thousand objects has no idea of it; this network reads it off the
features of a classifier that knows what things are (sv3d_pipe.orbit.recognizer).
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import nn

from sv3d_pipe.orbit.pixels import PixelCodec
from sv3d_pipe.orbit.recognizer import COARSE, FINE, FINE_SIDE, SIDE, recognizer

LIMIT = 4.0  # standard deviations at which features are cut off
ELEVATIONS_DEG = (10.0, 10.0)  # middle and unit of the photo's elevation


class DepthGuesser(ModelMixin, ConfigMixin):
    """Photo and its elevation to ln(depth); depth as in :func:`sv3d_pipe.export.depth.relative_depth`.

    Args:
        count: of networks that guess, each for itself; the mean of their guesses counts.
        width: channels of their convolutions.
        dropout: of features and hidden units while training.
    """

    @register_to_config
    def __init__(self, count: int = 3, width: int = 64, dropout: float = 0.1):
        super().__init__()
        for name, channels in (("fine", FINE), ("whole", COARSE)):
            self.register_buffer(f"{name}_mean", torch.zeros(channels))
            self.register_buffer(f"{name}_spread", torch.ones(channels))
        self.heads = nn.ModuleList(Head(width, dropout) for _ in range(count))

    def features(
        self,
        photo: torch.Tensor,  # [B, 4, SIDE, SIDE] premultiplied in [-1, 1]
    ) -> tuple[torch.Tensor, torch.Tensor]:  # [B, 120, 12, 12], [B, 1280]
        """What the recognizer sees in the photo, and in all of it."""
        fine, coarse = recognizer(self.device)(photo)
        return fine, coarse.mean((2, 3))

    @torch.no_grad()
    def standardize(self, fine: torch.Tensor, whole: torch.Tensor) -> None:
        """Take mean and spread of the features of many photos as the units of all features."""
        for name, values in (("fine", fine), ("whole", whole)):
            channels = values.float().transpose(0, 1).flatten(1)  # [C, B h w]
            getattr(self, f"{name}_mean").copy_(channels.mean(1))
            getattr(self, f"{name}_spread").copy_(channels.std(1) + 0.05)

    def forward(
        self,
        fine: torch.Tensor,  # [B, 120, 12, 12]
        whole: torch.Tensor,  # [B, 1280]
        elevation_deg: torch.Tensor,  # [B]
    ) -> tuple[torch.Tensor, torch.Tensor]:  # [count, B], [count, B]
        """Every head's ln(depth), and the logarithm of its expected absolute error."""
        fine = (fine - self.fine_mean[:, None, None]) / self.fine_spread[:, None, None]
        whole = (whole - self.whole_mean) / self.whole_spread
        height = (elevation_deg - ELEVATIONS_DEG[0]) / ELEVATIONS_DEG[1]
        height = torch.stack([height, height**2], -1)
        fine, whole = fine.clamp(-LIMIT, LIMIT), whole.clamp(-LIMIT, LIMIT) / LIMIT
        guess, error = torch.stack([head(fine, whole, height) for head in self.heads]).unbind(-1)
        return guess, error.clamp(-3, 2)

    @torch.no_grad()
    def guess(self, rgba: np.ndarray, elevation_deg: float) -> float:
        """The depth of the object of a photo [S, S, 4] (straight alpha in [0, 1], framed by prep).

        The mean of what all heads read off the photo and off its mirror image.
        """
        picture = torch.from_numpy(rgba).to(self.device, torch.float32).permute(2, 0, 1)[None]
        photo = PixelCodec(SIDE).to(self.device).encode(picture)
        fine, whole = self.features(torch.cat([photo, photo.flip(-1)]))
        guesses, _ = self(fine, whole, torch.full((2,), elevation_deg, device=self.device))
        return math.exp(guesses.mean().item())


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
