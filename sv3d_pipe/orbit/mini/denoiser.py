"""The denoiser of the built-in model: it thinks in a volume, so that its frames agree.

The photo's features are unprojected into a voxel grid, a small 3D network with attention fills
in the unseen, and every frame is volume-rendered from that one grid; a convolutional head adds
what is finer than a voxel. Unprojecting noisy views into a volume follows SyncDreamer
(arXiv 2309.03453, section 4.2); denoising by reconstructing and rendering follows DMV3D
(arXiv 2311.09217, section 3.1). Pose conditioning is that of sv3d-p: polar angle and azimuth of
every frame, the photo being the last. What is known of the photo besides its pixels
(sv3d_pipe.orbit.mini.knowledge) may be told as a token.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import nn

from sv3d_pipe.orbit.mini.knowledge import TOKEN, Knowledge, stretch
from sv3d_pipe.orbit.mini.volume_render import render_volume
from sv3d_pipe.orbit.mini.voxels import (
    CAMERA_DISTANCE,
    frame_axes,
    project,
    ray_points,
    unproject,
    voxel_centers,
)

RENDERED = 8  # channels of the volume: rgb, density, four features for the head
PURE_SIGMA = 700.0  # the largest noise level: nothing is left of the frames
SUBPIXELS = 4  # per pixel and axis of a silhouette
# Density, per radius of the visible sphere, of what is as likely as not solid; best of 1, 1.5 and 2 (mini's card).
SOLID = 2.0


class VolumeDenoiser(ModelMixin, ConfigMixin):
    """Velocity prediction for T RGBA frames of one object, with the call of diffusers' video UNets.

    Args:
        size: side of the frames.
        grid: voxels per side of the volume; half and quarter of it carry most of the work.
        channels: width at ``grid`` and at ``grid / 2``.
        mid_depth: convolution blocks at ``grid / 2`` before the transformer, and after it.
        width, depth, heads: transformer over the ``grid / 4`` voxels and the photo's tokens.
        ray_samples: samples along each rendered ray.
        knows: whether it is told of the photo's object, by tokens of
            :func:`sv3d_pipe.orbit.mini.knowledge.knowledge_token`.
    """

    __module__ = "sv3d_pipe"  # what saved models call it by

    @register_to_config
    def __init__(
        self,
        size: int = 64,
        grid: int = 32,
        channels: tuple[int, int] = (16, 48),
        width: int = 192,
        depth: int = 4,
        heads: int = 4,
        ray_samples: int = 32,
        knows: bool = False,
        mid_depth: int = 2,
    ):
        super().__init__()
        fine, mid = channels
        self.noise = nn.Sequential(nn.Linear(64, 128), nn.SiLU(), nn.Linear(128, 128), nn.SiLU())
        self.photo = PhotoEncoder(fine, mid, width)
        self.frame = nn.Conv2d(4, mid // 2, 4, stride=2, padding=1)
        self.frame_gate = nn.Linear(128, mid // 2)
        self.enter = nn.Conv3d(2 * fine + 5, fine, 1)
        self.fine_in = VoxelBlock(fine, 128)
        self.to_mid = nn.Conv3d(fine, mid, 2, stride=2)
        self.from_frames = nn.Conv3d(mid, mid, 1)
        self.mid_in = nn.ModuleList(VoxelBlock(mid, 128) for _ in range(mid_depth))
        self.to_coarse = nn.Conv3d(mid, width, 2, stride=2)
        self.place = nn.Parameter(torch.randn((grid // 4) ** 3, width) * 0.02)
        self.blocks = nn.ModuleList(TokenBlock(width, heads, 128) for _ in range(depth))
        self.from_coarse = nn.Conv3d(width, mid, 1)
        self.mid_out = nn.ModuleList(VoxelBlock(mid, 128) for _ in range(mid_depth))
        self.from_mid = nn.Conv3d(mid, fine, 1)
        self.fine_out = VoxelBlock(fine, 128)
        self.leave = nn.Conv3d(fine, RENDERED + 1, 1)
        self.head = FrameHead(RENDERED + 4, 32, 128)
        self.knowledge = Knowledge(width, 128) if knows else None

    def forward(
        self,
        sample: torch.Tensor,  # [B, T, 8, S, S] noisy frames * c_in, image latent
        timestep: torch.Tensor,  # scalar or [B], c_noise = ln(sigma) / 4
        encoder_hidden_states: torch.Tensor | None,  # [B, 1, TOKEN], or None: nothing is told
        added_time_ids: torch.Tensor,  # [B, T, 3] cond_aug, polar, azimuth (radians); the photo is last
        return_dict: bool = False,
    ) -> tuple[torch.Tensor]:  # ([B, T, 4, S, S],) velocity
        sigma = torch.exp(4 * torch.as_tensor(timestep, dtype=torch.float32, device=sample.device))
        sigma = sigma.expand(sample.shape[0])
        s = sigma[:, None, None, None, None]
        noisy = sample[:, :, :4] * (s**2 + 1).sqrt()
        photo, pose = sample[:, 0, 4:], added_time_ids[..., 1:]
        denoised = self.denoise(noisy, sigma, photo, pose, encoder_hidden_states)
        # EDM with velocity prediction: D = c_skip x + c_out F, so F = (x c_skip - D) / |c_out|.
        return ((noisy / (s**2 + 1) - denoised) * (s**2 + 1).sqrt() / s,)

    def denoise(
        self,
        noisy: torch.Tensor,  # [B, T, 4, S, S] clean + sigma * noise
        sigma: torch.Tensor,  # [B]
        photo: torch.Tensor,  # [B, 4, S, S] image latent
        pose: torch.Tensor,  # [B, T, 2] polar, azimuth in radians
        token: torch.Tensor | None = None,  # [B, 1, TOKEN]
    ) -> torch.Tensor:  # [B, T, 4, S, S]
        """The expected clean frames."""
        axes = _axes(pose)
        embedding, known, extents = self._told(sigma, photo, token)
        scaled = noisy / (sigma**2 + 1).sqrt()[:, None, None, None, None]  # unit variance
        volume = self._volume(scaled, photo, axes, embedding, known, extents)  # [B, 8, G, G, G]
        side, ray_samples = self.config.size // 2, self.config.ray_samples
        rendered = render_volume(volume, axes / extents, side, ray_samples)  # [B, T, 8, S/2, S/2]
        up = F.interpolate(rendered.flatten(0, 1), scale_factor=2, mode="bilinear")
        inputs = torch.cat([up, scaled.flatten(0, 1)], 1)
        inputs = inputs.to(memory_format=torch.channels_last)  # faster on the CPU
        residual = self.head(inputs, embedding.repeat_interleave(noisy.shape[1], 0))
        return (up[:, :4] * 2 - 1 + residual).view_as(noisy)

    @torch.no_grad()
    def silhouettes(
        self,
        photo: torch.Tensor,  # [1, 4, S, S] image latent
        pose: torch.Tensor,  # [T, 2] polar, azimuth in radians
        tokens: torch.Tensor | None = None,  # [n, 1, TOKEN], equally likely
    ) -> torch.Tensor:  # [T, S, S] in [0, 1]
        """Masks with sharp edges of one solid, from what the frames are when they are pure noise.

        A voxel of density d is taken to be solid with a probability of 1 - 2^(-d / SOLID), the mean of that over
        the tokens; the solid is what has half of the largest.
        """
        size, axes, count = self.config.size, _axes(pose[None]), 1 if tokens is None else len(tokens)
        generator = torch.Generator(photo.device).manual_seed(0)
        noise = torch.randn((1, len(pose), 4, size, size), generator=generator, device=photo.device)
        sigma = torch.full((count,), PURE_SIGMA, device=photo.device)
        photos = photo.expand(count, -1, -1, -1)
        embedding, known, extents = self._told(sigma, photos, tokens)
        many = noise.expand(count, -1, -1, -1, -1), photos, axes.expand(count, -1, -1, -1)
        density = self._volume(*many, embedding, known, extents)[:, 3:4]  # [n, 1, G, G, G]
        solid = 1 - torch.exp2(-density / SOLID)
        likely = torch.zeros((), device=photo.device)
        for one, extent in zip(solid, extents):
            points = ray_points(axes[0] / extent, size, 2 * self.config.grid)  # [T, S * S, 2 G, 3]
            likely = likely + F.grid_sample(one[None], points[None], align_corners=False)[0, 0] / count
        largest = likely.amax(-1).view(-1, 1, size, size)
        fine = F.interpolate(largest, scale_factor=SUBPIXELS, mode="bilinear")
        return F.avg_pool2d((fine > likely.max() / 2).float(), SUBPIXELS)[:, 0]

    def _told(self, sigma, photo, token):
        """Embedding [B, 128], what is known of the photo [B, width, S/8, S/8], half extents of the volume.

        With axes times the extents [B, 1, 1, 3], voxels in [-1, 1]^3 are projected to where they lie in the
        world; with axes divided by them, the world's rays run through [-1, 1]^3.
        """
        embedding = self.noise(noise_waves(sigma.log() / 4, 64))
        if self.knowledge is None:
            return embedding, None, photo.new_ones(len(photo), 1, 1, 3)
        if token is None:
            token = photo.new_zeros(len(photo), 1, TOKEN)
        told, known = self.knowledge(token, photo.shape[-1] // 8)
        return embedding + told, known, stretch(token)

    def _volume(self, scaled, photo, axes, embedding, known, extents):
        grid = self.config.grid
        axes = axes * extents
        tokens, near_map, wide_map = self.photo(photo, known)
        where, depth = project(voxel_centers(grid, photo.device), axes[:, -1:])  # [B, 1, G^3, 2], [B, 1, G^3]
        seen = [unproject(m[:, None], where).mean(1) for m in (near_map, wide_map)]  # each [B, C, G^3]
        coordinates = voxel_centers(grid, photo.device).T * extents[:, 0].mT  # [B, 3, G^3], in the world
        rgba = unproject(photo[:, None], where)[:, 0] / 2 + 0.5  # [B, 4, G^3], premultiplied
        x = torch.cat([*seen, rgba[:, 3:] * 2 - 1, depth - CAMERA_DISTANCE, coordinates], 1)
        x = fine = self.fine_in(self.enter(x.unflatten(2, (grid,) * 3)), embedding)
        x = self.to_mid(x) + self.from_frames(self._frames_in_volume(scaled, axes, embedding))
        for block in self.mid_in:
            x = block(x, embedding)
        mid = x
        x = self.to_coarse(x).flatten(2).transpose(1, 2) + self.place  # [B, (G/4)^3, width]
        x = torch.cat([x, tokens], 1)
        for block in self.blocks:
            x = block(x, embedding)
        x = x[:, : len(self.place)].transpose(1, 2).unflatten(2, (grid // 4,) * 3)
        x = mid + F.interpolate(self.from_coarse(x), scale_factor=2, mode="nearest")
        for block in self.mid_out:
            x = block(x, embedding)
        x = self.fine_out(fine + F.interpolate(self.from_mid(x), scale_factor=2, mode="nearest"), embedding)
        x = self.leave(x).float()
        density = F.softplus(x[:, 3:4] - 4) * (self.config.grid / 4)
        in_photo = (rgba[:, :3] / rgba[:, 3:].clamp(min=0.05)).clamp(0, 1).unflatten(2, (grid,) * 3)
        rgb = torch.lerp(x[:, :3].sigmoid(), in_photo.float(), x[:, 8:].sigmoid())
        return torch.cat([rgb, density, x[:, 4:8]], 1)

    def _frames_in_volume(self, scaled, axes, embedding):
        """Mean and spread over the noisy frames of their features at each mid voxel: [B, mid, G/2, ...]."""
        grid = self.config.grid // 2
        gate = self.frame_gate(embedding)[:, None, :, None, None]
        maps = self.frame(scaled.flatten(0, 1)).unflatten(0, scaled.shape[:2]) * gate
        where, _ = project(voxel_centers(grid, scaled.device), axes)
        values = unproject(F.silu(maps), where)  # [B, T, mid / 2, (G/2)^3]
        mean = values.mean(1)
        spread = values.square().mean(1) - mean.square()
        return torch.cat([mean, spread], 1).unflatten(2, (grid,) * 3)


class PhotoEncoder(nn.Module):
    """The photo as tokens [B, 64, width] and feature maps of narrow and wide context, ``fine`` channels each."""

    def __init__(self, fine: int, mid: int, width: int):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(4, fine, 3, padding=1), nn.SiLU(), nn.Conv2d(fine, fine, 3, padding=1)
        )
        self.down = nn.ModuleList(
            nn.Sequential(
                nn.SiLU(),
                nn.Conv2d(a, b, 4, stride=2, padding=1),
                nn.GroupNorm(8, b),
                nn.SiLU(),
                nn.Conv2d(b, b, 3, padding=1),
            )
            for a, b in ((fine, mid), (mid, 2 * mid), (2 * mid, width))
        )
        self.up = nn.ModuleList(
            nn.Conv2d(a, b, 1) for a, b in ((width, 2 * mid), (2 * mid, mid), (mid, fine))
        )
        self.wide = nn.Sequential(nn.SiLU(), nn.Conv2d(fine, fine, 3, padding=1))
        self.place = nn.Parameter(torch.randn(64, width) * 0.02)

    def forward(self, photo: torch.Tensor, known: torch.Tensor | None):  # [B, 4, S, S], [B, width, S/8, S/8]
        x = self.stem(photo)
        levels = [x]
        for layer in self.down:
            levels.append(layer(levels[-1]))
        if known is not None:
            levels[-1] = levels[-1] + known
        tokens = F.adaptive_avg_pool2d(levels[-1], 8).flatten(2).transpose(1, 2) + self.place
        wide = levels[-1]
        for layer, skip in zip(self.up, levels[2::-1]):
            wide = skip + F.interpolate(layer(wide), scale_factor=2, mode="bilinear")
        return tokens, x, self.wide(wide)


class VoxelBlock(nn.Module):
    """Residual 3D convolution, normed and modulated by the noise embedding."""

    def __init__(self, channels: int, embedding: int):
        super().__init__()
        self.norm = nn.GroupNorm(8, channels)
        self.modulate = nn.Linear(embedding, 2 * channels)
        self.conv = nn.Conv3d(channels, channels, 3, padding=1)
        self.mix = nn.Conv3d(channels, channels, 1)

    def forward(self, x, embedding):  # [B, C, G, G, G], [B, E]
        scale, shift = self.modulate(embedding)[..., None, None, None].chunk(2, 1)
        return x + self.mix(F.silu(self.conv(F.silu(self.norm(x) * (1 + scale) + shift))))


class TokenBlock(nn.Module):
    """Self-attention and MLP with adaptive layer norm (DiT, arXiv 2212.09748, section 3.2)."""

    def __init__(self, width: int, heads: int, embedding: int):
        super().__init__()
        self.heads = heads
        self.modulate = nn.Linear(embedding, 4 * width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x, embedding):  # [B, N, width], [B, E]
        scale_a, shift_a, scale_b, shift_b = self.modulate(embedding)[:, None].chunk(4, -1)
        h = F.layer_norm(x, x.shape[-1:]) * (1 + scale_a) + shift_a
        q, k, v = self.qkv(h).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        x = x + self.out(_attention(q, k, v).transpose(1, 2).flatten(2))
        h = F.layer_norm(x, x.shape[-1:]) * (1 + scale_b) + shift_b
        return x + self.mlp(h)


def _attention(q, k, v):  # each [B, heads, N, D]
    if q.device.type == "cpu":  # where the fused kernel takes twice as long to train in bfloat16
        return (q * q.shape[-1] ** -0.5 @ k.mT).softmax(-1) @ v
    return F.scaled_dot_product_attention(q, k, v)


class FrameHead(nn.Module):
    """What the volume cannot hold: a small residual picture per frame, zero at the start of training."""

    def __init__(self, inputs: int, width: int, embedding: int):
        super().__init__()
        self.enter = nn.Conv2d(inputs, width, 3, padding=1)
        self.modulate = nn.Linear(embedding, 2 * width)
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.leave = nn.Conv2d(width, 4, 3, padding=1)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, x, embedding):  # [N, inputs, S, S], [N, E]
        scale, shift = self.modulate(embedding)[..., None, None].chunk(2, 1)
        x = F.silu(self.enter(x) * (1 + scale) + shift)
        return self.leave(F.silu(self.conv(x))).float()


def _axes(pose: torch.Tensor) -> torch.Tensor:
    """Camera axes [B, T, 3, 3] of poses [B, T, 2] in a world where the photo, the last, has azimuth 0."""
    return frame_axes(pose[..., 0], pose[..., 1] - pose[:, -1:, 1])


def noise_waves(x: torch.Tensor, size: int) -> torch.Tensor:
    """[B] -> [B, size] cosines and sines of frequencies from 1/8 to 32 (noise levels span about 3)."""
    frequencies = torch.exp(torch.linspace(math.log(0.125), math.log(32.0), size // 2, device=x.device))
    angles = x[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], -1)
