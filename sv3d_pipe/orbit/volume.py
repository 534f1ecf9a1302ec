"""The denoiser of the built-in model: it thinks in a volume, so that its frames agree.

The photo's features are unprojected into a voxel grid, a small 3D network with attention fills
in the unseen, and every frame is volume-rendered from that one grid; a convolutional head adds
what is finer than a voxel. Unprojecting noisy views into a volume follows SyncDreamer
(arXiv 2309.03453, section 4.2); denoising by reconstructing and rendering follows DMV3D
(arXiv 2311.09217, section 3.1). Pose conditioning is that of sv3d-p: polar angle and azimuth of
every frame, the photo being the last.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import nn

from sv3d_pipe.cameras import FOV_DEG

# Lengths are in units of the visible sphere's radius: the grid spans [-1, 1]^3.
CAMERA_DISTANCE = 1 / math.sin(math.radians(FOV_DEG) / 2)
FOCAL = 1 / math.tan(math.radians(FOV_DEG) / 2)  # in half image widths
RENDERED = 8  # channels of the volume: rgb, density, four features for the head


def frame_axes(polar: torch.Tensor, azimuth: torch.Tensor) -> torch.Tensor:
    """Camera axes in the world of sv3d_pipe.cameras.

    Args:
        polar, azimuth: [..., ] radians; polar is measured from +y.
    Returns:
        [..., 3, 3] whose rows are right, up and back (towards the camera).
    """
    zero = torch.zeros_like(polar)
    back = torch.stack([polar.sin() * azimuth.sin(), polar.cos(), polar.sin() * azimuth.cos()], -1)
    right = torch.stack([azimuth.cos(), zero, -azimuth.sin()], -1)
    return torch.stack([right, torch.linalg.cross(back, right), back], -2)


class VolumeDenoiser(ModelMixin, ConfigMixin):
    """Velocity prediction for T RGBA frames of one object, with the call of diffusers' video UNets.

    Args:
        size: side of the frames.
        grid: voxels per side of the volume; half and quarter of it carry most of the work.
        channels: width at ``grid`` and at ``grid / 2``.
        width, depth, heads: transformer over the ``grid / 4`` voxels and the photo's tokens.
        ray_samples: samples along each rendered ray.
    """

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
        self.mid_in = nn.ModuleList(VoxelBlock(mid, 128) for _ in range(2))
        self.to_coarse = nn.Conv3d(mid, width, 2, stride=2)
        self.place = nn.Parameter(torch.randn((grid // 4) ** 3, width) * 0.02)
        self.blocks = nn.ModuleList(TokenBlock(width, heads, 128) for _ in range(depth))
        self.from_coarse = nn.Conv3d(width, mid, 1)
        self.mid_out = nn.ModuleList(VoxelBlock(mid, 128) for _ in range(2))
        self.from_mid = nn.Conv3d(mid, fine, 1)
        self.fine_out = VoxelBlock(fine, 128)
        self.leave = nn.Conv3d(fine, RENDERED + 1, 1)
        self.head = FrameHead(RENDERED + 4, 32, 128)

    def forward(
        self,
        sample: torch.Tensor,  # [B, T, 8, S, S] noisy frames * c_in, image latent
        timestep: torch.Tensor,  # scalar or [B], c_noise = ln(sigma) / 4
        encoder_hidden_states: torch.Tensor | None,  # unused: the photo enters as image latent
        added_time_ids: torch.Tensor,  # [B, T, 3] cond_aug, polar, azimuth (radians); the photo is last
        return_dict: bool = False,
    ) -> tuple[torch.Tensor]:  # ([B, T, 4, S, S],) velocity
        sigma = torch.exp(4 * torch.as_tensor(timestep, dtype=torch.float32, device=sample.device))
        sigma = sigma.expand(sample.shape[0])
        s = sigma[:, None, None, None, None]
        noisy = sample[:, :, :4] * (s**2 + 1).sqrt()
        denoised = self.denoise(noisy, sigma, sample[:, 0, 4:], added_time_ids[..., 1:])
        # EDM with velocity prediction: D = c_skip x + c_out F, so F = (x c_skip - D) / |c_out|.
        return ((noisy / (s**2 + 1) - denoised) * (s**2 + 1).sqrt() / s,)

    def denoise(
        self,
        noisy: torch.Tensor,  # [B, T, 4, S, S] clean + sigma * noise
        sigma: torch.Tensor,  # [B]
        photo: torch.Tensor,  # [B, 4, S, S] image latent
        pose: torch.Tensor,  # [B, T, 2] polar, azimuth in radians
    ) -> torch.Tensor:  # [B, T, 4, S, S]
        """The expected clean frames."""
        pose = torch.stack([pose[..., 0], pose[..., 1] - pose[:, -1:, 1]], -1)
        axes = frame_axes(pose[..., 0], pose[..., 1])  # [B, T, 3, 3]
        embedding = self.noise(noise_waves(sigma.log() / 4, 64))  # [B, 128]
        scaled = noisy / (sigma**2 + 1).sqrt()[:, None, None, None, None]  # unit variance
        volume = self._volume(scaled, photo, axes, embedding)  # [B, 8, G, G, G]
        rendered = self._render(volume, axes)  # [B, T, 8, S/2, S/2]
        up = F.interpolate(rendered.flatten(0, 1), scale_factor=2, mode="bilinear")
        inputs = torch.cat([up, scaled.flatten(0, 1)], 1)
        residual = self.head(inputs, embedding.repeat_interleave(noisy.shape[1], 0))
        return (up[:, :4] * 2 - 1 + residual).view_as(noisy)

    def _volume(self, scaled, photo, axes, embedding):
        grid = self.config.grid
        tokens, near_map, wide_map = self.photo(photo)
        where, depth = project(voxel_centers(grid, photo.device), axes[:, -1:])  # [B, 1, G^3, 2], [B, 1, G^3]
        seen = [unproject(m[:, None], where).mean(1) for m in (near_map, wide_map)]  # each [B, C, G^3]
        coordinates = voxel_centers(grid, photo.device).T.expand(len(photo), 3, -1)
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

    def _render(self, volume, axes):
        """Volume rendering at half the frame size: premultiplied rgb, alpha, features [B, T, 8, S/2, S/2]."""
        batch, frames = axes.shape[:2]
        side, n = self.config.size // 2, self.config.ray_samples
        pixel = (torch.arange(side, device=volume.device) + 0.5) * (2 / side) - 1
        y, x = torch.meshgrid(-pixel, pixel, indexing="ij")
        camera = F.normalize(torch.stack([x, y, torch.full_like(x, -FOCAL)], -1), dim=-1)  # [s, s, 3]
        directions = torch.einsum("hwi,btij->bthwj", camera, axes)
        origins = CAMERA_DISTANCE * axes[:, :, 2]  # [B, T, 3]
        t = CAMERA_DISTANCE - 1 + (torch.arange(n, device=volume.device) + 0.5) * (2 / n)
        points = origins[:, :, None, None, None] + directions[..., None, :] * t[:, None]  # [B, T, s, s, n, 3]
        values = F.grid_sample(
            volume, points.view(batch, frames, side * side, n, 3), align_corners=False
        )  # [B, 8, T, s*s, n]
        optical = values[:, 3:4] * (2 / n)
        transmittance = torch.exp(optical - optical.cumsum(-1))
        weights = transmittance * (1 - torch.exp(-optical))
        rgb_features = (torch.cat([values[:, :3], values[:, 4:]], 1) * weights).sum(-1)  # [B, 7, T, s*s]
        alpha = weights.sum(-1)
        images = torch.cat([rgb_features[:, :3], alpha, rgb_features[:, 3:]], 1)
        return images.transpose(1, 2).unflatten(3, (side, side))


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

    def forward(self, photo: torch.Tensor):  # [B, 4, S, S]
        x = self.stem(photo)
        levels = [x]
        for layer in self.down:
            levels.append(layer(levels[-1]))
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
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = x + self.out(attended)
        h = F.layer_norm(x, x.shape[-1:]) * (1 + scale_b) + shift_b
        return x + self.mlp(h)


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


def noise_waves(x: torch.Tensor, size: int) -> torch.Tensor:
    """[B] -> [B, size] cosines and sines of frequencies from 1/8 to 32 (noise levels span about 3)."""
    frequencies = torch.exp(torch.linspace(math.log(0.125), math.log(32.0), size // 2, device=x.device))
    angles = x[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], -1)


def voxel_centers(grid: int, device: torch.device) -> torch.Tensor:
    """[grid^3, 3] world positions (x, y, z), in the order of a [z, y, x] volume."""
    center = (torch.arange(grid, device=device) + 0.5) * (2 / grid) - 1
    z, y, x = torch.meshgrid(center, center, center, indexing="ij")
    return torch.stack([x, y, z], -1).view(-1, 3)


def project(points: torch.Tensor, axes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """World points [P, 3] in frames with axes [B, T, 3, 3].

    Returns:
        positions [B, T, P, 2] in [-1, 1] (x right, y down, as grid_sample wants) and the
        distance along the viewing axis [B, T, P].
    """
    camera = torch.einsum("btij,pj->btpi", axes, points)
    depth = CAMERA_DISTANCE - camera[..., 2]
    scale = FOCAL / depth
    return torch.stack([camera[..., 0] * scale, -camera[..., 1] * scale], -1), depth


def unproject(maps: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
    """Feature maps [B, T, C, h, w] read at positions [B, T, P, 2]: [B, T, C, P]."""
    batch, frames = maps.shape[:2]
    values = F.grid_sample(
        maps.flatten(0, 1),
        where.to(maps.dtype).flatten(0, 1)[:, None],
        align_corners=False,
        padding_mode="border",
    )
    return values[:, :, 0].unflatten(0, (batch, frames))
