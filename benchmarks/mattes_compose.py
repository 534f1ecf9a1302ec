"""Objects with known outlines laid on real photographs, with shadows, as a camera would have kept them."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from mattes_shadows import shade
from PIL import Image

from sv3d_pipe.errors import UserError
from sv3d_pipe.pictures import read_image, resize_rgba, to_linear, to_srgb
from sv3d_pipe.prep.frame import bounding_box
from sv3d_pipe.prep.matte import is_meaningful

KINDS = ("city", "landscape", "plants", "interior", "closeup")
ROUNDS = 6  # pictures of each object: one per kind of background and one more
RATIOS = (4 / 3, 3 / 4, 1.0, 16 / 9)
LONGER = (768, 1280)  # pixels of the picture's longer side
SHARE = (0.3, 0.75)  # the object's longer side, of the picture's shorter one
SKY = 0.04  # of the picture's height: at least this much is free above the object
MOST_ENLARGED = 2.0  # unless a share of 0.3 needs more
SURE = 0.02  # alpha within this of 0 or 1 is taken for it


@dataclass(frozen=True)
class Composite:
    """One test picture and all that is true of it.

    Attributes:
        jpeg: the picture as a JPEG file, with a sensor's noise.
        clean: [H, W, 3] float32 sRGB in [0, 1], before noise and compression: alpha * front + (1 - alpha) * behind.
        alpha: [H, W] float32 in [0, 1].
        front: [H, W, 3] the object's color, 0 where alpha is.
        behind: [H, W, 3] the background with the object's shadows.
    """

    jpeg: bytes
    clean: np.ndarray
    alpha: np.ndarray
    front: np.ndarray
    behind: np.ndarray


def read_object(path: Path) -> np.ndarray | None:
    """The cut-out [H, W, 4] of a transparent PNG, or of NAME.jpg by its NAME.matte.png; None of another picture.

    A photo's colors are mixed with its background along the edge, so pixels that are not opaque there take the color of
    the nearest opaque one.
    """
    matte = path.with_name(f"{path.stem}.matte.png")
    image = read_image(path, LONGER[1])[0]
    if matte.is_file():
        alpha = reference(matte, image.shape[:2])
        return np.dstack([nearest_opaque(image[..., :3], alpha), alpha])
    if image.shape[-1] == 3 or not is_meaningful(image[..., 3]):
        return None
    return np.dstack([image[..., :3], snapped(image[..., 3])])


def reference(matte: Path, shape: tuple[int, int]) -> np.ndarray:
    """Alpha [H, W] of a reference cut-out. Raises UserError if it does not fit its photo."""
    image = read_image(matte, LONGER[1])[0]
    if image.shape[-1] != 4 or image.shape[:2] != shape:
        raise UserError(f"{matte} must have an alpha channel and the size of its photo.")
    return snapped(image[..., 3])


def snapped(alpha: np.ndarray) -> np.ndarray:
    """Alpha with what is almost 0 or 1 made so."""
    return np.where(alpha < SURE, 0, np.where(alpha > 1 - SURE, 1, alpha)).astype(np.float32)


def nearest_opaque(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Colors [H, W, 3] in which every pixel that is not opaque has the color of the nearest opaque one."""
    from scipy.ndimage import distance_transform_edt

    rows, columns = distance_transform_edt(alpha < 1, return_distances=False, return_indices=True)
    return rgb[rows, columns]


def compose(rgba: np.ndarray, background: np.ndarray, rng: np.random.Generator) -> Composite:
    """Lay a cut-out [h, w, 4] on a photograph [H, W, 3]; all choices are drawn from ``rng``."""
    ratio, longer = rng.choice(RATIOS), rng.integers(LONGER[0], LONGER[1] + 1)
    width, height = (round(longer * side) for side in (min(ratio, 1), min(1 / ratio, 1)))
    behind = backdrop(background, width, height, rng)
    rgba = placed(rgba, width, height, rng)
    alpha = rgba[..., 3]
    front = lit(rgba, behind) * (alpha > 0)[..., None]
    behind = shade(behind, alpha, rng)
    clean = alpha[..., None] * front + (1 - alpha[..., None]) * behind
    noisy = clean + rng.normal(0, rng.uniform(0.003, 0.012), clean.shape)
    stream = io.BytesIO()
    picture = Image.fromarray((np.clip(noisy, 0, 1) * 255 + 0.5).astype(np.uint8))
    picture.save(stream, "JPEG", quality=int(rng.integers(80, 96)))
    return Composite(stream.getvalue(), clean, alpha, front, behind)


def backdrop(photograph: np.ndarray, width: int, height: int, rng: np.random.Generator) -> np.ndarray:
    """A part of a photograph at a given size, mirrored or out of focus half of the time each."""
    rows, columns = photograph.shape[:2]
    scale = min(columns / width, rows / height) * rng.uniform(0.75, 1)
    w, h = int(width * scale), int(height * scale)
    left, top = (
        rng.integers(columns - w + 1),
        round(rng.beta(3, 1) * (rows - h)),
    )  # there is ground at the bottom
    part = photograph[top : top + h, left : left + w]
    if rng.random() < 0.5:
        part = part[:, ::-1]
    method = cv2.INTER_AREA if scale > 1 else cv2.INTER_CUBIC
    part = np.clip(cv2.resize(np.ascontiguousarray(part), (width, height), interpolation=method), 0, 1)
    if rng.random() < 0.5:
        part = defocused(part, max(width, height) * rng.uniform(0.002, 0.008))
    return np.float32(part)


def defocused(rgb: np.ndarray, radius: float) -> np.ndarray:
    """A picture [H, W, 3] blurred by a lens's disc of this radius in pixels, in linear light."""
    reach = int(np.ceil(radius))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disc = np.clip(radius + 0.5 - np.hypot(x, y), 0, 1)
    light = cv2.filter2D(to_linear(rgb), -1, disc / disc.sum(), borderType=cv2.BORDER_REFLECT)
    return to_srgb(light)


def placed(rgba: np.ndarray, width: int, height: int, rng: np.random.Generator) -> np.ndarray:
    """The object [height, width, 4] scaled and standing in the lower part of a picture."""
    left, top, right, bottom = bounding_box(rgba[..., 3])
    rgba = rgba[top:bottom, left:right]
    longer, shorter = max(rgba.shape[:2]), min(width, height)
    side = min(rng.uniform(*SHARE) * shorter, max(MOST_ENLARGED * longer, SHARE[0] * shorter))
    w, h = (max(1, round(length * side / longer)) for length in (right - left, bottom - top))
    small = resize_rgba(np.ascontiguousarray(rgba), (w, h))
    x, ground = round(rng.beta(2, 2) * (width - w)), round(height * rng.uniform(0.74, 0.95))
    y = max(ground - h, round(SKY * height))
    canvas = np.zeros((height, width, 4), np.float32)
    canvas[y : y + h, x : x + w] = small
    canvas[..., 3] = snapped(canvas[..., 3])
    return canvas


def lit(rgba: np.ndarray, behind: np.ndarray) -> np.ndarray:
    """The object's colors [H, W, 3] a third of the way to the exposure and tint of what is around it."""
    left, top, right, bottom = bounding_box(rgba[..., 3])
    margin = max(right - left, bottom - top) // 2
    around = behind[max(top - margin, 0) : bottom + margin, max(left - margin, 0) : right + margin]
    there = to_linear(around).reshape(-1, 3).mean(0)
    light = to_linear(rgba[..., :3])
    here = light[rgba[..., 3] > 0.5].mean(0)
    exposure = np.clip((there.mean() / here.mean()) ** (1 / 3), 0.6, 1.5)
    tint = np.clip((there / there.mean() * here.mean() / here) ** (1 / 3), 0.8, 1.25)
    return to_srgb(light * exposure * tint)
