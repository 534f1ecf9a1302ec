"""Masks of painted frames, as a surface can be fitted to them."""

from __future__ import annotations

import cv2
import numpy as np
from scipy.ndimage import distance_transform_edt

BACKGROUND_TOLERANCE = 0.06  # largest distance from white, per channel, that still counts as background
COLORED = 0.5  # alpha from which a pixel's own color is trusted


def cut_out(
    rgba: np.ndarray,  # [N, S, S, 4] straight alpha
    masks: np.ndarray,  # [N, S, S] in [0, 1]
) -> np.ndarray:  # [N, S, S, 4]
    """The same pictures in other masks; where they had hardly any color they get the nearest one."""
    return np.stack([_cut_out_frame(frame, mask) for frame, mask in zip(rgba, masks)])


def _cut_out_frame(rgba: np.ndarray, mask: np.ndarray) -> np.ndarray:
    colored = rgba[..., 3] >= min(COLORED, rgba[..., 3].max())
    y, x = distance_transform_edt(~colored, return_distances=False, return_indices=True)
    return np.concatenate([rgba[y, x, :3], mask[..., None]], -1).astype(np.float32)


def crisp(
    rgba: np.ndarray,  # [N, S, S, 4]
) -> np.ndarray:  # [N, S, S, 4]
    """The same pictures with mask edges about one pixel wide; sharp masks are left as they are.

    A model that is unsure paints soft rims; a surface meets a half-transparent rim with spikes. A ramp
    of W pixels has the integral of 4 a (1 - a) equal to 2 W / 3 and that of its slope equal to 1, so
    their ratio measures W; the contrast is raised by it. The middle of the new edge lies where the
    mask keeps its area: soft alpha is a probability, its sum the area to expect, and thin parts of
    uncertain place would vanish at 1/2.
    """
    return np.stack([_crisp_frame(frame) for frame in rgba])


def _crisp_frame(rgba: np.ndarray) -> np.ndarray:
    alpha = rgba[..., 3]
    slope = np.hypot(*np.gradient(alpha)).sum()
    width = 1.5 * (4 * alpha * (1 - alpha)).sum() / max(slope, 1e-6)
    if width < 1.25:  # sharp masks measure 0.9 to 1.2
        return rgba
    middle = np.quantile(alpha, 1 - alpha.mean())
    sharp = np.clip(0.5 + (alpha - middle) * width, 0, 1)
    return np.concatenate([rgba[..., :3], sharp[..., None]], -1).astype(np.float32)


def cut_from_white(
    rgb: np.ndarray,  # [S, S, 3] in [0, 1], the object on white
) -> np.ndarray:  # [S, S, 4] straight alpha
    """Estimate the alpha of a picture painted on white.

    Background is what is nearly white and connected with the border; holes that the object encloses
    stay opaque. Where object and background meet, alpha is the pixel's distance from white as a
    share of that of the object nearby, and white is taken out of the color.
    """
    distance = 1 - rgb.min(-1)  # [S, S]
    pale = (distance < BACKGROUND_TOLERANCE).astype(np.uint8)
    _, labels = cv2.connectedComponents(np.pad(pale, 1, constant_values=1), connectivity=4)
    background = (labels == labels[0, 0])[1:-1, 1:-1]
    disc = np.ones((3, 3), np.uint8)
    rim = cv2.dilate(background.astype(np.uint8), disc).astype(bool) & ~background
    inside = np.where(rim | background, 0, distance).astype(np.float32)
    nearby = cv2.dilate(inside, np.ones((5, 5), np.uint8))
    share = np.where(nearby > 0, distance / np.maximum(nearby, 1e-3), 1.0)
    alpha = np.where(background, 0.0, np.where(rim, np.clip(share, 0, 1), 1.0))[..., None]
    color = np.where(alpha > 0, (rgb - (1 - alpha)) / np.maximum(alpha, 1e-3), 0)
    return np.concatenate([np.clip(color, 0, 1), alpha], -1).astype(np.float32)
