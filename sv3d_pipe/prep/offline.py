"""Cut an object out of an opaque photo without any learned weights: backdrop model, then GrabCut."""

from __future__ import annotations

import cv2
import numpy as np

from sv3d_pipe.prep.backdrop import CROSS3, Backdrop, find_backdrop
from sv3d_pipe.prep.meant import Box, box_mask, within_box

SIDE = 384  # longer side at which the object is segmented; edges are refined at full size later
BUSY_SIDE = 320  # longer side for GrabCut alone
AROUND = 0.25  # of a box's longer side, on each side of it: what the background is learned from
LARGEST = 0.85  # share of the frame; a "plain backdrop" that leaves more than this is none


def segment(rgb: np.ndarray) -> tuple[np.ndarray, bool]:
    """Find the object in a photo.

    A backdrop model (accepted when the border is smooth and of one color) seeds GrabCut; on a busy
    background GrabCut starts from an ellipse in the middle of the frame.

    Args:
        rgb: [H, W, 3] float32 in [0, 1].
    Returns:
        mask [h, w] bool at reduced size (longer side at most 384; empty if nothing was found) and
        whether the background was plain.
    """
    small = _reduced(rgb, SIDE)
    bounds = find_letterbox(small)
    top, bottom, left, right = bounds
    inner = np.ascontiguousarray(small[top:bottom, left:right])
    backdrop = find_backdrop(cv2.cvtColor(inner, cv2.COLOR_RGB2Lab))
    rough = backdrop.foreground > 0.5
    if not backdrop.plain or rough.mean() > LARGEST:
        return _segment_busy(small, bounds), False
    mask = np.zeros(small.shape[:2], bool)
    if rough.any():
        refined = grab_cut(inner, _seeds(backdrop), rounds=3)
        mask[top:bottom, left:right] = rough if refined is None or not refined.any() else refined
    return mask, True


def _reduced(rgb: np.ndarray, side: int) -> np.ndarray:
    """A copy whose longer side has at most so many pixels."""
    scale = min(1.0, side / max(rgb.shape[:2]))
    size = [max(8, round(n * scale)) for n in (rgb.shape[1], rgb.shape[0])]
    return cv2.resize(np.ascontiguousarray(rgb), size, interpolation=cv2.INTER_AREA)


def _segment_busy(rgb: np.ndarray, bounds: tuple[int, int, int, int]) -> np.ndarray:
    """GrabCut without a backdrop, at a lower resolution still (it is slow on rich colors): [H, W] bool."""
    height, width = rgb.shape[:2]
    seeds = _ellipse(height, width, bounds)
    scale = min(1.0, BUSY_SIDE / max(height, width))
    size = (round(width * scale), round(height * scale))
    reduced = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
    cut = grab_cut(reduced, cv2.resize(seeds, size, interpolation=cv2.INTER_NEAREST), rounds=5)
    if cut is None:
        return np.zeros((height, width), bool)
    return cv2.resize(cut.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR) > 0.5


def surroundings(shape: tuple[int, int], box: Box) -> tuple[slice, slice]:
    """Rows and columns of a picture [H, W] that show a box and, on all sides, some of what surrounds it."""
    margin = AROUND * max(box[2] - box[0], box[3] - box[1])
    left, top = (max(0, int(low - margin)) for low in box[:2])
    right, bottom = (int(np.ceil(high + margin)) for high in box[2:])
    return slice(top, min(bottom, shape[0])), slice(left, min(right, shape[1]))


def segment_box(rgb: np.ndarray, box: Box) -> tuple[np.ndarray, bool]:
    """Find the object in a box: what surrounds the box is surely background.

    Args:
        rgb: [H, W, 3] float32 in [0, 1], the box and its :func:`surroundings`.
        box: in its pixels.
    Returns:
        mask [h, w] bool and whether the background was plain, as :func:`segment` does.
    """
    small = _reduced(rgb, SIDE)
    across, down = small.shape[1] / rgb.shape[1], small.shape[0] / rgb.shape[0]
    return _segment_within(small, (box[0] * across, box[1] * down, box[2] * across, box[3] * down))


def _segment_within(rgb: np.ndarray, box: Box) -> tuple[np.ndarray, bool]:
    within = box_mask(rgb.shape[:2], box)
    if within.all():
        return segment(rgb)
    backdrop = find_backdrop(cv2.cvtColor(rgb, cv2.COLOR_RGB2Lab))
    rough = backdrop.foreground > 0.5
    plain = backdrop.plain and rough.mean() <= LARGEST
    if plain:
        rough = within_box(np.repeat(rough[..., None], 4, -1).astype(np.float32), box)[..., 3] > 0.5
        seeds = np.where(rough, _seeds(backdrop), cv2.GC_BGD).astype(np.uint8)
    else:
        rough = within
        seeds = _ellipse(*rgb.shape[:2], (box[1], box[3], box[0], box[2]), rim=0.5)
    seeds[~within] = cv2.GC_BGD
    cut = grab_cut(rgb, seeds, rounds=3 if plain else 5)
    return (rough if cut is None or (plain and not cut.any()) else cut) & within, plain


def find_letterbox(rgb: np.ndarray) -> tuple[int, int, int, int]:
    """Bounds (top, bottom, left, right) of the picture inside uniform bars, such as a film's black ones.

    A bar ends in a line that differs from it nearly everywhere; a plain backdrop is therefore no bar.
    """
    lines = rgb, rgb[::-1], rgb.transpose(1, 0, 2), rgb[:, ::-1].transpose(1, 0, 2)
    top, below, left, after = (_bar(image) for image in lines)
    return top, rgb.shape[0] - below, left, rgb.shape[1] - after


def _bar(image: np.ndarray) -> int:
    """Number of leading rows of one color that end in an entirely different row."""
    color = np.median(image[0], axis=0)  # [3]
    same = (np.abs(image - color).max(-1) < 0.06).mean(1)  # [H] share of the row in the bar's color
    ends = np.flatnonzero(same[: len(same) // 3] < 0.98)
    if len(ends) == 0 or ends[0] == 0:
        return 0
    different = np.flatnonzero(same[ends[0] : ends[0] + 6] < 0.1)  # resampling blurs the bar's end
    return int(ends[0] + different[0]) + 1 if len(different) else 0


def grab_cut(rgb: np.ndarray, seeds: np.ndarray, rounds: int) -> np.ndarray | None:
    """OpenCV's GrabCut from a seed mask: [H, W] bool, or None where it has too little to start from."""
    mask = seeds.copy()
    image = np.ascontiguousarray((rgb[..., ::-1] * 255 + 0.5).astype(np.uint8))
    cv2.setRNGSeed(1)  # its k-means draws from OpenCV's own generator
    try:
        cv2.grabCut(image, mask, None, np.zeros((1, 65)), np.zeros((1, 65)), rounds, cv2.GC_INIT_WITH_MASK)
    except cv2.error:
        return None
    return (mask == cv2.GC_FGD) | (mask == cv2.GC_PR_FGD)


def _seeds(backdrop: Backdrop) -> np.ndarray:
    """GrabCut's seeds from a backdrop: sure only well inside and where colors leave no doubt."""
    foreground = backdrop.foreground
    seeds = np.where(foreground > 0.5, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    seeds[cv2.erode((foreground > 0.95).astype(np.uint8), CROSS3) > 0] = cv2.GC_FGD
    outside = cv2.erode((foreground < 0.05).astype(np.uint8), np.ones((11, 11), np.uint8)) > 0
    seeds[outside & (backdrop.distance < 0.4 * backdrop.near)] = cv2.GC_BGD
    return seeds


def _ellipse(
    height: int, width: int, bounds: tuple[float, float, float, float], rim: float = 0.47
) -> np.ndarray:
    """Seeds without knowledge: probably the object in the middle, surely not on a bar or beyond the rim.

    Args:
        bounds: top, bottom, left, right. rim: distance from the middle as a share of their extent; 0.5 is their edge.
    """
    top, bottom, left, right = bounds
    y = (np.arange(height)[:, None] + 0.5 - top) / (bottom - top) - 0.5
    x = (np.arange(width)[None] + 0.5 - left) / (right - left) - 0.5
    seeds = np.where(np.hypot(x, y) < 0.36, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    seeds[np.maximum(abs(x), abs(y)) > rim] = cv2.GC_BGD
    return seeds
