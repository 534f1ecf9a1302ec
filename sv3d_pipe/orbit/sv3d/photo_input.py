"""How SV3D's networks get the photo (on white, and as CLIP wants it) and numbers (as sines and cosines)."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from sv3d_pipe.pictures import on_white

CLIP_SIZE = 224
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


def sinusoid(
    values: torch.Tensor,  # [...]
    width: int,
) -> torch.Tensor:  # [..., width]
    """Cosines, then sines, of values * 10000^(-i / (width / 2)), i = 0 .. width / 2 - 1."""
    half = width // 2
    frequencies = torch.exp(torch.arange(half, device=values.device) * (-math.log(10_000.0) / half))
    angles = values.float()[..., None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], -1)


def photo_on_white(
    rgba: np.ndarray,  # [S, S, 4] in [0, 1], straight alpha
    size: int,
) -> np.ndarray:  # [size, size, 3] in [0, 1], multiples of 1/255
    """The photo as the RGB models saw it: Lanczos on 8-bit RGBA, white behind, cut to 8 bits.

    In double precision, as the released script does it: single precision moves some pixels by a level.
    """
    image = Image.fromarray((rgba * 255 + 0.5).astype(np.uint8))
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.LANCZOS)
    white = on_white(np.asarray(image, np.float64) / 255)
    return (white * 255).astype(np.uint8).astype(np.float32) / 255


def clip_pixels(
    image: torch.Tensor,  # [N, 3, S, S] in [-1, 1], S > 224
) -> torch.Tensor:  # [N, 3, 224, 224]
    """Input of the CLIP image tower: blurred, shrunk (bicubic, corners aligned), normalized; no crop."""
    mean, std = (torch.tensor(v, device=image.device)[:, None, None] for v in (CLIP_MEAN, CLIP_STD))
    small = F.interpolate(
        _blur(image.float(), image.shape[-1] / CLIP_SIZE),
        (CLIP_SIZE, CLIP_SIZE),
        mode="bicubic",
        align_corners=True,
    )
    return ((small + 1) / 2 - mean) / std


def _blur(image: torch.Tensor, factor: float) -> torch.Tensor:
    """Gaussian of deviation (factor - 1) / 2, cut at two deviations: the antialiasing of CLIP's resize."""
    sigma = max((factor - 1) / 2, 0.001)
    radius = int(max(4 * sigma, 3)) // 2
    offset = torch.arange(-radius, radius + 1, device=image.device, dtype=image.dtype)
    kernel = torch.exp(-(offset**2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).expand(image.shape[1], 1, 1, -1)
    padded = F.pad(image, (radius,) * 4, mode="reflect")
    rows = F.conv2d(padded, kernel, groups=image.shape[1])
    return F.conv2d(rows, kernel.transpose(2, 3), groups=image.shape[1])
