"""Perspective pictures out of equirectangular panoramas."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from sv3d_pipe.errors import UserError
from sv3d_pipe.pictures import to_srgb

KEY = 0.25  # of a picture: where its geometric mean of light comes to lie before the highlights are pressed
BRIGHTEST = 4.0  # multiple of white that still becomes white


def read_panorama(path: Path) -> np.ndarray:
    """[H, 2 H, 3] float32 linear light of a Radiance file. Raises UserError if it is damaged."""
    panorama = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if panorama is None:
        raise UserError(f"{path} is damaged; get it again.")
    return panorama[..., ::-1]


def look(panorama: np.ndarray, yaw: float, down: float, fov: float, width: int, height: int) -> np.ndarray:
    """A perspective view [height, width, 3], sRGB in [0, 1], into a panorama.

    Args:
        panorama: [H, 2 H, 3], linear light, any scale; its middle column lies straight ahead at yaw 0.
        yaw, down, fov: degrees to the right, below the horizon, and of the horizontal field of view.
    """
    x, y = np.meshgrid(np.arange(width) + 0.5 - width / 2, np.arange(height) + 0.5 - height / 2)
    z = np.full_like(x, width / 2 / np.tan(np.radians(fov / 2)))
    cos, sin = np.cos(np.radians(down)), np.sin(np.radians(down))
    y, z = cos * y + sin * z, cos * z - sin * y  # y points down
    around = np.arctan2(x, z) / (2 * np.pi) + yaw / 360 + 0.5
    below = np.arctan2(y, np.hypot(x, z)) / np.pi + 0.5
    rows, columns = panorama.shape[:2]
    margin = 4  # repeated columns, for the filter at the seam
    wide = np.concatenate([panorama[:, -margin:], panorama, panorama[:, :margin]], 1)
    u, v = around % 1 * columns - 0.5 + margin, below * rows - 0.5
    light = cv2.remap(wide, np.float32(u), np.float32(v), cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return to_srgb(pressed(np.maximum(light, 0)))


def pressed(light: np.ndarray) -> np.ndarray:
    """Linear light of any range to [0, 1] by the extended operator of Reinhard et al. 2002."""
    luminance = light @ np.float32([0.2126, 0.7152, 0.0722])
    light = light * (KEY / np.exp(np.log(luminance + 1e-6).mean()))
    return np.clip(light * (1 + light / BRIGHTEST**2) / (1 + light), 0, 1)
