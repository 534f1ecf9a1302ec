"""Orbits framed anew, as if their photo had gone through prep.

A photo does not tell how large its object is: prep centers what is seen and fills a share of the frame with
it. The orbit model lives in that world, where a rat seen from the front is as large as a house. Data sets
frame whole objects, so in their photos the object may be anywhere, at any size.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from sv3d_pipe.config import PrepConfig

SEEN = 0.1  # alpha from which a pixel shows the object
MOST = 2.5  # largest enlargement: beyond it a photo of 64 pixels is a blur


def reframe(
    latents: torch.Tensor,  # [..., T, 4, S, S] of a PixelCodec, the photo last
    axes: torch.Tensor,  # [..., T, 3, 3] of the cameras, see sv3d_pipe.orbit.mini.voxels.frame_axes
) -> torch.Tensor:  # [..., T, 4, S, S]
    """Move and scale each scene so that the object in its photo is centered and fills prep's share of the frame.

    Perspective is left as it was: pictures are shifted as the object's middle is, and enlarged. Where nothing is to
    be seen in the photo, all stays as it is.
    """
    size = latents.shape[-1]
    shown = latents[..., -1, 3, :, :] / 2 + 0.5 > SEEN  # [..., S, S]
    low, high = _box(shown)  # [..., 2] each
    middle = (low + high) / size - 1  # of the box in the photo, x right and y down, in half widths
    scale = PrepConfig().fill * size / (high - low).amax(-1).clamp(min=1)
    empty = ~shown.any(-1).any(-1)
    scale = torch.where(empty, 1.0, scale.clamp(max=MOST))  # [...]
    middle = torch.where(empty[..., None], 0.0, middle)
    right, up = axes[..., 0, :], axes[..., 1, :]  # [..., T, 3]
    moved = middle[..., :1] * right[..., -1, :] - middle[..., 1:] * up[..., -1, :]  # at the object's distance
    moved = moved[..., None, :]  # [..., 1, 3]
    shift = torch.stack(
        [(right * moved).sum(-1), -(up * moved).sum(-1)], -1
    )  # [..., T, 2] as each camera sees it
    zoom = torch.eye(2, device=axes.device) / scale[..., None, None, None]
    theta = torch.cat([zoom.expand(*shift.shape, 2), shift[..., None]], -1).flatten(0, -3)  # [N, 2, 3]
    flat = latents.flatten(0, -4)
    grid = F.affine_grid(theta, flat.shape, align_corners=False)
    framed = F.grid_sample(flat + 1, grid, align_corners=False) - 1  # what comes in from outside is empty
    return torch.where(empty[..., None, None, None, None], latents, framed.view_as(latents))


def _box(shown: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """First column and row in which something of masks [..., S, S] is shown, and the ones after the last."""
    lines = torch.stack([shown.any(-2), shown.any(-1)], -2).int()  # [..., 2, S]
    return lines.argmax(-1), lines.shape[-1] - lines.flip(-1).argmax(-1)
