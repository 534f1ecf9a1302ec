"""Masks of painted frames, as a surface can be fitted to them."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import distance_transform_edt

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
    uncertain place would vanish at 1/2. But it lies so high that background stays background.
    """
    return np.stack([_crisp_frame(frame) for frame in rgba])


def _crisp_frame(rgba: np.ndarray) -> np.ndarray:
    alpha = rgba[..., 3]
    slope = np.hypot(*np.gradient(alpha)).sum()
    width = 1.5 * (4 * alpha * (1 - alpha)).sum() / max(slope, 1e-6)
    if width < 1.25:  # sharp masks measure 0.9 to 1.2
        return rgba
    middle = max(np.quantile(alpha, 1 - alpha.mean()), 0.5 / width)
    sharp = np.clip(0.5 + (alpha - middle) * width, 0, 1)
    return np.concatenate([rgba[..., :3], sharp[..., None]], -1).astype(np.float32)
