"""What the matting network says of a photo: looked at whole, then closely, twice each."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from sv3d_pipe.built_in import built_in_folder
from sv3d_pipe.prep.matting.network import MattingNet
from sv3d_pipe.prep.matting.told import box_map, point_map
from sv3d_pipe.prep.matting.weights import NAME, load_network
from sv3d_pipe.prep.meant import Box, Point

SIDE = 256  # of the square that the network looks at: of 256, 288 and 320 the best on held-out scenes
CLOSE = 1.25  # side of the part that is looked at closely, in units of the object's
WIDE = 1.8  # side of the part around a box that is looked at first, in units of the box's
WINDOWS = (1.0, 0.5, 0.3)  # half sides of the parts around a point, as shares of the photo's longer side
LEAST = 0.5  # alpha that something must reach to be found


@dataclass(frozen=True)
class Finding:
    """What was found in a photo [H, W].

    Attributes:
        alpha: [H, W] float32 of the object that is meant.
        others: [H, W] float32 of everything that is an object, this one too.
        looks: [4, h, w] float32 of the object, as each look saw it, all in the frame of ``part``.
        part: of the photo, that was looked at closely.
    """

    alpha: np.ndarray
    others: np.ndarray
    looks: np.ndarray
    part: tuple[int, int, int, int]


@functools.cache
def built_in() -> MattingNet:
    """The network that comes with img2mesh, loaded once."""
    return load_network(built_in_folder(NAME))


def find(
    rgb: np.ndarray,
    box: Box | None = None,
    point: Point | None = None,
    network: MattingNet | None = None,
) -> Finding:
    """Find the object that a photo shows, or the one told of.

    The whole photo is looked at first, or the surroundings of the box or the point, and then the part close around what
    was found, or the box; each as it is and mirrored.

    Args:
        rgb: [H, W, 3] float32 in [0, 1].
        box: around the object that is meant. point: on it. In pixels.
        network: the built-in one by default.
    """
    network = network or built_in()
    height, width = rgb.shape[:2]
    if point is not None:
        wide, first = _best_window(network, rgb, point)
    else:
        wide = (0, 0, width, height) if box is None else around(box, width, height, WIDE)
        first = look(network, rgb, wide, box)  # [2, 2, S, S]
    alpha, others = (_placed(answer, wide, width, height) for answer in first.mean(0))
    found = box if box is not None else bounds(alpha)
    if found is None:
        return Finding(alpha, others, np.concatenate([first[:, 0]] * 2), wide)
    part = left, top, right, bottom = around(found, width, height, CLOSE)
    second = look(network, rgb, part, found)  # told of the box, so that what stands beside it is not meant
    alpha = _placed(second[:, 0].mean(0), part, width, height)
    earlier = np.stack(
        [_placed(mirror, wide, width, height)[top:bottom, left:right] for mirror in first[:, 0]]
    )
    earlier = np.stack([cv2.resize(one, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for one in earlier])
    return Finding(alpha, np.maximum(others, alpha), np.concatenate([earlier, second[:, 0]]), part)


def close_look(rgb: np.ndarray, box: Box, network: MattingNet | None = None) -> np.ndarray:
    """The object in a box, [H, W] float32; only the part around the box is looked at."""
    height, width = rgb.shape[:2]
    part = around(box, width, height, CLOSE)
    answers = look(network or built_in(), rgb, part, box)
    return _placed(answers[:, 0].mean(0), part, width, height)


def _best_window(
    network: MattingNet, rgb: np.ndarray, point: Point
) -> tuple[tuple[int, int, int, int], np.ndarray]:
    """The part of a photo, all of it or a window around the point, in which the object there is seen best; and the look."""
    height, width = rgb.shape[:2]
    best = None
    for share in WINDOWS:
        reach = share * max(height, width)
        part = around((*point, *point), width, height, 1.0, reach)
        seen = look(network, rgb, part, None, point)
        worth = _worth(seen[:, 0], part, point, width, height)
        if best is None or worth > best[0]:
            best = worth, part, seen
    return best[1:]


def _worth(
    looks: np.ndarray,  # [2, S, S]
    part: tuple[int, int, int, int],
    point: Point,
    width: int,
    height: int,
) -> float:
    """How well an object is seen in a part: both looks agree, sharply, at the point, and the part does not cut it off."""
    left, top, right, bottom = part
    mean = looks.mean(0)
    total = max(float(mean.sum()), 1.0)
    sharpness = float((np.abs(2 * mean - 1) * mean).sum()) / total
    x, y = (point[0] - left) / (right - left), (point[1] - top) / (bottom - top)
    there = float(mean[min(SIDE - 1, int(y * SIDE)), min(SIDE - 1, int(x * SIDE))])
    sides = (
        (mean[0], top > 0),
        (mean[-1], bottom < height),
        (mean[:, 0], left > 0),
        (mean[:, -1], right < width),
    )
    within = [side for side, inner in sides if inner]
    cut = float(np.mean(np.concatenate(within) > LEAST)) if within else 0.0
    return soft_iou(*looks) * sharpness * there * (1 - min(1.0, 4 * cut))


@torch.inference_mode()
def look(
    network: MattingNet,
    rgb: np.ndarray,
    part: tuple[int, int, int, int],
    box: Box | None = None,
    point: Point | None = None,
) -> np.ndarray:
    """Both answers of the network to a part of a photo, squeezed into its square, as it is and mirrored.

    Returns:
        [2, 2, SIDE, SIDE] float32: looks by answers (meant, any).
    """
    left, top, right, bottom = part
    crop = rgb[top:bottom, left:right]
    shrinks = max(crop.shape[:2]) > SIDE
    square = cv2.resize(crop, (SIDE, SIDE), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    told = np.zeros((2, SIDE, SIDE), np.float32)
    scale = SIDE / (right - left), SIDE / (bottom - top)
    if box is not None:
        x0, y0, x1, y1 = box
        inner = (x0 - left) * scale[0], (y0 - top) * scale[1], (x1 - left) * scale[0], (y1 - top) * scale[1]
        told[0] = box_map(inner, SIDE, SIDE)
    if point is not None:
        told[1] = point_map((point[0] - left) * scale[0], (point[1] - top) * scale[1], SIDE, SIDE)
    colors, told = torch.from_numpy(square.transpose(2, 0, 1))[None], torch.from_numpy(told)[None]
    answers = [
        network(colors, told)[0][0].sigmoid(),
        network(colors.flip(-1), told.flip(-1))[0][0].sigmoid().flip(-1),
    ]
    return torch.stack(answers).numpy()


def soft_iou(first: np.ndarray, second: np.ndarray) -> float:
    """Of two alphas [h, w]: the sum of the smaller over the sum of the larger; 0 where both hold less than a pixel."""
    return float(np.minimum(first, second).sum() / max(float(np.maximum(first, second).sum()), 1.0))


def bounds(alpha: np.ndarray) -> tuple[int, int, int, int] | None:
    """Left, top, right, bottom of what is found in [H, W], without specks; None if nothing is."""
    solid = (alpha > LEAST).astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(solid, connectivity=8)
    if count == 1:
        return None
    large = stats[:, cv2.CC_STAT_AREA] >= 0.02 * stats[1:, cv2.CC_STAT_AREA].max()
    large[0] = False
    kept = large[labels]
    rows, columns = np.flatnonzero(kept.any(1)), np.flatnonzero(kept.any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def around(box: Box, width: int, height: int, size: float, margin: float = 2.0) -> tuple[int, int, int, int]:
    """The box enlarged on all sides, ``size`` times as long on its longer one and by ``margin`` pixels, within the photo."""
    left, top, right, bottom = box
    more = (size - 1) / 2 * max(right - left, bottom - top) + margin
    return (
        max(0, int(left - more)),
        max(0, int(top - more)),
        min(width, int(np.ceil(right + more))),
        min(height, int(np.ceil(bottom + more))),
    )


def _placed(answer: np.ndarray, part: tuple[int, int, int, int], width: int, height: int) -> np.ndarray:
    """What was seen in a part, in the frame of the photo: [H, W], 0 elsewhere."""
    left, top, right, bottom = part
    whole = np.zeros((height, width), np.float32)
    whole[top:bottom, left:right] = _resized(answer, right - left, bottom - top)
    return whole


def _resized(answer: np.ndarray, width: int, height: int) -> np.ndarray:
    return cv2.resize(answer, (width, height), interpolation=cv2.INTER_LINEAR)
