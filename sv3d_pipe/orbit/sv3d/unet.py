"""SV3D's UNet on diffusers' modules: what differs from the stock video UNet, and nothing else."""

from __future__ import annotations

import functools

import torch
from diffusers import UNetSpatioTemporalConditionModel
from diffusers.models.resnet import ResnetBlock2D, TemporalResnetBlock

from sv3d_pipe.orbit.sv3d.photo_input import sinusoid

RESIDUAL_EPS = 1e-5  # in every residual block (sgm: video_model.py); diffusers builds some with 1e-6


class StableVideo3DUNet(UNetSpatioTemporalConditionModel):
    """The video UNet of sv3d-u and sv3d-p (arXiv 2403.12008, section 3.1).

    It has the stock UNet's parameters and settings, and three differences:

    1. The extra numbers are given per frame and embedded per frame, not once per video.
    2. Each number has a sinusoid of its own width (:attr:`widths`): 256 for the noise on the photo; for
       sv3d-p also 512 for the polar angle and 512 for the azimuth.
    3. The norms of all residual blocks use 1e-5. The entry norms of transformers keep 1e-6.
    """

    __module__ = "sv3d_pipe"  # what saved models call it by

    @functools.wraps(UNetSpatioTemporalConditionModel.__init__)
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        for block in self.modules():
            if isinstance(block, (ResnetBlock2D, TemporalResnetBlock)):
                block.norm1.eps = block.norm2.eps = RESIDUAL_EPS

    @property
    def widths(self) -> tuple[int, ...]:
        """Sizes of the sinusoids of: noise on the photo[, polar angle, azimuth]."""
        first = self.config.addition_time_embed_dim
        pose = (self.config.projection_class_embeddings_input_dim - first) // 2
        return (first, pose, pose) if pose else (first,)

    def forward(
        self,
        sample: torch.Tensor,  # [B, T, 8, h, w] noisy latents * c_in, image latent
        timestep: torch.Tensor | float,  # scalar or [B], c_noise = ln(sigma) / 4
        encoder_hidden_states: torch.Tensor,  # [B, N, C] context tokens, the same for all frames
        added_time_ids: torch.Tensor,  # [B, T, 3] cond_aug, polar, azimuth (radians); u reads the first
        return_dict: bool = False,
    ) -> tuple[torch.Tensor]:  # ([B, T, 4, h, w],) velocity
        """Predict the velocity of all frames together."""
        videos, frames = sample.shape[:2]
        dtype = sample.dtype

        noise = torch.as_tensor(timestep, dtype=torch.float32, device=sample.device).expand(videos)
        vector = torch.cat(
            [sinusoid(added_time_ids[..., i], width) for i, width in enumerate(self.widths)], -1
        )
        embedding = self.time_embedding(self.time_proj(noise).to(dtype))[:, None]  # [B, 1, E]
        embedding = (embedding + self.add_embedding(vector.to(dtype))).flatten(0, 1)  # [B*T, E]
        tokens = encoder_hidden_states.repeat_interleave(frames, 0)  # [B*T, N, C]
        only_images = torch.zeros(videos, frames, dtype=dtype, device=sample.device)

        def run(block, x, **extra):
            if getattr(block, "has_cross_attention", False):
                extra["encoder_hidden_states"] = tokens
            return block(x, temb=embedding, image_only_indicator=only_images, **extra)

        x = self.conv_in(sample.flatten(0, 1))
        skips = (x,)
        for block in self.down_blocks:
            x, new = run(block, x)
            skips += new
        x = run(self.mid_block, x)
        for block in self.up_blocks:
            count = len(block.resnets)
            x = run(block, x, res_hidden_states_tuple=skips[-count:])
            skips = skips[:-count]
        x = self.conv_out(self.conv_act(self.conv_norm_out(x)))
        return (x.unflatten(0, (videos, frames)),)
