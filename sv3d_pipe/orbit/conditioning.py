"""What an SV3D-type model is told besides the noisy frames, and how strongly: poses, noise, guidance."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image


def pose_radians(azimuth_deg: np.ndarray, elevation_deg: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Camera angles as sv3d-p takes them.

    Args:
        azimuth_deg, elevation_deg: [T] degrees; the last frame is the photo.
    Returns:
        polar [T] = 90 degrees - elevation, and azimuth [T] relative to the last frame, in
        [0, 2 pi); both float64 radians.
    """
    azimuth = np.asarray(azimuth_deg, np.float64)
    relative = (azimuth - azimuth[-1]) % 360.0
    return np.radians(90.0 - np.asarray(elevation_deg, np.float64)), np.radians(relative)


def time_ids(
    azimuth_deg: np.ndarray,  # [T]
    elevation_deg: np.ndarray,  # [T]
    cond_aug: float,
) -> torch.Tensor:  # [T, 3]
    """Per frame: noise added to the photo, polar angle, azimuth (radians), in sv3d-p's order."""
    polar, azimuth = pose_radians(azimuth_deg, elevation_deg)
    return torch.from_numpy(np.stack([np.full_like(polar, cond_aug), polar, azimuth], -1)).float()


def triangle_scales(n_frames: int, max_scale: float) -> torch.Tensor:
    """[n_frames] guidance scales: 1 at both ends, ``max_scale`` in the middle, linear between (SV3D)."""
    position = torch.linspace(0, 1, n_frames) if n_frames > 1 else torch.zeros(1)
    return 1 + (max_scale - 1) * (1 - (2 * position - 1).abs())


def edm_scalings(
    sigma: torch.Tensor | float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Preconditioning for velocity prediction (SVD, arXiv 2311.15127, appendix D.1).

    The denoised picture is c_skip * x + c_out * network(c_in * x, c_noise), x = clean + sigma * noise.

    Returns:
        c_skip, c_out, c_in, c_noise, each shaped as ``sigma``.
    """
    sigma = torch.as_tensor(sigma)
    total = sigma**2 + 1
    return 1 / total, -sigma / total.sqrt(), 1 / total.sqrt(), sigma.log() / 4


def as_rgba(image: Image.Image | np.ndarray) -> np.ndarray:
    """A square RGBA image as [S, S, 4] float32 in [0, 1]. Raises ValueError for other shapes."""
    if isinstance(image, Image.Image):
        image = np.asarray(image.convert("RGBA"))
    if image.ndim != 3 or image.shape[0] != image.shape[1] or image.shape[2] != 4:
        raise ValueError(f"image must be square with four channels, got {list(image.shape)}")
    return image.astype(np.float32) / 255 if image.dtype == np.uint8 else image.astype(np.float32)
