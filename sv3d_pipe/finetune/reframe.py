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
    latents: torch.Tensor,  # [T, 4, S, S] of a PixelCodec, the photo last
    axes: torch.Tensor,  # [T, 3, 3] of the cameras, see sv3d_pipe.orbit.mini.voxels.frame_axes
) -> torch.Tensor:  # [T, 4, S, S]
    """Move and scale the scene so that the object in the photo is centered and fills prep's share of the frame.

    Perspective is left as it was: pictures are shifted as the object's middle is, and enlarged.
    """
    size = latents.shape[-1]
    row, column = (latents[-1, 3] / 2 + 0.5 > SEEN).nonzero(as_tuple=True)
    if len(row) == 0:
        return latents
    low = torch.stack([column.min(), row.min()])
    high = torch.stack([column.max(), row.max()]) + 1
    middle = (low + high) / size - 1  # of the box in the photo, x right and y down, in half widths
    scale = (PrepConfig().fill * size / (high - low).max()).clamp(max=MOST)
    right, up = axes[:, 0], axes[:, 1]
    moved = middle[0] * right[-1] - middle[1] * up[-1]  # in the photo's plane, at the object's distance
    shift = torch.stack([right @ moved, -(up @ moved)], -1)  # [T, 2] as each camera sees it
    zoom = torch.eye(2).expand(len(latents), 2, 2) / scale
    grid = F.affine_grid(torch.cat([zoom, shift[..., None]], -1), latents.shape, align_corners=False)
    return F.grid_sample(latents + 1, grid, align_corners=False) - 1  # what comes in from outside is empty
