"""No picture of an orbit may veto alone: holes in one mask that all other views contradict are filled in.

A highlight as white as the background becomes a hole in a picture's matte, and through it every later step would
bore into the object: carving, the fit of the field, refinement. So masks are mended once, before all of them.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from sv3d_pipe.artifacts import Views
from sv3d_pipe.pictures import resize_rgba
from sv3d_pipe.prep.common_solid import Solid

# Of the visible sphere's diameter: shallower gaps may be real, though no other view confirms them.
DEEP = 1 / 24
AS_DEEP = 0.85  # of the depth beside a hole: a hole that the other views confirm is less deep
RING = (0.008, 0.026)  # of the side: where beside a hole that depth is taken
RIM = 0.006  # of the side: how far a hole's soft edge reaches
FINE = 96  # pixels per side below which a frame's pixels are too large for this; a larger photo is mended all the same


def mended(views: Views) -> tuple[Views, int]:
    """The views, with what one mask lacks against all the others filled in; and how many pictures that changed.

    A hole enclosed by the object is closed if the solid that the masks of all other views have in common is deep
    there and as deep as beside it. A true hole stays: views from beside it see it too, and where none can, because it is
    long and narrow or the object is thin, nothing contradicts it but thick matter on all sides. Parts missing at the
    outline do not come back: cameras of painted frames are not known well enough to tell them. Colors are filled in
    from their surroundings.
    Frames of fewer than FINE pixels, and views that are not known everywhere, are left as they are.
    """
    if views.seen is not None or len(views.rgba) < 3:
        return views, 0
    masks = [rgba[..., 3] > 0.5 for rgba in views.rgba]
    frames, photos, changed = views.rgba.copy(), views.photos, 0
    first = len(masks) - (views.n_photos if _are_last(views) else 0)  # of the frames that are photos, too
    for n in range(first, len(masks)):
        masks[n] = resize_rgba(photos[n - first], views.size)[..., 3] > 0.5
    solid = Solid.carve(np.stack(masks), views.cameras)
    for n in range(first) if views.size >= FINE else ():
        missing = _missing(frames[n], solid, n)
        if missing.any():
            frames[n], changed = filled(frames[n], missing), changed + 1
    for n in range(first, len(masks)):
        missing = _missing(photos[n - first], solid, n)
        if missing.any():
            photos, changed = photos.copy(), changed + 1
            photos[n - first] = filled(photos[n - first], missing)
            frames[n] = resize_rgba(photos[n - first], views.size)
    return replace(views, rgba=frames, photos=photos), changed


def filled(rgba: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """A picture [S, S, 4] made solid where it is missing, [S, S] bool, in the colors around."""
    reach = max(1, round(RIM * len(rgba)))
    wide = cv2.dilate(missing.astype(np.uint8), np.ones((2 * reach + 1,) * 2))
    hole = (missing | ((wide > 0) & (rgba[..., 3] < 1) & _enclosed(rgba[..., 3] < 1))).astype(np.uint8)
    paint = hole | (rgba[..., 3] < 0.5).astype(np.uint8)  # no color comes from the background
    levels = (np.clip(rgba[..., :3], 0, 1) * 255 + 0.5).astype(np.uint8)
    colors = cv2.inpaint(levels, paint, reach, cv2.INPAINT_TELEA) / np.float32(255)
    out = rgba.copy()
    out[hole > 0, :3], out[hole > 0, 3] = colors[hole > 0], 1
    return out


def _missing(rgba: np.ndarray, solid: Solid, n: int) -> np.ndarray:
    """[S, S] bool: the holes in a picture's mask that are none. ``solid`` is of all views, the picture's number ``n``."""
    size = len(rgba)
    mask = rgba[..., 3] > 0.5
    missing, holes = np.zeros_like(mask), _enclosed(~mask).astype(np.uint8)
    if not holes.any():
        return missing
    depth = solid.depth(n)  # in cells, as many as half its side go across the visible sphere
    depth = cv2.resize(depth * (2 / len(depth)), (size, size), interpolation=cv2.INTER_LINEAR)
    count, labels, boxes, _ = cv2.connectedComponentsWithStats(holes, connectivity=4)
    margin = int(np.ceil(RING[1] * size)) + 1
    for k in range(1, count):
        left, top, width, height = boxes[k, :4]
        part = np.s_[
            max(0, top - margin) : top + height + margin, max(0, left - margin) : left + width + margin
        ]
        inside = labels[part] == k
        away = cv2.distanceTransform((~inside).astype(np.uint8), cv2.DIST_L2, 5) / size
        beside = (away > RING[0]) & (away < RING[1]) & mask[part]
        here = np.median(depth[part][inside])
        if here >= DEEP and beside.any() and here >= AS_DEEP * np.median(depth[part][beside]):
            missing[part] |= inside
    return missing


def _enclosed(outside: np.ndarray) -> np.ndarray:
    """[S, S] bool: the pixels of a mask that its border does not reach."""
    _, labels = cv2.connectedComponents(
        np.pad(outside, 1, constant_values=True).astype(np.uint8), connectivity=4
    )
    return outside & (labels[1:-1, 1:-1] != labels[0, 0])


def _are_last(views: Views) -> bool:
    """Whether the photos were taken from where the last frames are seen."""
    return views.photos is not None and views.photo_cameras.equals(views.cameras[-views.n_photos :])
