"""StableVideo3DPipeline: SV3D's own networks (arXiv 2403.12008), a video UNet between an image VAE and CLIP."""

from __future__ import annotations

import numpy as np
import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler

from sv3d_pipe.orbit.denoising_pipeline import OrbitPipeline, PhotoCondition
from sv3d_pipe.orbit.memory_plan import Plan
from sv3d_pipe.orbit.sv3d.photo_input import clip_pixels, photo_on_white
from sv3d_pipe.orbit.sv3d.unet import StableVideo3DUNet

TILE = 32  # latents per side of a tile of the VAE: 256 px


class StableVideo3DPipeline(OrbitPipeline):
    """Paints frames on white: sv3d-u, sv3d-p and what was fine-tuned from them.

    Args:
        unet: :class:`StableVideo3DUNet`.
        scheduler: see :func:`sv3d_pipe.orbit.schedulers.euler_scheduler`.
        image_encoder: ``CLIPVisionModelWithProjection``.
        steps, guidance: sampling steps and largest guidance scale that suit the model.
    Attributes:
        frames_per_decode: frames that the VAE decodes at a time.
    """

    __module__ = "sv3d_pipe"  # what saved models call it by
    model_cpu_offload_seq = "image_encoder->unet->vae"
    _optional_components = ["image_encoder"]
    paints_alpha = False

    def __init__(
        self,
        vae: AutoencoderKL,
        unet: StableVideo3DUNet,
        scheduler: EulerDiscreteScheduler,
        image_encoder: torch.nn.Module | None = None,
        steps: int = 50,
        guidance: float = 2.5,
    ):
        parts = {"vae": vae, "unet": unet, "scheduler": scheduler, "image_encoder": image_encoder}
        super().__init__(parts, steps, guidance)
        self.frames_per_decode = 1

    def adopt(self, plan: Plan, device: str) -> None:
        """Be set up as planned: the VAE too, its tiles and how many frames it decodes at a time."""
        self.frames_per_decode = plan.chunk
        self.vae.use_tiling = plan.tiled
        self.vae.tile_latent_min_size = TILE
        self.vae.tile_sample_min_size = TILE * 2 ** (len(self.vae.config.block_out_channels) - 1)
        super().adopt(plan, device)

    @property
    def takes_pose(self) -> bool:
        """False for a UNet whose extra numbers are the noise on the photo alone (sv3d-u)."""
        return len(self.unet.widths) > 1

    @property
    def size(self) -> int:
        """Side of the frames that the model was made for, in pixels."""
        return self.unet.config.sample_size * 2 ** (len(self.vae.config.block_out_channels) - 1)

    @property
    def size_step(self) -> int:
        """Frames may have any side that is a multiple of this: 64 for SV3D."""
        halvings = len(self.vae.config.block_out_channels) + len(self.unet.config.block_out_channels) - 2
        return 2**halvings

    def frame_size(self, size: int = 0) -> int:
        """``size`` if it is a multiple of :attr:`size_step`; 0 is the model's own. Raises ValueError."""
        if size % self.size_step:
            raise ValueError(
                f"the frame size of this model must be a multiple of {self.size_step}, not {size}"
            )
        return size or self.size

    def photo_frame(self, rgba: np.ndarray, size: int) -> np.ndarray:
        return photo_on_white(rgba, size)

    @torch.no_grad()
    def encode_photo(
        self,
        rgba: np.ndarray,  # [S, S, 4] float32 in [0, 1]
        elevation_deg: float,
        cond_aug: float = 0.0,
        generator: torch.Generator | None = None,
        size: int = 0,
    ) -> PhotoCondition:
        """The mode of the VAE's latent, unscaled, and CLIP's embedding. The elevation plays no part."""
        white = torch.from_numpy(photo_on_white(rgba, self.frame_size(size))).to(self._execution_device)
        picture = (white * 2 - 1).permute(2, 0, 1)[None]  # [1, 3, S, S]
        noisy = picture + cond_aug * self.draw(picture.shape, generator) if cond_aug > 0 else picture
        latents = self.vae.encode(noisy.to(self.vae.dtype)).latent_dist.mode()
        token = None
        if self.image_encoder is not None:
            pixels = clip_pixels(picture).to(self.image_encoder.dtype)
            token = self.image_encoder(pixels).image_embeds[:, None]
        return PhotoCondition(latents.float(), token)

    def encode_frames(
        self,
        rgba: torch.Tensor,  # [N, S, S, 4] in [0, 1], straight alpha
    ) -> torch.Tensor:  # [N, 4, h, w]
        """Frames on white to scaled latents; differentiable. The VAE takes them in their size."""
        rgba = rgba.permute(0, 3, 1, 2)
        white = rgba[:, :3] * rgba[:, 3:] + 1 - rgba[:, 3:]
        latents = self.vae.encode((white * 2 - 1).to(self.vae.dtype)).latent_dist.mode()
        return latents.float() * self.vae.config.scaling_factor

    def decode_frames(
        self,
        latents: torch.Tensor,  # [N, 4, h, w]
    ) -> torch.Tensor:  # [N, S, S, 3] RGB on white, in [0, 1]
        """Latents to frames, ``frames_per_decode`` at a time: the VAE's memory grows with them."""
        latents = (latents / self.vae.config.scaling_factor).to(self.vae.dtype)
        chunks = latents.split(self.frames_per_decode)
        frames = torch.cat([self.vae.decode(chunk).sample.float() for chunk in chunks])
        return (frames / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)
