"""Reading pictures between pixel centers."""

from __future__ import annotations

import cv2
import numpy as np

ROW = 1024  # the list of positions is folded into rows this long, since remap wants a picture of them


def sample(image: np.ndarray, xy: np.ndarray, method: int = cv2.INTER_LINEAR) -> np.ndarray:
    """Values of a picture at positions, clamped at the border.

    Args:
        image: [H, W] or [H, W, C] float32 or uint8; row 0 is the top.
        xy: [P, 2] in [0, 1], x right, y down.
    Returns:
        [P] or [P, C] in the image's type.
    """
    height, width = image.shape[:2]
    at = np.zeros((-(-max(len(xy), 1) // ROW) * ROW, 2), np.float32)
    at[: len(xy)] = xy
    at = at * np.float32((width, height)) - np.float32(0.5)
    found = cv2.remap(image, at.reshape(-1, ROW, 2), None, method, borderMode=cv2.BORDER_REPLICATE)
    return found.reshape(len(at), *image.shape[2:])[: len(xy)]


def sample_texture(texture: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """Texture colors [P, C] at texture coordinates uv [P, 2] (v up), bilinear."""
    return sample(texture, np.stack([uv[:, 0], 1 - uv[:, 1]], -1))
