"""How wrong a cut-out is, and how well the warnings tell."""

from __future__ import annotations

import cv2
import numpy as np

from sv3d_pipe.evaluate.tables import Row

WRONG, LOST = 0.8, 0.6  # an IoU below is a wrong cut-out, one below the second must not go without a warning
EDGE = (0.05, 0.95)  # true alpha between these: half-covered pixels
SHOWN = 0.05  # a cut-out's alpha above this shows the pixel's color
SIGMA, REACH = 1.4, 4  # pixels: the derivative filters of the gradient error and their half width


def iou(alpha: np.ndarray, truth: np.ndarray) -> float:
    """Intersection over union of alpha > 0.5, both [H, W]; 1 where both are empty."""
    ours, true = alpha > 0.5, truth > 0.5
    union = (ours | true).sum()
    return float((ours & true).sum() / union) if union else 1.0


def mean_absolute_error(alpha: np.ndarray, truth: np.ndarray) -> float:
    """Mean of |alpha - truth| over the picture, in [0, 1]."""
    return float(np.abs(alpha - truth).mean())


def gradient_error(alpha: np.ndarray, truth: np.ndarray) -> float:
    """The gradient error of Rhemann et al. 2009 over the whole picture, in thousands.

    The squared difference of the two gradients' lengths summed over all pixels, divided by 1000. The gradients are of
    alpha in [0, 1] by first derivatives of a Gaussian of 1.4 pixels, each filter of unit Euclidean norm.
    """
    return float(((_steepness(alpha) - _steepness(truth)) ** 2).sum() / 1000)


def _steepness(alpha: np.ndarray) -> np.ndarray:
    """Length of the gradient [H, W] of alpha [H, W]; the border's pixels are repeated beyond it."""
    x = np.arange(-REACH, REACH + 1)
    smooth = np.exp(-(x**2) / (2 * SIGMA**2))
    slope = x * smooth
    smooth, slope = smooth / np.linalg.norm(smooth), slope / np.linalg.norm(slope)
    alpha = alpha.astype(np.float64)
    across = cv2.sepFilter2D(alpha, -1, slope, smooth, borderType=cv2.BORDER_REPLICATE)
    down = cv2.sepFilter2D(alpha, -1, smooth, slope, borderType=cv2.BORDER_REPLICATE)
    return np.hypot(across, down)


def halo(rgba: np.ndarray, truth: np.ndarray, front: np.ndarray) -> float | None:
    """Mean absolute error of the color, in [0, 1], along the edge; None where the cut-out shows nothing of it.

    Args:
        rgba: [H, W, 4] the cut-out. Pixels that it hides (alpha at most 0.05) have no color and do not count.
        truth: [H, W] true alpha; the edge is where it lies between 0.05 and 0.95.
        front: [H, W, 3] the object's true color.
    """
    edge = (truth > EDGE[0]) & (truth < EDGE[1]) & (rgba[..., 3] > SHOWN)
    return float(np.abs(rgba[..., :3] - front)[edge].mean()) if edge.any() else None


def scores(rgba: np.ndarray, truth: np.ndarray, front: np.ndarray | None) -> Row:
    """All measures of one cut-out; the halo is None where the true color is not known."""
    alpha = rgba[..., 3]
    return {
        "iou": iou(alpha, truth),
        "mae": mean_absolute_error(alpha, truth),
        "gradient": gradient_error(alpha, truth),
        "halo": None if front is None else halo(rgba, truth, front),
    }


def reliability(ious: list[float], warned: list[bool]) -> Row:
    """How well a warning tells that a cut-out is wrong (IoU < 0.8).

    Returns:
        wrong, warned: numbers of pictures; precision: share of the warned that are wrong; recall: share of the wrong
        that are warned (both None where there are none); unwarned: pictures with IoU < 0.6 and no warning.
    """
    wrong, said = np.asarray(ious) < WRONG, np.asarray(warned, bool)
    both = int((wrong & said).sum())
    return {
        "wrong": int(wrong.sum()),
        "warned": int(said.sum()),
        "precision": both / int(said.sum()) if said.any() else None,
        "recall": both / int(wrong.sum()) if wrong.any() else None,
        "unwarned": int(((np.asarray(ious) < LOST) & ~said).sum()),
    }
