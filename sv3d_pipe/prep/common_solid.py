"""What the frames of an orbit say about each other: where a frame's mask contradicts the solid of the others."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from sv3d_pipe.cameras import Cameras
from sv3d_pipe.geometry.hull import cell_centers, pixels_of

SIDE = 192  # pixels of the reduced masks at most; a cell is two of them wide
MOST_AGAINST = 3  # views that may be wrong about a cell
TRUSTED = 0.97  # share of the masks that cells in all views but one must explain; else the cameras are wrong
WITNESSES = 3  # views that must miss a cell before it is given back to those that have lost it


@dataclass(frozen=True)
class Solid:
    """Cells that nearly all masks of an orbit allow.

    Attributes:
        cameras: of the N views.
        points: [C, 3] centers of the cells.
        against: [MOST_AGAINST, C] int16, the views in whose mask a cell does not lie, then -1.
        masks: [N, s, s] bool, the reduced masks.
    """

    cameras: Cameras
    points: np.ndarray
    against: np.ndarray
    masks: np.ndarray

    @classmethod
    def carve(cls, masks: np.ndarray, cameras: Cameras) -> Solid:
        """Args: masks: [N, S, S] bool."""
        side = min(SIDE, masks.shape[-1])
        small = np.stack([_reduced(mask, side) for mask in masks])
        points = cell_centers(side // 2, cameras.visible_radius)
        points = points[np.linalg.norm(points, axis=-1) < cameras.visible_radius]
        against = np.full((MOST_AGAINST, len(points)), -1, np.int16)
        count = np.zeros(len(points), np.int64)
        for n in np.argsort(
            np.arange(len(masks)) % 5, kind="stable"
        ):  # far apart ones first: they carve most
            wide = cv2.dilate(small[n].astype(np.uint8), np.ones((3, 3), np.uint8))
            miss = wide.ravel()[pixels_of(points, cameras[n], side)[0]] == 0
            kept = ~miss | (count < MOST_AGAINST)
            points, against, count, miss = points[kept], against[:, kept], count[kept], miss[kept]
            against[count[miss], np.flatnonzero(miss)] = n
            count += miss
        return cls(cameras, points, against, small)

    def depth(self, n: int, dissent: int = 0) -> np.ndarray:
        """[s, s] float32: how many cells deep the solid of all other views, but so many, is where view ``n`` looks."""
        others = ((self.against >= 0) & (self.against != n)).sum(0) <= dissent
        side = self.masks.shape[-1]
        cells = np.bincount(pixels_of(self.points[others], self.cameras[n], side)[0], minlength=side**2)
        return cv2.blur(cells.reshape(side, side).astype(np.float32), (3, 3))

    def lost(self) -> np.ndarray:
        """[N, s, s] bool: parts that a mask lacks although, without them, several other masks stay unexplained.

        None where the masks fit no common solid, as when the cameras are not where they are thought to be.
        """
        nearly = self._explained(1)
        if nearly.sum() < TRUSTED * self.masks.sum():
            return np.zeros_like(self.masks)
        wanted = np.zeros(len(self.points), np.int64)
        for n, left in enumerate(self.masks & ~self._explained(0)):
            clear = cv2.erode(left.astype(np.uint8), np.ones((2, 2), np.uint8))
            wanted += clear.ravel()[pixels_of(self.points, self.cameras[n], len(clear))[0]]
        needed = wanted >= WITNESSES
        shown = [self._shown(needed & (self.against == n).any(0), n) for n in range(len(self.masks))]
        return np.stack(shown) & ~self.masks

    def _explained(self, dissent: int) -> np.ndarray:
        """[N, s, s] bool: the part of each mask that cells show which all views, but so many, allow."""
        cells = (self.against >= 0).sum(0) <= dissent
        return np.stack([self._shown(cells, n) for n in range(len(self.masks))]) & self.masks

    def _shown(self, cells: np.ndarray, n: int) -> np.ndarray:
        drawn = np.zeros(self.masks.shape[1:], np.uint8)
        drawn.ravel()[pixels_of(self.points[cells], self.cameras[n], len(drawn))[0]] = 1
        return cv2.dilate(drawn, np.ones((3, 3), np.uint8)) > 0


def _reduced(mask: np.ndarray, side: int) -> np.ndarray:
    return cv2.resize(mask.astype(np.float32), (side, side), interpolation=cv2.INTER_AREA) > 0.5
