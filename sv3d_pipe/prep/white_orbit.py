"""Cut an object out of all frames of an orbit painted on white, together.

A painted frame is white only nearly: its background has the noise of the model's decoder or of a video's
compression, and white objects are hardly darker. What is background is therefore measured on the orbit itself,
and where one frame leaves doubt the other frames decide.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from sv3d_pipe.cameras import Cameras
from sv3d_pipe.prep.common_solid import MOST_AGAINST, Solid
from sv3d_pipe.prep.white_edges import Outline, edge_profile
from sv3d_pipe.prep.white_shadow import largest_channel, shadow

PALE = 0.06  # distance from white below which a pixel may be background at all
TOLERANCE = (0.02, 0.04)  # least and most distance from white that counts as background
LEVELS = 1020  # of a distance while its median is taken, which is many times faster on bytes
SPECK = 4e-5  # share of the frame below which a part or a hole is none
SHALLOW = 0.75  # of the solid's usual depth: a gap that looks through a deeper place is paint
THINNER = 0.75  # of its depth beside the gap: the other frames see the gap, too
SHARP = (0.66, 0.75)  # least ratio of the distances from white 4 and 8 pixels beside a gap; a highlight fades
DISSENT = 2  # other frames that may lack a faint part
OUTSIDE = (0.7, 0.9)  # share of a gap that the other frames' solid covers: below, it is open; it may well be
DEEP = 6  # cells of the other frames' solid; less may be what their outlines cannot carve away
FAINT = 0.08  # distance from white of ringing at most
CLEAR = 0.15  # of what it rings around
RINGING = 8  # pixels it reaches
SURROUNDED = 0.98  # share of the border that is white around an object on white
DISC = np.ones((3, 3), np.uint8)


@dataclass(frozen=True)
class WhiteFrame:
    """One frame on white.

    Attributes:
        rgb: [S, S, 3]. white: [3], the frame's own background.
        distance: [S, S] largest difference from it of a channel.
        smooth: [S, S] median of the distance over 5 x 5 pixels, at most 1/4.
        mask: [S, S] bool, the object as far as it is known.
    """

    rgb: np.ndarray
    white: np.ndarray
    distance: np.ndarray
    smooth: np.ndarray
    mask: np.ndarray


def cut_from_white(
    frames: np.ndarray,  # [T, S, S, 3] in [0, 1], one object on white
    cameras: Cameras,  # of the T frames
) -> np.ndarray:  # [T, S, S, 4] straight alpha
    """Estimate the alpha of an orbit painted on white.

    Background is what differs from white no more than the border's surroundings do and is connected with the
    border. An enclosed gap is opened if it is as white as the background, has a sharp edge, and the solid that
    the other frames show is absent or shallow there; the rest is paint. Parts that a frame has lost although
    several others cannot be explained without them come back, and faint specks that no other frame knows go.
    Along the outline, alpha is a pixel's way from white to the color just inside, and white is taken out of the
    color.
    """
    read = [_read(rgb) for rgb in frames]
    noise = _background_noise(read)
    tolerance = float(np.clip(1.5 * noise + 0.006, *TOLERANCE))
    read = [replace(frame, mask=_object(frame, tolerance)) for frame in read]
    gaps = [_gaps(frame, tolerance) for frame in read]
    solid = Solid.carve(np.stack([f.mask & (g == 0) for f, g in zip(read, gaps)]), cameras)
    masks = np.stack(
        [
            _without_ringing(f, f.mask & ~_open(f, g, solid.depth(n), tolerance), solid.depth(n, DISSENT))
            for n, (f, g) in enumerate(zip(read, gaps))
        ]
    )
    solid = Solid.carve(masks, cameras)
    lost = solid.lost()  # [T, s, s]
    masks = np.stack(
        [_as_the_others(f, m, solid, n, lost[n], tolerance) for n, (f, m) in enumerate(zip(read, masks))]
    )
    outlines = [Outline.of(f.rgb, f.white, m) for f, m in zip(read, masks)]
    profile = edge_profile(outlines)
    return np.stack([line.rgba(frames.shape[1], profile, noise, tolerance) for line in outlines])


def is_on_white(
    rgb: np.ndarray,  # [H, W, 3] in [0, 1]
) -> bool:
    """Whether white surrounds what a picture shows: hardly anything at its border is of another color."""
    border = _border(rgb)
    return bool((largest_channel(1 - border) < PALE).mean() > SURROUNDED)


def _border(rgb: np.ndarray) -> np.ndarray:
    """[P, 3] the outermost pixels."""
    rim = max(2, round(0.02 * len(rgb)))
    sides = rgb[:rim], rgb[-rim:], rgb[:, :rim], rgb[:, -rim:]
    return np.concatenate([side.reshape(-1, 3) for side in sides])


def _read(rgb: np.ndarray) -> WhiteFrame:
    """A frame with all that is clearly not white as its mask."""
    border = _border(rgb)
    pale = border[largest_channel(1 - border) < PALE]
    white = (np.median(pale, 0) if len(pale) else np.ones(3)).astype(np.float32)
    distance = largest_channel(np.abs(white - rgb)).astype(np.float32)
    return WhiteFrame(rgb, white, distance, _median(distance, 5), distance > PALE)


def _background_noise(frames: list[WhiteFrame]) -> float:
    """Distance from white that hardly any place of the background exceeds, over all frames."""
    values = [np.zeros(1, np.float32)]
    for frame in frames:
        sure = cv2.erode(_flood(~frame.mask).astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
        values.append(frame.smooth[sure][::7])
    values = np.concatenate(values)
    middle = np.median(values)
    return float(middle + 3 * 1.4826 * np.median(np.abs(values - middle))) + 1 / 255


def _object(frame: WhiteFrame, tolerance: float) -> np.ndarray:
    """[S, S] bool: what the border's white does not reach, enclosed gaps included, without specks and shadows."""
    pale = _is_pale(frame, tolerance) & (_median(frame.distance, 3) < 2 * tolerance)
    mask = _without_specks(~_flood(pale), frame.smooth > 2 * tolerance)
    box = _box(mask, 2)
    mask[box] &= ~shadow(frame.white - frame.rgb[box], frame.smooth[box], mask[box], tolerance)
    return mask


def _without_specks(mask: np.ndarray, strong: np.ndarray) -> np.ndarray:
    """The parts of a mask that hold more than a speck of strong pixels."""
    count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    kept = np.bincount(labels.ravel(), strong.ravel(), count) > SPECK * labels.size
    kept[0] = False
    return kept[labels]


def _is_pale(frame: WhiteFrame, tolerance: float) -> np.ndarray:
    return (frame.smooth < tolerance) & (frame.distance < 2 * PALE)


def _gaps(frame: WhiteFrame, tolerance: float) -> np.ndarray:
    """[S, S] int: numbers, from 1, of the pale places that the object encloses; 0 elsewhere."""
    pale = _is_pale(frame, tolerance) & frame.mask
    _, labels, stats, _ = cv2.connectedComponentsWithStats(pale.astype(np.uint8), connectivity=4)
    counts = stats[:, cv2.CC_STAT_AREA] >= SPECK * pale.size
    counts[0] = False
    return np.where(counts, np.cumsum(counts), 0)[labels]


def _open(frame: WhiteFrame, gaps: np.ndarray, depth: np.ndarray, tolerance: float) -> np.ndarray:
    """[S, S] bool: the gaps through which the background is seen.

    Args:
        depth: [s, s] of the solid of the other frames.
    """
    usual = np.quantile(depth[depth > 0], 0.9) if depth.any() else 1.0
    depth = cv2.resize(depth, gaps.shape[::-1], interpolation=cv2.INTER_LINEAR)
    is_open = np.zeros(gaps.max() + 1, bool)
    for gap in range(1, len(is_open)):
        part = _box(gaps == gap, 16)
        inside, distance, behind = gaps[part] == gap, frame.distance[part], depth[part]
        away = cv2.distanceTransform((~inside).astype(np.uint8), cv2.DIST_L2, 5)
        near, far = (np.median(distance[np.abs(away - pixels) < 0.8]) for pixels in (4, 8))
        if near - np.median(distance[inside]) < 1.5 * tolerance:
            continue
        beside = behind[(np.abs(away - 12) < 2) & frame.mask[part]]
        here = np.median(behind[inside])
        thinner = len(beside) == 0 or here < THINNER * np.median(beside)
        covered = (behind[inside] > 0.5).mean()
        if covered < OUTSIDE[0]:
            is_open[gap] = True
        elif thinner or covered < OUTSIDE[1]:
            is_open[gap] = near > SHARP[0] * far
        else:
            is_open[gap] = here < SHALLOW * usual and near > max(CLEAR, SHARP[1] * far)
    found = is_open[gaps]
    wider = cv2.dilate(found.astype(np.uint8), DISC, iterations=2) > 0
    return found | (wider & (frame.smooth < tolerance))


def _without_ringing(frame: WhiteFrame, mask: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """The mask without the faint fringe that compression leaves along clear edges.

    Faint parts stay where they are broad and the other frames show something too, and away from clear edges.

    Args:
        depth: [s, s] of the solid of the other frames.
    """
    faint = mask & (frame.smooth < FAINT)
    near = cv2.dilate((frame.distance > CLEAR).astype(np.uint8), _disc(RINGING)) > 0
    broad = cv2.morphologyEx((faint | ~near & mask).astype(np.uint8), cv2.MORPH_OPEN, _disc(RINGING // 2))
    shown = cv2.resize(depth, mask.shape[::-1], interpolation=cv2.INTER_LINEAR) > 1
    count, labels = cv2.connectedComponents(broad, connectivity=4)
    agreed = np.bincount(labels.ravel(), shown.ravel(), count) > 0.5 * np.bincount(
        labels.ravel(), minlength=count
    )
    agreed[0] = False
    firm = cv2.dilate((mask & ~faint | agreed[labels]).astype(np.uint8), DISC) > 0
    open_to = ~mask | (faint & near & ~firm)
    count, labels = cv2.connectedComponents(open_to.astype(np.uint8), connectivity=4)
    outside = np.bincount(labels.ravel(), ~mask.ravel(), count) > 0
    return _without_specks(mask & ~(open_to & outside[labels]), frame.smooth > 0.5 * FAINT)


def _as_the_others(
    frame: WhiteFrame, mask: np.ndarray, solid: Solid, n: int, lost: np.ndarray, tolerance: float
) -> np.ndarray:
    """The mask with what the other frames hold to be there, and without faint parts that none of them knows.

    Args:
        solid: of all masks. n: the frame. lost: [s, s] the part that the others cannot be explained without.
    """
    mask = _with_part(mask, lost, frame.smooth > 0.5 * tolerance)
    deep = cv2.erode((solid.depth(n, 1) > DEEP).astype(np.uint8), DISC)
    mask = _with_part(mask, deep, frame.smooth > 0.75 * tolerance)
    known = cv2.dilate((solid.depth(n, MOST_AGAINST) > 0).astype(np.uint8), DISC)
    known = cv2.resize(known, mask.shape[::-1], interpolation=cv2.INTER_NEAREST) > 0
    return mask & (known | (frame.smooth > CLEAR))


def _with_part(mask: np.ndarray, part: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """The mask with those pieces of a part [s, s] of which most is shown, not plain background."""
    if not part.any():
        return mask
    pieces = cv2.resize(part.astype(np.uint8), mask.shape[::-1], interpolation=cv2.INTER_NEAREST)
    count, labels = cv2.connectedComponents(pieces & ~mask, connectivity=8)
    area = np.bincount(labels.ravel(), minlength=count)
    more = np.bincount(labels.ravel(), shown.ravel(), count) > 0.5 * area
    more[0] = False
    return mask | more[labels]


def _disc(radius: int) -> np.ndarray:
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))


def _box(mask: np.ndarray, margin: int) -> tuple[slice, slice]:
    """The box of a mask, wider by a margin."""
    left, top, width, height = cv2.boundingRect(mask.astype(np.uint8))
    return slice(max(0, top - margin), top + height + margin), slice(
        max(0, left - margin), left + width + margin
    )


def _median(distance: np.ndarray, size: int) -> np.ndarray:
    levels = np.minimum(distance * LEVELS, 255).astype(np.uint8)
    return cv2.medianBlur(levels, size) / np.float32(LEVELS)


def _flood(pale: np.ndarray) -> np.ndarray:
    """Pale pixels that the border reaches through passages at least three pixels wide."""
    core = cv2.erode(pale.astype(np.uint8), DISC)
    _, labels = cv2.connectedComponents(np.pad(core, 1, constant_values=1), connectivity=4)
    region = (labels == labels[0, 0])[1:-1, 1:-1].astype(np.uint8)
    for _ in range(2):
        region = cv2.dilate(region, DISC) & pale
    return region > 0
