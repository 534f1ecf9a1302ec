"""Soft shadows that an object on white throws at its feet."""

from __future__ import annotations

import cv2
import numpy as np

STEEPEST = 0.012  # rise of a shadow, a pixel
DARKEST = 0.25  # distance from white
CLEAR = 0.1  # by how much what a shadow ends at is darker
FADED = 0.6  # of a shadow's darkness, at most, within three pixels of its rim; a white part begins at once
LEAST = 2e-4  # share of the frame
DISC = np.ones((3, 3), np.uint8)


def shadow(
    difference: np.ndarray,  # [S, S, 3] white minus color
    distance: np.ndarray,  # [S, S] from white, free of noise
    mask: np.ndarray,  # [S, S] bool, object and shadows
    tolerance: float,  # distance from white at which the mask begins
) -> np.ndarray:  # [S, S] bool
    """Gray that fades in from the mask's rim without an edge and ends below something clearly darker."""
    soft = cv2.GaussianBlur(difference, (0, 0), 1.5)
    gray = soft @ np.full(3, 1 / 3, np.float32)
    across, down = (cv2.Sobel(gray, cv2.CV_32F, dx, 1 - dx) / 8 for dx in (1, 0))
    gentle = mask & (across**2 + down**2 < STEEPEST**2) & (gray < DARKEST)
    gentle &= largest_channel(np.abs(soft - gray[..., None])) < tolerance
    depth = cv2.distanceTransform(np.pad(mask, 1, mode="edge").astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    count, labels, stats, centers = cv2.connectedComponentsWithStats(gentle.astype(np.uint8), connectivity=4)
    found = np.zeros_like(mask)
    for k in range(1, count):
        left, top, width, height, area = stats[k]
        if area < LEAST * mask.size:
            continue
        part = slice(max(0, top - 6), top + height + 6), slice(max(0, left - 6), left + width + 6)
        inside, dark = labels[part] == k, distance[part]
        rim = dark[inside & (depth[part] < 3)]
        away = cv2.distanceTransform((~inside).astype(np.uint8), cv2.DIST_L2, 5)
        y, x = np.nonzero((np.abs(away - 4.75) < 0.75) & mask[part])
        if len(rim) == 0 or len(y) == 0 or part[0].start + y.mean() > centers[k][1]:
            continue
        full = np.quantile(dark[inside], 0.8)
        fades = full > 2 * tolerance and np.median(rim) < FADED * full
        found[part] |= inside & bool(fades and np.quantile(dark[y, x], 0.2) - full > CLEAR)
    return cv2.dilate(found.astype(np.uint8), DISC) > 0


def largest_channel(values: np.ndarray) -> np.ndarray:
    """[S, S] the largest of three channels [S, S, 3]; NumPy's own reduction of so short an axis is slow."""
    return np.maximum(np.maximum(values[..., 0], values[..., 1]), values[..., 2])
