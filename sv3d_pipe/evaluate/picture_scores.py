"""How alike pictures are: PSNR, SSIM, MSE and silhouette IoU, frame by frame.

Pictures are float in [0, 1]; those with alpha are composited on white first, as in SV3D's and
SyncDreamer's tables. A table's figure is the mean over frames. LPIPS and CLIP-S need weights: see
:mod:`sv3d_pipe.evaluate.perceptual`.
"""

from __future__ import annotations

import numpy as np
import torch

from sv3d_pipe.pictures import on_white


def _prepared(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both stacks as [N, H, W, 3] on white, of one shape."""
    a, b = (on_white(x) if x.shape[-1] == 4 else x for x in (np.asarray(a), np.asarray(b)))
    if a.shape != b.shape or a.ndim != 4:
        raise ValueError(f"expected two stacks [N, H, W, 3 or 4] of one size, got {a.shape} and {b.shape}")
    return a, b


ABOUT = (
    "sRGB values in [0, 1], composited on white, every pixel counts; per view, then averaged over views, "
    "then over objects; SSIM with an 11 x 11 Gaussian window and data range 1"
)


def psnr(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Peak signal-to-noise ratio in dB of [N, H, W, 3 or 4] stacks with range [0, 1]: [N] float64.

    10 log10(1 / mean squared error over pixels and channels); infinite for equal pictures.
    """
    with np.errstate(divide="ignore"):
        return -10 * np.log10(mse(a, b))


def mse(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Mean squared error over pixels and channels of [N, H, W, 3 or 4] stacks with range [0, 1]: [N] float64."""
    a, b = _prepared(a, b)
    return ((a.astype(np.float64) - b) ** 2).mean((1, 2, 3))


def ssim(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Structural similarity of [N, H, W, 3 or 4] stacks with range [0, 1]: [N] float64.

    torchmetrics, 11 x 11 Gaussian window of sigma 1.5, k1 .01, k2 .03, data range 1 (stated, not
    read from the data). Pictures must be at least 11 pixels wide and high.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    a, b = (torch.from_numpy(np.ascontiguousarray(x, np.float32)).movedim(-1, 1) for x in _prepared(a, b))
    score = structural_similarity_index_measure(a, b, data_range=1.0, reduction="none")
    return score.reshape(-1).double().numpy()


def silhouette_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union of the silhouettes (alpha above 1/2) of [N, H, W, 4] stacks: [N].

    1 where both are empty.
    """
    a, b = np.asarray(a)[..., 3] > 0.5, np.asarray(b)[..., 3] > 0.5
    both, either = (a & b).sum((1, 2)), (a | b).sum((1, 2))
    return np.where(either > 0, both / np.maximum(either, 1), 1.0)
