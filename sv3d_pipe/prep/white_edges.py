"""Alpha and color along the outline of an object on white."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

REACH = 4.0  # pixels from the background, measured inwards, within which white may shine through
PROFILE = np.float32(
    [0.0, 0.25, 0.6, 0.85, 0.97, 1.0]
)  # alpha by depth in pixels where nothing can be measured
CLEAR = 0.15  # least distance of a color from white at which an edge's profile is measured
ENOUGH = 200  # pixels a profile is measured from
DOUBT = 6.0  # times the noise: the contrast at which color and profile decide alike
SILENT = 3.0  # times the noise: what is nearer to white is background


@dataclass(frozen=True)
class Outline:
    """The rim of a mask on one frame; all [h, w], the part of the frame that holds the object.

    Attributes:
        rgb: [h, w, 3]. white: [3], the frame's background.
        part: where it lies in the frame.
        depth: distance to the background in pixels, 0 outside the mask.
        inner: [h, w, 3] the object's color just inside of each pixel.
        contrast: distance (RGB) of that color from white.
        share: how much of the way from white to that color a pixel has gone, in [0, 1].
    """

    rgb: np.ndarray
    white: np.ndarray
    part: tuple[slice, slice]
    depth: np.ndarray
    inner: np.ndarray
    contrast: np.ndarray
    share: np.ndarray

    @classmethod
    def of(cls, rgb: np.ndarray, white: np.ndarray, mask: np.ndarray) -> Outline:
        """Args: rgb: [S, S, 3]; white: [3]; mask: [S, S] bool, all that is not wholly background."""
        left, top, width, height = cv2.boundingRect(mask.astype(np.uint8)) if mask.any() else (0, 0, 1, 1)
        part = slice(top, top + height), slice(left, left + width)
        around = np.pad(mask, 1, mode="edge").astype(np.uint8)  # what the frame cuts off has no outline there
        depth = cv2.distanceTransform(around, cv2.DIST_L2, 5)[1:-1, 1:-1][part]
        rgb = np.ascontiguousarray(rgb[part])
        inner = _inner_colors(rgb, depth)
        difference = white - inner
        squared = np.einsum("hwc,hwc->hw", difference, difference)
        share = np.einsum("hwc,hwc->hw", white - rgb, difference) / np.maximum(squared, 1e-6)
        return cls(rgb, white, part, depth, inner, np.sqrt(squared), np.clip(share, 0, 1))

    def rgba(self, size: int, profile: np.ndarray, noise: float, tolerance: float) -> np.ndarray:
        """[size, size, 4] float32 straight alpha, white taken out of the colors.

        Args:
            profile: alpha by depth, which decides where the contrast is too small to tell.
            noise: distance from white that the background reaches by itself. tolerance: distance from white
                at which the mask begins.
        """
        squared = self.contrast**2
        trust = squared / (squared + (DOUBT * noise) ** 2)
        contrast = np.maximum(self.contrast, 1e-3)
        silent = np.minimum(SILENT * noise / contrast, 0.25)
        seen = self.share * np.clip(self.share / silent - 1, 0, 1)
        steps = np.arange(len(profile))
        begun = np.interp(tolerance / contrast, profile, steps)  # what is paler than that, the mask left out
        usual = np.interp(self.depth + np.maximum(begun - 1, 0), steps, profile)
        alpha = np.where(self.depth > REACH, 1, trust * seen + (1 - trust) * usual)
        alpha = np.where(self.depth > 0, alpha, 0).astype(np.float32)[..., None]
        color = np.clip(self.rgb + (1 - alpha) * (self.inner - self.white), 0, 1)
        out = np.zeros((size, size, 4), np.float32)
        out[self.part] = np.concatenate([np.where(alpha > 0, color, 0), alpha], -1)
        return out


def edge_profile(outlines: list[Outline]) -> np.ndarray:
    """Alpha by depth in whole pixels: the median over all edges of clear contrast, never falling inwards."""
    profile = PROFILE.copy()
    for depth in range(1, len(profile)):
        values = [o.share[(o.contrast > CLEAR) & (np.abs(o.depth - depth) < 0.5)] for o in outlines]
        if sum(map(len, values)) >= ENOUGH:
            profile[depth] = np.median(np.concatenate(values))
    return np.maximum.accumulate(profile)


def _inner_colors(rgb: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """The color of the nearest pixel that is as deep inside as the object is around it, [h, w, 3]."""
    deep = np.minimum(depth, REACH)
    core = (deep > 0) & (deep >= cv2.dilate(deep, np.ones((7, 7), np.uint8)) - 0.3)
    if not core.any():
        return np.zeros_like(rgb)
    weight = core.astype(np.float32)
    mean = cv2.blur(rgb * weight[..., None], (3, 3)) / np.maximum(cv2.blur(weight, (3, 3)), 1e-6)[..., None]
    _, nearest = cv2.distanceTransformWithLabels(
        (~core).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    colors = np.zeros((nearest.max() + 1, 3), np.float32)
    colors[nearest[core]] = mean[core]
    return colors[nearest]
