"""Which object of a photo is meant: the user's box or point, and what of a cut-out belongs to it."""

from __future__ import annotations

import cv2
import numpy as np

from sv3d_pipe.config import PrepConfig
from sv3d_pipe.errors import UserError
from sv3d_pipe.prep.parts import SOLID, bounding_box, kept_parts

Box = tuple[float, float, float, float]  # left, top, right, bottom; the last two exclusive
Point = tuple[float, float]
MARGIN = 2  # pixels of a picture around what is visible of an object, in a box that is told of it
INSIDE = 0.5  # share of a part's area that must lie in a box for the part to be meant


def read_box(text: str, width: int, height: int, name: str) -> Box:
    """A box in pixels of an upright photo.

    Args:
        text: ``left,top,right,bottom``. name: the photo's, for messages.
    Raises:
        UserError: not four numbers, a box without extent, or one that is not within the photo.
    """
    numbers = _numbers(text)
    if len(numbers) != 4:
        raise UserError(f"A box is four numbers, left,top,right,bottom in pixels, not {text!r}.")
    left, top, right, bottom = numbers
    if right <= left or bottom <= top:
        raise UserError(f"The box {text} is empty; give left,top,right,bottom in pixels of {name}.")
    if right > width or bottom > height or min(numbers) < 0:
        raise UserError(f"The box {text} reaches outside of {name}, which has {width} x {height} pixels.")
    return left, top, right, bottom


def read_point(text: str, width: int, height: int, name: str) -> Point:
    """A point in pixels of an upright photo, from ``x,y``. Raises UserError as :func:`read_box` does."""
    numbers = _numbers(text)
    if len(numbers) != 2:
        raise UserError(f"A point is two numbers, x,y in pixels, not {text!r}.")
    x, y = numbers
    if not (0 <= x < width and 0 <= y < height):
        raise UserError(f"The point {text} lies outside of {name}, which has {width} x {height} pixels.")
    return x, y


def box_text(box: Box) -> str:
    """What :func:`read_box` reads: ``12,40,300,410``."""
    return ",".join(f"{value:g}" for value in box)


def photo_box(alpha: np.ndarray, width: int, height: int) -> Box:
    """The box of what is visible in an alpha [h, w], and a little around it, in whole pixels of the photo.

    Args:
        width, height: of the photo, of which the alpha may be that of a smaller copy.
    """
    box, scale = bounding_box(alpha), max(width, height) / max(alpha.shape)
    left, top = (max(0, int((low - MARGIN) * scale)) for low in box[:2])
    right, bottom = (
        min(most, int(np.ceil((high + MARGIN) * scale))) for high, most in zip(box[2:], (width, height))
    )
    return left, top, right, bottom


def meant(
    config: PrepConfig, full: tuple[int, int], shown: tuple[int, int], name: str
) -> tuple[Box | None, Point | None]:
    """The settings' box and point in pixels of a picture that may be a smaller copy of the photo.

    Args:
        full, shown: width and height of the photo and of the picture.
    Raises:
        UserError: both are given, or one that cannot be used.
    """
    if config.box and config.point:
        raise UserError(
            "Both a box and a point are given; one of them is enough to say which object is meant."
        )
    across, down = shown[0] / full[0], shown[1] / full[1]
    box = read_box(config.box, *full, name) if config.box else None
    point = read_point(config.point, *full, name) if config.point else None
    return (
        box and (box[0] * across, box[1] * down, box[2] * across, box[3] * down),
        point and (point[0] * across, point[1] * down),
    )


def only_meant(rgba: np.ndarray, box: Box | None, point: Point | None) -> np.ndarray:
    """A cut-out [H, W, 4] without what lies outside of the box, or without all parts but the one at the point."""
    if box is not None:
        return within_box(rgba, box)
    return rgba if point is None else part_at(rgba, point)


def within_box(rgba: np.ndarray, box: Box) -> np.ndarray:
    """A cut-out [H, W, 4] cropped to a box, without parts that reach into it from outside.

    A part most of which lies outside of the box is another object, unless the box holds nothing else.
    """
    count, labels = cv2.connectedComponents((rgba[..., 3] > SOLID).astype(np.uint8), connectivity=8)
    inner = box_mask(rgba.shape[:2], box)
    area = np.bincount(labels.ravel(), minlength=count)
    inside = np.bincount(labels[inner], minlength=count)
    stays = inside > INSIDE * area
    stays[0] = False
    cropped = np.where(inner[..., None], rgba, 0)
    return kept_parts(cropped, labels, stays) if stays.any() else cropped


def part_at(rgba: np.ndarray, point: Point) -> np.ndarray:
    """The part of a cut-out [H, W, 4] that holds a point, or the nearest one to it; all else cleared."""
    solid = rgba[..., 3] > SOLID
    if not solid.any():
        return np.zeros_like(rgba)
    count, labels = cv2.connectedComponents(solid.astype(np.uint8), connectivity=8)
    rows, columns = np.nonzero(solid)
    nearest = np.argmin((columns + 0.5 - point[0]) ** 2 + (rows + 0.5 - point[1]) ** 2)
    stays = np.zeros(count, bool)
    stays[labels[rows[nearest], columns[nearest]]] = True
    return kept_parts(rgba, labels, stays)


def box_mask(shape: tuple[int, int], box: Box) -> np.ndarray:
    """[H, W] bool: the pixels that a box covers, at least in part."""
    left, top, right, bottom = box
    mask = np.zeros(shape, bool)
    mask[int(np.floor(top)) : int(np.ceil(bottom)), int(np.floor(left)) : int(np.ceil(right))] = True
    return mask


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        return []
