"""How deep the object is, where further photos show it: the depth at which mini's own solid has their outlines."""

from __future__ import annotations

import numpy as np
import torch

from sv3d_pipe.artifacts import Photo
from sv3d_pipe.orbit.conditioning import time_ids
from sv3d_pipe.orbit.mini.knowledge import with_depths
from sv3d_pipe.orbit.mini.pixel_pipeline import MiniPipeline
from sv3d_pipe.pictures import resize_rgba
from sv3d_pipe.prep.frame import recenter

DEPTHS = np.geomspace(0.15, 2.5, 15)
UNSURE = 0.03  # IoU by which the outlines of one depth are better than another's by chance
SIDEWAYS = 0.3  # sine of the azimuth from which on a photo shows some depth
FILL = 0.8  # of a frame's side, in which outlines are compared whatever their scale


def seen_depth(pipeline: MiniPipeline, photo: Photo, elevation_deg: float) -> float | None:
    """The depth that the outlines of further photos show, as :func:`sv3d_pipe.geometry.extent.relative_depth` has it.

    Args:
        photo: with further ones, all of whose angles are known. elevation_deg: its own.
    Returns:
        None if all photos are from the front or from behind, where none is seen.
    """
    azimuth_deg = np.array([*(other.azimuth_deg for other in photo.further), 0.0])
    elevations_deg = np.array([*(other.elevation_deg for other in photo.further), elevation_deg])
    sideways = np.abs(np.sin(np.radians(azimuth_deg)))[:-1]
    if sideways.max() < SIDEWAYS:
        return None
    size = pipeline.size
    seen = np.stack([_framed(resize_rgba(other.rgba, size)[..., 3]) for other in photo.further])
    poses = time_ids(azimuth_deg, elevations_deg, cond_aug=0.0)[:, 1:].to(pipeline.unet.device)
    condition = pipeline.encode_photo(photo.rgba.astype(np.float32), elevation_deg)
    worth = np.zeros(len(DEPTHS))
    for n, depth in enumerate(DEPTHS):
        tokens = with_depths(condition.token, torch.tensor([depth]))
        masks = pipeline.unet.silhouettes(condition.latents, poses, tokens).cpu().numpy()[:-1]
        framed = np.stack([_framed(mask) for mask in masks])
        overlap = np.minimum(framed, seen).sum((1, 2)) / np.maximum(framed, seen).sum((1, 2)).clip(1)
        worth[n] = (sideways * overlap).sum() / UNSURE
    if condition.guess is not None:
        worth -= np.abs(np.log(DEPTHS / condition.guess.depth)) / condition.guess.error
    return float(DEPTHS[worth.argmax()])


def _framed(mask: np.ndarray) -> np.ndarray:
    """A mask [S, S] centered and scaled as prep does it; what shows nothing stays so."""
    if not (mask > 0.5).any():
        return np.zeros_like(mask)
    rgba = np.repeat(mask[..., None], 4, -1)
    return recenter(rgba, FILL, len(mask))[..., 3]
