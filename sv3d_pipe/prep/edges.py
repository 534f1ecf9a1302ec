"""Soft edges for a hard mask, and object colors freed of the background that shines through."""

from __future__ import annotations

import cv2
import numpy as np

SUBSAMPLED = 4  # pixels that a window of the guided filter keeps to each side of its middle
SMOOTHNESS = 1e-3  # variance of colors (RGB) below which the guided filter smooths
CONTRAST = 0.1  # distance of object and background colors (RGB) below which the mask decides


def soften(rgb: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Refine a coarse mask to a soft cut-out at the photo's size.

    In a narrow band around the mask's edge, alpha is the position of a pixel's color between the local
    colors of object and background; elsewhere it is 0 or 1.

    Args:
        rgb: [H, W, 3] float32 in [0, 1].
        mask: [h, w] bool, of any size.
    Returns:
        rgba [H, W, 4] float32, straight alpha, colors decontaminated.
    """
    height, width = rgb.shape[:2]
    scale = max(1.0, height / mask.shape[0])
    coarse = cv2.resize(mask.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    coarse = np.clip(cv2.GaussianBlur(coarse, (0, 0), 0.5 * scale), 0, 1)
    return refine(rgb, coarse, max(1, round(1.25 * scale)))


def refine(rgb: np.ndarray, coarse: np.ndarray, reach: int) -> np.ndarray:
    """Sharpen a cut-out whose edges are off by up to ``reach`` pixels by the colors on both sides of them.

    Args:
        rgb: [H, W, 3] float32 in [0, 1].
        coarse: [H, W] float32 alpha; what is neither nearly 0 nor nearly 1 is an edge wherever it lies.
    Returns:
        rgba [H, W, 4] float32, straight alpha, colors decontaminated.
    """
    inside, outside = _erode(coarse > 0.5, reach), _erode(coarse <= 0.5, reach)
    front, behind = _local_colors(rgb, coarse, inside, outside, 3 * reach + 2)
    difference = front - behind
    squared = (difference**2).sum(-1)
    position = ((rgb - behind) * difference).sum(-1) / np.maximum(squared, 1e-6)
    trust = squared / (squared + CONTRAST**2)
    alpha = trust * np.clip((position - 0.1) / 0.8, 0, 1) + (1 - trust) * coarse
    alpha = np.where(inside, 1, np.where(outside, 0, alpha))
    return _decontaminated(rgb, alpha, front, behind)


def guided(rgb: np.ndarray, alpha: np.ndarray, radius: int) -> np.ndarray:
    """Alpha [H, W] made to follow the photo's edges, and smooth elsewhere.

    The guided filter with colors (He, Sun and Tang 2013, section 3.5): around each pixel alpha is a linear function of
    the color. Its coefficients are found in a smaller copy (He and Sun 2015, "Fast guided filter").

    Args:
        rgb: [H, W, 3] float32 in [0, 1]. radius: of the windows in pixels.
    """
    height, width = alpha.shape
    step = max(1, radius // SUBSAMPLED)
    size = max(1, width // step), max(1, height // step)
    small, guess = (
        cv2.resize(x.astype(np.float32), size, interpolation=cv2.INTER_AREA) for x in (rgb, alpha)
    )
    kernel = (2 * max(1, radius // step) + 1,) * 2
    mean, mean_guess = cv2.blur(small, kernel), cv2.blur(guess, kernel)
    covariance = cv2.blur(small * guess[..., None], kernel) - mean * mean_guess[..., None]  # [h, w, 3]
    pairs = [
        cv2.blur(small[..., i] * small[..., j], kernel) - mean[..., i] * mean[..., j]
        for i in range(3)
        for j in range(3)
    ]
    spread = np.stack(pairs, -1).reshape(*guess.shape, 3, 3) + SMOOTHNESS * np.eye(3, dtype=np.float32)
    slope = np.linalg.solve(spread, covariance[..., None])[..., 0].astype(np.float32)
    offset = mean_guess - (slope * mean).sum(-1)
    slope, offset = (
        cv2.resize(cv2.blur(x, kernel), (width, height), interpolation=cv2.INTER_LINEAR)
        for x in (slope, offset)
    )
    return np.clip((slope * rgb).sum(-1) + offset, 0, 1)


def decontaminate(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """[H, W, 4] from a photo and a finished alpha [H, W]: colors at soft edges without background."""
    reach = max(4, round(0.01 * max(alpha.shape)))
    front, behind = _local_colors(rgb, alpha, alpha > 0.95, alpha < 0.05, reach)
    return _decontaminated(rgb, alpha, front, behind)


def _erode(mask: np.ndarray, radius: int) -> np.ndarray:
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1,) * 2)
    return cv2.erode(mask.astype(np.uint8), kernel, borderType=cv2.BORDER_REPLICATE) > 0


def _local_colors(
    rgb: np.ndarray, alpha: np.ndarray, inside: np.ndarray, outside: np.ndarray, reach: int
) -> tuple[np.ndarray, np.ndarray]:
    """Colors of object and background around each pixel, [H, W, 3] both."""
    front = _spread(rgb, inside + 0.02 * alpha**4, reach)  # thin parts have no inside: use their middle
    behind = _spread(rgb, outside + 0.02 * (1 - alpha) ** 4, reach)
    return front, behind


def _spread(rgb: np.ndarray, weight: np.ndarray, reach: int) -> np.ndarray:
    """Weighted mean color around each pixel; far from any weight, the mean of the whole picture."""
    weight = weight.astype(np.float32)
    overall = (rgb * weight[..., None]).sum((0, 1)) / max(float(weight.sum()), 1e-6)
    color, total = np.float32(1e-7) * overall.astype(np.float32), np.float32(1e-7)
    for size in (reach, 4 * reach):  # the wide mean counts only where the narrow one finds nothing
        kernel, share = (2 * size + 1,) * 2, np.float32(1 if size == reach else 1e-3)
        color = color + share * cv2.blur(rgb * weight[..., None], kernel)
        total = total + share * cv2.blur(weight, kernel)
    return color / total[..., None]


def _decontaminated(rgb: np.ndarray, alpha: np.ndarray, front: np.ndarray, behind: np.ndarray) -> np.ndarray:
    """Solve C = alpha F + (1 - alpha) B for F, with B and the difference F - B taken from around."""
    clean = np.clip(rgb + (1 - alpha)[..., None] * (front - behind), 0, 1)
    clean = np.where((alpha > 0)[..., None], clean, 0)
    return np.concatenate([clean, alpha[..., None]], -1).astype(np.float32)
