"""Shadows of an object that stands on a floor, from its outline alone."""

from __future__ import annotations

import cv2
import numpy as np


def contact(rng: np.random.Generator, alpha: np.ndarray) -> np.ndarray:
    """[H, W] brightness that is left around the place where an object [H, W] touches the floor."""
    height, width = alpha.shape
    rows = np.flatnonzero((alpha > 0.3).any(1))
    if not len(rows):
        return np.ones_like(alpha)
    base, tall = rows[-1], len(rows)
    foot = alpha[max(0, base - max(2, tall // 8)) : base + 1].max(0)  # [W] what is near the floor
    flat = rng.uniform(0.04, 0.14) * max(tall, int((foot > 0.3).sum()))  # half depth of the shadow in pixels
    y = np.arange(height, dtype=np.float32)[:, None]
    near = np.exp(-0.5 * ((y - base) / max(flat, 1.0)) ** 2)
    dark = near * cv2.GaussianBlur(foot[None], (0, 0), max(flat, 1.0))
    return 1 - rng.uniform(0.2, 0.8) * np.clip(dark, 0, 1).astype(np.float32)


def cast(rng: np.random.Generator, alpha: np.ndarray) -> np.ndarray:
    """[H, W] brightness that is left where an object keeps out the light of a lamp.

    The outline is laid onto the floor as a board standing at the object's foot would throw it: what is h pixels above
    the floor falls a fixed multiple of h aside and nearer or farther. Its edge is softer the farther it falls.
    """
    height, width = alpha.shape
    rows = np.flatnonzero((alpha > 0.3).any(1))
    if not len(rows):
        return np.ones_like(alpha)
    base = float(rows[-1])
    aside, along = rng.uniform(-1.4, 1.4), rng.uniform(-0.45, 0.35)
    matrix = np.float32(
        [[1, -aside, aside * base], [0, -along, base * (1 + along)]]
    )  # y' = base + along (base - y)
    laid = cv2.warpAffine(alpha, matrix, (width, height), flags=cv2.INTER_LINEAR)
    sharp = cv2.GaussianBlur(laid, (0, 0), 0.5 + 0.004 * len(rows))
    soft = cv2.GaussianBlur(laid, (0, 0), 1 + rng.uniform(0.01, 0.08) * len(rows))
    far = np.clip(np.abs(np.arange(height, dtype=np.float32)[:, None] - base) / (0.4 * len(rows)), 0, 1)
    return 1 - rng.uniform(0.15, 0.7) * (sharp * (1 - far) + soft * far)
