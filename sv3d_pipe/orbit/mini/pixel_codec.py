"""The pixel codec: what stands in for a VAE when a model paints small RGBA pictures directly."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config


class PixelCodec(ModelMixin, ConfigMixin):
    """Straight-alpha RGBA pictures to latents and back; nothing in it is learned.

    A latent is the premultiplied picture, area-averaged to ``size``, mapped from [0, 1] to [-1, 1]:
    an empty background is -1 in all four channels.
    """

    __module__ = "sv3d_pipe"  # what saved models call it by

    @register_to_config
    def __init__(self, size: int = 64):
        super().__init__()
        # diffusers asks a model's tensors for its device, so the one constant is kept as a buffer.
        self.register_buffer("span", torch.tensor(2.0))

    def encode(
        self,
        rgba: torch.Tensor,  # [N, 4, S, S] in [0, 1], straight alpha
    ) -> torch.Tensor:  # [N, 4, size, size]
        size = self.config.size
        premultiplied = torch.cat([rgba[:, :3] * rgba[:, 3:], rgba[:, 3:]], 1)
        if rgba.shape[-1] != size:
            premultiplied = F.interpolate(premultiplied, (size, size), mode="area")
        return premultiplied * self.span - 1

    def decode(
        self,
        latents: torch.Tensor,  # [N, 4, size, size]
    ) -> torch.Tensor:  # [N, 4, size, size] in [0, 1], straight alpha
        premultiplied = ((latents + 1) / self.span).clamp(0, 1)
        alpha = premultiplied[:, 3:]
        rgb = (premultiplied[:, :3] / alpha.clamp(min=1e-3)).clamp(0, 1)
        return torch.cat([rgb, alpha], 1)
