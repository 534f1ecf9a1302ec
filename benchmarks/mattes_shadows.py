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
FEET = 0.2  # of the object's height: what is lower stands on the ground


def shade(behind: np.ndarray, alpha: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The background [H, W, 3] with a contact shadow and a cast shadow of the silhouette ``alpha`` [H, W]."""
    cast = cast_shadow(alpha, rng.uniform(-1.2, 1.2), rng.uniform(0.15, 0.45), rng.random() < 0.65)
    dark = 1 - (1 - rng.uniform(0.25, 0.6) * cast) * (1 - rng.uniform(0.5, 0.8) * contact_shadow(alpha))
    return to_srgb(to_linear(behind) * (1 - dark[..., None] * ABSORBED))


def contact_shadow(alpha: np.ndarray) -> np.ndarray:
    """[H, W] in [0, 1]: a soft band under the lowest point of each column that is near the ground."""
    left, top, right, bottom = bounding_box(alpha)
    size, feet = max(right - left, bottom - top), FEET * (bottom - top)
    lowest, columns = _lowest(alpha)
    near = np.clip(1 - (bottom - 1 - lowest) / feet, 0, 1)
    line = np.zeros(alpha.shape, np.float32)
    line[lowest, columns] = near
    wide, high = max(1.0, 0.03 * size), max(1.0, 0.012 * size)
    soft = cv2.GaussianBlur(line, (0, 0), sigmaX=wide, sigmaY=high)
    return np.clip(soft * high * np.sqrt(2 * np.pi), 0, 1)  # 1 under a long straight foot


def cast_shadow(alpha: np.ndarray, skew: float, flat: float, backward: bool) -> np.ndarray:
    """[H, W] in [0, 1]: the silhouette laid on the ground, the blurrier the farther from the object's foot.

    Args:
        alpha: [H, W] the object.
        skew: sideways shift of a point of the shadow, of its height above the foot.
        flat: the shadow's length, of the object's height.
        backward: the light comes from the camera's side.
    """
    left, top, right, bottom = bounding_box(alpha)
    size, height = max(right - left, bottom - top), bottom - top
    lowest, columns = _lowest(alpha)
    body = alpha.copy()
    for row, column in zip(lowest, columns):  # light hardly reaches the ground under a low belly
        if bottom - row <= FEET * height:
            body[row:bottom, column] = 1
    along = flat if backward else -flat
    lying = np.float32([[1, -skew * flat, skew * flat * bottom], [0, along, bottom - along * bottom]])
    shadow = cv2.warpAffine(body, lying, alpha.shape[::-1])
    soft = [cv2.GaussianBlur(shadow, (0, 0), max(0.5, blur * size)) for blur in BLURS]
    rows = np.arange(len(alpha)) + 0.5
    far = np.clip(np.abs(bottom - rows) / (flat * height), 0, 1) * (len(BLURS) - 1)
    weights = [np.clip(1 - np.abs(far - i), 0, 1)[:, None] for i in range(len(BLURS))]
    return np.clip(sum(w * s for w, s in zip(weights, soft)), 0, 1).astype(np.float32)


def _lowest(alpha: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The row of the lowest solid pixel in each column that has one, and these columns: [n] both."""
    solid = alpha > 0.5
    columns = np.flatnonzero(solid.any(0))
    return len(alpha) - 1 - solid[::-1, columns].argmax(0), columns
