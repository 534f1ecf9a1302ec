"""The shadows that an object throws on a photograph: dark where it touches the ground, and one cast by a light."""

from __future__ import annotations

import cv2
import numpy as np

from sv3d_pipe.pictures import to_linear, to_srgb
from sv3d_pipe.prep.frame import bounding_box

ABSORBED = np.float32([1.0, 0.97, 0.92])  # of red, green and blue light: shadows are lit by the sky
BLURS = (
    0.006,
    0.02,
    0.05,
)  # standard deviations at the object's foot, half way and at the shadow's end, of its size
TOUCHES = ((0.012, 0.008), (0.05, 0.02))  # widths and heights of the dark rims, of the object's size
FEET = 0.3  # of the object's height: a column that ends this much above the lowest one hangs in the air


def shade(behind: np.ndarray, alpha: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The background [H, W, 3] with a contact shadow and a cast shadow of the silhouette ``alpha`` [H, W]."""
    cast = cast_shadow(alpha, rng.uniform(-1.2, 1.2), rng.uniform(0.15, 0.45), rng.random() < 0.65)
    dark = 1 - (1 - rng.uniform(0.25, 0.6) * cast) * (1 - rng.uniform(0.5, 0.8) * contact_shadow(alpha))
    return to_srgb(to_linear(behind) * (1 - dark[..., None] * ABSORBED))


def contact_shadow(alpha: np.ndarray) -> np.ndarray:
    """[H, W] in [0, 1]: soft rims under the lowest point of each column that stands on the ground."""
    left, top, right, bottom = bounding_box(alpha)
    columns, lowest, stands = _feet(alpha)
    line = np.zeros(alpha.shape, np.float32)
    line[lowest, columns] = stands
    shadow = np.zeros_like(line)
    for share in TOUCHES:
        wide, high = (max(1.0, s * max(right - left, bottom - top)) for s in share)
        soft = cv2.GaussianBlur(line, (0, 0), sigmaX=wide, sigmaY=high)
        shadow += np.clip(soft * high * np.sqrt(2 * np.pi), 0, 1) / len(
            TOUCHES
        )  # 1 under a long straight foot
    return shadow


def cast_shadow(alpha: np.ndarray, skew: float, flat: float, backward: bool) -> np.ndarray:
    """[H, W] in [0, 1]: the silhouette laid on the ground, the blurrier the farther from the object's foot.

    Each column lies down from its own foot; one that hangs in the air, from the height of the lowest foot.

    Args:
        alpha: [H, W] the object.
        skew: sideways shift of a point of the shadow, as a share of the shadow's length up to there.
        flat: the shadow's length, of the object's height.
        backward: the light comes from the camera's side.
    """
    left, top, right, bottom = bounding_box(alpha)
    columns, lowest, stands = _feet(alpha)
    foot = np.full(alpha.shape[1], bottom - 1.0)
    foot[columns] -= (bottom - 1 - lowest) * stands
    y, x = np.nonzero(alpha)
    height = np.maximum(foot[x] - y, 0)
    rows = np.round(foot[x] + (-flat if backward else flat) * height).astype(int)
    across = np.round(x + skew * flat * height).astype(int)
    inside = (rows >= 0) & (rows < alpha.shape[0]) & (across >= 0) & (across < alpha.shape[1])
    far = height / (bottom - top) * (len(BLURS) - 1)
    shadow = np.zeros(alpha.shape, np.float32)
    for i, blur in enumerate(BLURS):
        layer = np.zeros(alpha.shape, np.float32)
        weight = alpha[y, x] * np.clip(1 - np.abs(far - i), 0, 1)
        np.maximum.at(layer, (rows[inside], across[inside]), weight[inside].astype(np.float32))
        shadow += cv2.GaussianBlur(layer, (0, 0), max(1.0, blur * max(right - left, bottom - top)))
    return np.clip(shadow, 0, 1)


def _feet(alpha: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The columns [n] that hold something solid, the lowest such row in each, and how much it stands there, 1 to 0."""
    left, top, right, bottom = bounding_box(alpha)
    solid = alpha > 0.5
    columns = np.flatnonzero(solid.any(0))
    lowest = len(alpha) - 1 - solid[::-1, columns].argmax(0)
    return columns, lowest, np.clip(2 - 2 * (bottom - 1 - lowest) / (FEET * (bottom - top)), 0, 1)
