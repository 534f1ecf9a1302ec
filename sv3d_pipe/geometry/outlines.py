"""Outlines of masks, as signed distances in the picture."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from sv3d_pipe.cameras import Cameras

SIZE = 144  # side of the pictures in which distances are known
RIM = 72  # points along an outline


@dataclass(frozen=True)
class Outline:
    """A mask as distances.

    Attributes:
        inside: [SIZE, SIZE] float32, how far pixel centers are inside of the mask, as shares of the side; negative outside.
        rim: [R, 2] x and y in [0, 1] of points on its outer rim; none of an empty mask.
        height: of the mask, as a share of the side.
    """

    inside: np.ndarray
    rim: np.ndarray
    height: float

    @classmethod
    def of(cls, alpha: np.ndarray) -> Outline:
        """Of a mask [S, S] in [0, 1]; its edge is where it is one half."""
        side = 2 * SIZE
        shrinks = len(alpha) > side
        fine = cv2.resize(
            alpha.astype(np.float32),
            (side, side),
            interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR,
        )
        mask = (fine > 0.5).astype(np.uint8)
        within, beyond = (
            cv2.distanceTransform(m, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
            if (1 - m).any()
            else np.full(m.shape, 2.0 * side)
            for m in (mask, 1 - mask)
        )
        signed = np.where(mask, within - 0.5, 0.5 - beyond).astype(np.float32) / side
        contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        rim = (np.concatenate([contour[:, 0] for contour in contours] or [np.zeros((0, 2))]) + 0.5) / side
        rows = np.flatnonzero(mask.any(1))
        rim = rim[np.linspace(0, len(rim), min(RIM, len(rim)), endpoint=False).astype(int)]
        height = (rows[-1] + 1 - rows[0]) / side if len(rows) else 0.0
        return cls(cv2.resize(signed, (SIZE, SIZE), interpolation=cv2.INTER_AREA), rim, height)

    def around(
        self,
        camera: Cameras,  # N = 1
        xyz: np.ndarray,  # [..., 3] world space, in front of the camera
        scale: float = 1.0,
        shift: np.ndarray | tuple[float, float] = (0.0, 0.0),
    ) -> np.ndarray:  # [...]
        """How far the camera sees points inside of the outline, as shares of its frame's side; negative outside.

        Args:
            scale, shift: that bring the picture into the frame, about its middle, and to the right and down.
        """
        w2c = camera.w2c[0].astype(np.float64)
        local = xyz @ w2c[:3, :3].T + w2c[:3, 3]
        focal = camera.focal(1) / -local[..., 2]
        middle = SIZE / 2 - 0.5
        x = (local[..., 0] * focal - shift[0]) * (SIZE / scale) + middle
        y = (-local[..., 1] * focal - shift[1]) * (SIZE / scale) + middle
        outside = np.maximum(np.maximum(-x, x - (SIZE - 1)), np.maximum(-y, y - (SIZE - 1)))
        flat = (side.reshape(1, -1).astype(np.float32) for side in (x, y))
        seen = _remap(self.inside, *flat).reshape(x.shape)
        return scale * (seen - np.maximum(outside, 0) / SIZE)


def _remap(picture: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A picture at points [1, P], linearly; OpenCV takes rows of at most 2**15."""
    width = 2**14
    count = x.shape[1]
    rows = -(-count // width)
    x, y = (np.resize(side, (rows, width)) for side in (x, y))
    seen = cv2.remap(picture, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return seen.reshape(1, -1)[:, :count]
