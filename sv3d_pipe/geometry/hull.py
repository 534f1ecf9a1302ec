"""The visual hull: which cells of a cube can hold matter, carved from the masks of views."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from sv3d_pipe.artifacts import Views
from sv3d_pipe.cameras import Cameras

GRID = 64
# Shares of the views that must agree on a cell, strictest first: pictures of one real object agree
# wholly, generated views do not.
AGREEMENT = (1.0, 0.9, 0.85, 0.75, 0.6, 0.5)
MASK_LEVEL = 0.3  # alpha from which a pixel counts as object
COVERED = 0.97  # share of the masks' pixels that a hull must explain


@dataclass(frozen=True)
class Hull:
    """The visual hull of the masks.

    Attributes:
        occupied: [G, G, G] bool, indexed x, y, z.
        agreement: share of the views that had to agree on a cell.
        covered: share of the masks' pixels in front of or behind some occupied cell.
    """

    occupied: np.ndarray
    agreement: float
    covered: float


def carve(views: Views, radius: float, grid: int = GRID) -> Hull:
    """The strictest visual hull that still explains the masks.

    Masks are dilated by half a cell and one pixel. A cell outside the picture of a view, or where the
    view knows nothing, is not judged by it. The photos, where there are any, must agree with every cell.
    """
    points = cell_centers(grid, radius)
    reach = 0.5 * 3**0.5 * (2 * radius / grid)
    votes = np.zeros(len(points), np.int32)
    seen = np.zeros(len(points), np.int32)
    masks = [frame[..., 3] > MASK_LEVEL for frame in views.rgba]
    for n, mask in enumerate(masks):
        index, inside = pixels_of(points, views.cameras[n], len(mask))
        if views.seen is not None:
            inside &= views.seen[n].ravel()[index]
        near = dilated(mask, _pixel_reach(views.cameras[n], len(mask), reach))
        votes += inside & near.ravel()[index]
        seen += inside
    judged = seen >= min(len(masks), max(2, len(masks) // 2))
    share = votes / np.maximum(seen, 1) * judged
    for k in range(views.n_photos):
        share *= _agrees(views.photos[k], views.photo_cameras[k], points, reach)
    tried = []
    for agreement in AGREEMENT:
        occupied = share >= agreement
        covered = _coverage(points[occupied], grid, masks, views.cameras)
        tried.append(Hull(occupied.reshape(grid, grid, grid), agreement, covered))
        if tried[-1].covered >= COVERED:
            return tried[-1]
    return max(tried, key=lambda hull: hull.covered)


def cell_centers(grid: int, radius: float) -> np.ndarray:
    """[grid**3, 3] float32 centers of the cells of [-radius, radius]^3, z fastest."""
    axis = ((np.arange(grid) + 0.5) / grid * 2 - 1) * radius
    return np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3).astype(np.float32)


def _agrees(photo: np.ndarray, camera: Cameras, points: np.ndarray, reach: float) -> np.ndarray:
    mask = photo[..., 3] > MASK_LEVEL
    index, inside = pixels_of(points, camera, len(mask))
    return inside & dilated(mask, _pixel_reach(camera, len(mask), reach)).ravel()[index]


def pixels_of(points: np.ndarray, camera: Cameras, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Flat index [P] of the pixel of a size x size picture that shows each point [P, 3], and whether one does [P]; else 0."""
    xy, depth = camera.project(points, size)
    x, y = np.floor(xy[0]).astype(np.int64).T
    inside = (depth[0] > 0) & (x >= 0) & (y >= 0) & (x < size) & (y < size)
    return np.where(inside, y * size + x, 0), inside


def _pixel_reach(camera: Cameras, size: int, reach: float) -> int:
    """Pixels that a world length spans at the origin's distance, rounded up, plus one."""
    distance = float(np.linalg.norm(camera.origins[0]))
    return int(np.ceil(reach * camera.focal(size) / distance)) + 1


def dilated(mask: np.ndarray, pixels: int) -> np.ndarray:
    """A mask [S, S] bool grown by a disc of that radius."""
    pixels = min(pixels, 2 * max(mask.shape))  # a camera inside a cell would grow it without end
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * pixels + 1, 2 * pixels + 1))
    return cv2.dilate(mask.astype(np.uint8), kernel).astype(bool)


def _coverage(points: np.ndarray, grid: int, masks: list[np.ndarray], cameras: Cameras) -> float:
    """Share of all masks' pixels that the hull's cells [P, 3], drawn about as large as they are, cover."""
    found = total = 0
    for n, mask in enumerate(masks):
        index, inside = pixels_of(points, cameras[n], len(mask))
        drawn = np.zeros(mask.shape, bool)
        drawn.ravel()[index[inside]] = True
        cell = int(np.ceil(1.25 * len(mask) / grid))
        found += (dilated(drawn, cell) & mask).sum()
        total += mask.sum()
    return float(found / max(total, 1))
