"""The prep stage: read a photo, cut the object out, center it in a square frame."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from sv3d_pipe.artifacts import FurtherPhoto, Photo
from sv3d_pipe.config import PrepConfig
from sv3d_pipe.errors import UserError
from sv3d_pipe.further_photos import parse_views
from sv3d_pipe.pictures import read_image
from sv3d_pipe.prep.matte import Matte, cut_out
from sv3d_pipe.prep.meant import box_text, meant, photo_box
from sv3d_pipe.prep.parts import NEARBY, SOLID, bounding_box, kept_parts, prominence, separate
from sv3d_pipe.road.context import Context

PART = {
    "alpha": 0.005,
    "net": 0.05,
    "rembg": 0.05,
    "offline": 0.1,
}  # smaller parts, as shares of the largest, may go
SPECK = 0.001  # share of the largest part
CUT = 0.08  # share of a frame side, in units of the object's extent, that counts as border contact
TINY = 128  # pixels; a smaller object holds little to reconstruct
NOTHING = 8  # pixels; a smaller "object" is none


def prepare(config: PrepConfig, path: Path, context: Context) -> tuple[Photo, dict[str, Any]]:
    """Turn a picture file, and the further views that the settings name, into centered cut-outs.

    Box and point are those of the first photo.

    Returns:
        Photo with rgba [size, size, 4], and the metrics of :func:`cut_and_center`; those of the views in ``views``.
    Raises:
        UserError: a file cannot be used; the sentence says why and what to do.
    """
    rgba, metrics = cut_and_center(config, Path(path), context)
    alone, further, told = dataclasses.replace(config, box="", point=""), [], []
    for view in parse_views(config.views):
        file = Path(view.path)
        other, about = cut_and_center(alone, file, context)
        further.append(FurtherPhoto(other, view.azimuth_deg, view.elevation_deg, file.name))
        told.append(
            {"view": file.name, "azimuth_deg": view.azimuth_deg, "elevation_deg": view.elevation_deg} | about
        )
    return Photo(rgba, tuple(further)), metrics | ({"views": told} if told else {})


def cut_and_center(config: PrepConfig, path: Path, context: Context) -> tuple[np.ndarray, dict[str, Any]]:
    """Turn a picture file into a centered cut-out.

    Returns:
        rgba [size, size, 4], and the metrics: object_share (of the frame, the stage's
        figure), matte (its source), background, input width and height, object_pixels (longer side of
        the object in the input), crop (left, top and side of the square that the prepared picture shows,
        in pixels of the input; it may reach beyond it), parts kept and dropped.
    Raises:
        UserError: the file cannot be used; the sentence says why and what to do.
    """
    with context.bar("prep", 3) as bar:
        image, (width, height) = read_image(path, longest_read(config), warn=context.warn)
        bar.update(1, f"{width} x {height}")
        shown = image.shape[1], image.shape[0]
        box, point = meant(config, (width, height), shown, path.name)
        matte = cut_out(image, config.matte, path.name, context, box=box, point=point)
        bar.update(1, matte.source)
        scale = max(width, height) / max(shown)  # pixels of the photo per pixel of the picture
        rgba = (
            main_object(matte, (width, height), path.name, context)
            if box is None and point is None
            else matte.rgba
        )
        rgba, kept, dropped = keep_main_parts(rgba, PART[matte.source])
        left, top, right, bottom = bounding_box(rgba[..., 3])
        object_pixels = round(max(right - left, bottom - top) * scale)
        if object_pixels < NOTHING:
            raise UserError(f"No object was found in {path.name}; give a larger photo of one object.")
        _warn(rgba[..., 3], object_pixels, path.name, context)
        framed = recenter(rgba, config.fill, config.size)
        share = float(framed[..., 3].mean())
        bar.update(1, f"{share:.0%} of the frame")
    metrics = {
        "object_share": round(share, 4),
        "matte": matte.source,
        "background": matte.background,
        "input_width": width,
        "input_height": height,
        "object_pixels": object_pixels,
        "crop": [round(value * scale, 2) for value in square_around((left, top, right, bottom), config.fill)],
        "parts_kept": len(kept),
        "parts_dropped": dropped,
    }
    return framed, metrics


def longest_read(config: PrepConfig) -> int:
    """Pixels of a photo's longer side at most, above which it is read as a smaller copy."""
    return 2 * config.size + 384


def main_object(matte: Matte, size: tuple[int, int], name: str, context: Context) -> np.ndarray:
    """The cut-out [H, W, 4] of the most prominent of several objects; the user is told of the others.

    A file's own alpha says what is meant: there, all are kept.

    Args:
        size: width and height of the photo in pixels.
    """
    objects = sorted(separate(matte.rgba[..., 3]), key=prominence, reverse=True)
    if len(objects) < 2:
        return matte.rgba
    boxes = [f"--box {box_text(photo_box(part, *size))}" for part in objects]
    if matte.source == "alpha":
        context.warn(
            f"There seem to be several objects in {name}; they are treated as one. Choose one with"
            f" {' or '.join(boxes)}, or make them all with --objects each."
        )
        return matte.rgba
    context.warn(
        f"There seem to be several objects in {name}; the one in {boxes[0]} is made. Choose another with"
        f" {' or '.join(boxes[1:])}, or make them all with --objects each."
    )
    return np.where(objects[0][..., None] > 0, matte.rgba, 0)


def keep_main_parts(rgba: np.ndarray, share: float) -> tuple[np.ndarray, list[float], int]:
    """Drop fragments: parts smaller than ``share`` of the largest, unless they are near it.

    Returns:
        rgba with the dropped parts cleared, the kept parts' areas relative to the largest (descending)
        and the number of dropped parts.
    """
    alpha = rgba[..., 3]
    count, labels, stats, _ = cv2.connectedComponentsWithStats(
        (alpha > SOLID).astype(np.uint8), connectivity=8
    )
    if count == 1:
        return np.zeros_like(rgba), [], 0
    areas = stats[1:, cv2.CC_STAT_AREA].astype(float)
    largest = int(np.argmax(areas)) + 1
    areas /= areas.max()
    diagonal = np.hypot(stats[largest, cv2.CC_STAT_WIDTH], stats[largest, cv2.CC_STAT_HEIGHT])
    gap = cv2.distanceTransform((labels != largest).astype(np.uint8), cv2.DIST_L2, 3)
    nearest = np.full(count, np.inf)
    np.minimum.at(nearest, labels.ravel(), gap.ravel())
    stays = np.zeros(count, bool)
    stays[1:] = (areas >= share) | ((nearest[1:] <= NEARBY * diagonal) & (areas >= SPECK))
    kept = sorted(areas[stays[1:]].tolist(), reverse=True)
    return kept_parts(rgba, labels, stays), kept, count - 1 - len(kept)


def square_around(box: tuple[int, int, int, int], fill: float) -> tuple[int, int, int]:
    """Left, top and side of the square whose side a box's longer side fills by ``fill``, the box in its middle."""
    left, top, right, bottom = box
    width, height = right - left, bottom - top
    side = int(max(width, height) / fill)
    return left - (side // 2 - width // 2), top - (side // 2 - height // 2), side


def recenter(rgba: np.ndarray, fill: float, size: int) -> np.ndarray:
    """Center the object in a transparent square whose side its longer side fills by ``fill``.

    The same geometry as SV3D's sampling script: side int(max(w, h) / fill), the box pasted at
    side // 2 - w // 2, resized by Lanczos on premultiplied color.

    Args:
        rgba: [H, W, 4] float in [0, 1], straight alpha.
    Returns:
        [size, size, 4] float32.
    """
    left, top, right, bottom = bounding_box(rgba[..., 3])
    first_column, first_row, side = square_around((left, top, right, bottom), fill)
    x, y = left - first_column, top - first_row
    box = rgba[top:bottom, left:right].astype(np.float32)
    canvas = np.zeros((side, side, 4), np.float32)  # premultiplied
    canvas[y : y + bottom - top, x : x + right - left] = np.concatenate(
        [box[..., :3] * box[..., 3:], box[..., 3:]], -1
    )
    channels = [Image.fromarray(np.ascontiguousarray(canvas[..., i])) for i in range(4)]
    resized = np.stack([channel.resize((size, size), Image.Resampling.LANCZOS) for channel in channels], -1)
    alpha = np.where(resized[..., 3:] < 0.5 / 255, 0, resized[..., 3:])
    rgb = np.where(alpha > 0, resized[..., :3] / np.maximum(alpha, 0.5 / 255), 0)
    return np.clip(np.concatenate([rgb, alpha], -1), 0, 1)


def _warn(alpha: np.ndarray, object_pixels: int, name: str, context: Context) -> None:
    sides = touched_sides(alpha)
    if sides:
        context.warn(
            f"The object touches the {' and '.join(sides)} edge of {name};"
            " if it is cut off there, the missing part is guessed."
        )
    if object_pixels < TINY:
        context.warn(
            f"The object in {name} is only {object_pixels} pixels long; a closer photo gives more detail."
        )


def touched_sides(alpha: np.ndarray) -> list[str]:
    """Names of the picture's sides that the object meets over a good part of its own extent."""
    left, top, right, bottom = bounding_box(alpha)
    lines = {
        "left": (alpha[:, :2], 1, bottom - top),
        "right": (alpha[:, -2:], 1, bottom - top),
        "top": (alpha[:2], 0, right - left),
        "bottom": (alpha[-2:], 0, right - left),
    }
    return [
        side for side, (strip, axis, extent) in lines.items() if (strip > 0.5).any(axis).sum() > CUT * extent
    ]
