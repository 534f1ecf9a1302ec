"""Features of a classifier (sv3d_pipe.efficientnet) that knows what things are, as mini and its depth guesser read them."""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import nn

from sv3d_pipe.efficientnet import STAGES, Convolution, Trunk, load_published

SIDE = 192  # of the picture as it is looked at
FINE_STAGE = 5  # the last of stride 16
FINE, FINE_SIDE = 120, 12  # channels and side of the finer features
COARSE = 1280  # channels of the coarser ones, 6 x 6
LIMIT = 4.0  # standard deviations at which features are cut off


def look(
    photo: torch.Tensor,  # [B, 4, SIDE, SIDE] premultiplied in [-1, 1], as a PixelCodec encodes it
) -> tuple[torch.Tensor, torch.Tensor]:  # [B, 120, 12, 12], [B, 1280]
    """What the network sees in the parts of a photo, and in all of it."""
    fine, coarse = recognizer(photo.device)(photo)
    return fine, coarse.mean((2, 3))


class Units(nn.Module):
    """Mean and spread of :func:`look`'s features, the units in which networks read them."""

    def __init__(self):
        super().__init__()
        for name, channels in (("fine", FINE), ("whole", COARSE)):
            self.register_buffer(f"{name}_mean", torch.zeros(channels))
            self.register_buffer(f"{name}_spread", torch.ones(channels))

    @torch.no_grad()
    def take(self, fine: torch.Tensor, whole: torch.Tensor) -> None:
        """Take the mean and spread of the features of many photos, [N, 120, 12, 12] and [N, 1280]."""
        for name, values in (("fine", fine), ("whole", whole)):
            channels = values.float().transpose(0, 1).flatten(1)  # [C, N h w]
            getattr(self, f"{name}_mean").copy_(channels.mean(1))
            getattr(self, f"{name}_spread").copy_(channels.std(1) + 0.05)

    def forward(
        self,
        fine: torch.Tensor,  # [B, 120, 12, 12]
        whole: torch.Tensor,  # [B, 1280]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Features in these units: ``fine`` within LIMIT, ``whole`` within 1."""
        fine = (fine - self.fine_mean[:, None, None]) / self.fine_spread[:, None, None]
        whole = (whole - self.whole_mean) / self.whole_spread
        return fine.clamp(-LIMIT, LIMIT), whole.clamp(-LIMIT, LIMIT) / LIMIT


@functools.cache
def recognizer(device: torch.device) -> Recognizer:
    """The network with its published weights, loaded once."""
    network = Recognizer()
    load_published(network)
    return network.to(device, memory_format=torch.channels_last)  # 1.6 times as fast on a CPU in bfloat16


class Recognizer(Trunk):
    """A picture of an object to features of stride 16 and 32. Never trained here."""

    def __init__(self):
        super().__init__()
        self.head = Convolution(STAGES[-1][0], COARSE, 1)
        self.requires_grad_(False)

    @torch.no_grad()
    def forward(
        self,
        photo: torch.Tensor,  # [B, 4, SIDE, SIDE] premultiplied in [-1, 1], as a PixelCodec encodes it
    ) -> tuple[torch.Tensor, torch.Tensor]:  # [B, 120, 12, 12], [B, 1280, 6, 6]
        """Features of the picture on white."""
        rgba = (photo / 2 + 0.5).clamp(0, 1)
        x = self.enter((rgba[:, :3] + 1 - rgba[:, 3:]).clamp(0, 1))
        for number, stage in enumerate(self.stages, 1):
            x = stage(x)
            if number == FINE_STAGE:
                fine = x
        return fine, F.relu6(self.head(x))
