"""Small stand-ins for the networks of an orbit model, simple enough to be followed by hand."""

import numpy as np
import torch
from diffusers import AutoencoderKL, ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config

from sv3d_pipe.orbit.mini.pixel_codec import PixelCodec
from sv3d_pipe.orbit.mini.pixel_pipeline import MiniPipeline
from sv3d_pipe.orbit.schedulers import euler_scheduler
from sv3d_pipe.orbit.store.load import PARTS
from sv3d_pipe.orbit.sv3d.diffusion_pipeline import StableVideo3DPipeline
from sv3d_pipe.orbit.sv3d.unet import StableVideo3DUNet

PARTS["orbit_fakes"] = {"FormulaDenoiser", "FixedToken"}  # only what is listed is loaded from a folder


class FormulaDenoiser(ModelMixin, ConfigMixin):
    """A velocity that depends on everything a denoiser is told, and remembers what that was."""

    @register_to_config
    def __init__(self, strength: float = 0.3):
        super().__init__()
        self.gain = torch.nn.Parameter(torch.tensor(strength))
        self.calls = []

    def forward(self, sample, timestep, encoder_hidden_states, added_time_ids, return_dict=True):
        self.calls.append((sample, float(timestep), encoder_hidden_states, added_time_ids))
        pose = added_time_ids[..., 1:].cos().sum(-1)[..., None, None, None]
        noisy, image = sample[:, :, :4], sample[:, :, 4:]
        return (self.gain * noisy.tanh() + 0.2 * image + 0.1 * pose + 0.05 * timestep,)


def formula_pipeline(size: int = 8) -> MiniPipeline:
    pipeline = MiniPipeline(PixelCodec(size), FormulaDenoiser(), euler_scheduler())
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def half_disc(size: int = 16) -> np.ndarray:
    """[size, size, 4]: a disc, red on the left and blue on the right, on transparent background."""
    y, x = np.mgrid[:size, :size] + 0.5 - size / 2
    rgba = np.zeros((size, size, 4), np.float32)
    rgba[..., 0] = x < 0
    rgba[..., 2] = x >= 0
    rgba[..., 3] = x**2 + y**2 < (0.4 * size) ** 2
    return rgba


class FixedToken(ModelMixin, ConfigMixin):
    """Stands for a CLIP image tower: its token is the mean of each channel, then zeros."""

    @register_to_config
    def __init__(self):
        super().__init__()
        self.nothing = torch.nn.Parameter(torch.zeros(1))  # diffusers asks it for device and number format

    def forward(self, pixels):
        assert pixels.shape == (1, 3, 224, 224)
        token = torch.nn.functional.pad(pixels.mean((2, 3)), (0, 29))
        return type("Output", (), {"image_embeds": token})


def vae_pipeline(pose: bool = False) -> StableVideo3DPipeline:
    """A miniature of sv3d-u, or with ``pose`` of sv3d-p: random weights, frames of 64 px."""
    torch.manual_seed(0)
    unet = StableVideo3DUNet(
        sample_size=8,
        block_out_channels=(64, 64),
        down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
        layers_per_block=1,
        num_attention_heads=(2, 2),
        cross_attention_dim=32,
        addition_time_embed_dim=32,
        projection_class_embeddings_input_dim=160 if pose else 32,
    )
    vae = AutoencoderKL(
        block_out_channels=(8, 8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
        norm_num_groups=4,
        scaling_factor=0.18215,
    )
    pipeline = StableVideo3DPipeline(vae.eval(), unet.eval(), euler_scheduler(), FixedToken())
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
