"""What a denoiser is told of its photo besides the pixels: what a classifier sees in it, and how deep its object is.

A thousand training objects do not teach what the back of a thing looks like, nor how deep it is. Features of a
network that has seen more of the world generalize better than pixels, as those of DINO do in LRM (arXiv 2311.04400,
section 3.1). All of it travels as one token, in the place of SV3D's CLIP embedding.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from sv3d_pipe.orbit.mini.recognizer import COARSE, FINE, FINE_SIDE, Units

PARTS = (FINE * FINE_SIDE**2, COARSE, 1)  # numbers of a token: fine features, those of the whole, ln(depth)
TOKEN = sum(PARTS)
USUAL_DEPTH = 0.7  # told where nothing guesses: exp of the training photos' mean ln(depth), -0.35
DROPPED = 0.1  # share of features withheld while training
RECALLED = 128  # of what is read off the whole photo
# Half the volume's extent along the photo's level line of sight, per depth: prep lets the object fill 0.8 of the
# frame's half width, 1. Limits: grid cells not too flat, and little beyond what frames show.
ROOM, LEAST_EXTENT, LARGEST_EXTENT = 1.25, 0.4, 1.25


def knowledge_token(
    fine: torch.Tensor,  # [B, 120, 12, 12]
    whole: torch.Tensor,  # [B, 1280]
    depth: torch.Tensor,  # [B] as geometry.extent.relative_depth
) -> torch.Tensor:  # [B, 1, TOKEN] float32
    """Features of :func:`sv3d_pipe.orbit.mini.recognizer.look` and a depth as one token."""
    ln_depth = depth.to(fine.device, torch.float32).log()[:, None]
    return torch.cat([fine.float().flatten(1), whole.float(), ln_depth], 1)[:, None]


def with_depths(
    token: torch.Tensor,  # [1, 1, TOKEN]
    depth: torch.Tensor,  # [n]
) -> torch.Tensor:  # [n, 1, TOKEN]
    """What is seen stays, how deep it is changes."""
    tokens = token.repeat(len(depth), 1, 1)
    tokens[:, 0, -1] = depth.to(token).log()
    return tokens


def stretch(
    token: torch.Tensor,  # [B, 1, TOKEN]; zeros where nothing is known
) -> torch.Tensor:  # [B, 1, 1, 3]
    """Half extents of the volume: 1 across, and along z what suits the depth that is told; 1 if none is."""
    depth = (ROOM * token[:, 0, -1].float().exp()).clamp(LEAST_EXTENT, LARGEST_EXTENT)
    depth = torch.where(is_known(token), depth, 1.0)
    return torch.stack([torch.ones_like(depth), torch.ones_like(depth), depth], -1)[:, None, None]


def is_known(token: torch.Tensor) -> torch.Tensor:  # [B, 1, TOKEN] -> [B] bool
    """False for the zeros that stand for no photo."""
    return (token != 0).any(-1)[:, 0]


class Knowledge(nn.Module):
    """A token as additions to the noise embedding and to the photo's coarsest features; at first both are 0.

    Args:
        width: channels of those features. embedding: size of that embedding.
    """

    def __init__(self, width: int, embedding: int):
        super().__init__()
        self.units = Units()
        self.enter = nn.Conv2d(FINE, width, 1)
        self.place = nn.Parameter(torch.zeros(width, FINE_SIDE, FINE_SIDE))
        self.mix = nn.Sequential(nn.GroupNorm(8, width), nn.Conv2d(width, width, 3, padding=1), nn.SiLU())
        self.leave = nn.Conv2d(width, width, 1)
        # Linear layers as convolutions, which Muon leaves alone: its steps are too large for layers that start at 0.
        self.recall = nn.Conv2d(COARSE, RECALLED, 1)
        self.tell = nn.Conv2d(RECALLED + 2, embedding, 1)
        for layer in (self.leave, self.tell):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(
        self,
        token: torch.Tensor,  # [B, 1, TOKEN]; zeros where nothing is known
        side: int,
    ) -> tuple[torch.Tensor, torch.Tensor]:  # [B, embedding], [B, width, side, side]
        fine, whole, ln_depth = token[:, 0].float().split(PARTS, 1)
        known = is_known(token).float()[:, None]
        fine, whole = self.units(fine.unflatten(1, (FINE, FINE_SIDE, FINE_SIDE)), whole)
        fine = F.dropout2d(fine, DROPPED, self.training)
        x = F.silu(self.enter(fine) + self.place)
        seen = self.leave(x + self.mix(x)).float() * known[..., None, None]
        doubled = F.interpolate(seen, scale_factor=2, mode="bilinear")  # 24 is a multiple of mini's 8
        whole = F.dropout(whole, DROPPED, self.training)
        recalled = F.silu(self.recall(whole[..., None, None]).float())[..., 0, 0] * known
        told = self.tell(torch.cat([recalled, ln_depth, ln_depth**2], 1)[..., None, None])[..., 0, 0]
        return told.float(), F.adaptive_avg_pool2d(doubled, side)
