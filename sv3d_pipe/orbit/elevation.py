"""The elevation of an orbit's cameras, from the outlines of its frames alone.

Masks seen from where they were taken leave a visual hull that explains all of them; seen from elsewhere they
carve away what the others show. So at the right elevation every ray through an outline touches the hull of the
other views (silhouette coherence: Hernandez, Schmitt and Cipolla, PAMI 29(2), 2007). The hull itself is never
built: a point of a ray is in it if it projects into every other mask, and a ray that meets none falls short of
it by as many pixels as the best of its points lies outside the mask that wants it least.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from sv3d_pipe.cameras import RADIUS, Cameras, orbit
from sv3d_pipe.orbit._elevation_numba import reach_hull

# Chosen on renders of held-out training objects with spoiled masks, and on solids of revolution, which tell nothing.
SIZE = 192  # side of the masks that are compared, in pixels
RAYS = 40  # through each outline
SAMPLES = 64  # along each ray
REACH = 0.75  # how far before and behind the middle of the scene they lie
DISSENT = 1  # views that need not agree on a point: a single frame may have lost a part
FARTHEST = 8.0  # pixels of SIZE from which on a shortfall counts no more
LOWEST_DEG, HIGHEST_DEG = -40, 70  # where the photo's elevation is looked for
STEEPEST_DEG = 85  # of any frame
CLEAR_DEG = 8.0  # the margin up to which an estimate is to be trusted
NOISE = 0.1, 0.25  # a mean shortfall larger by this (pixels; share) may be noise and no worse elevation
TOUCHES = 2.0  # pixels of SIZE by which a ray that meets the hull may miss it


@dataclass(frozen=True)
class Seen:
    """What the outlines of an orbit say of its photo's elevation.

    Attributes:
        elevation_deg: at which they agree best.
        margin_deg: how far from it they agree nearly as well; infinite where they agree best at an end of the search.
        coverage: share of the outlines that the hull then reaches.
    """

    elevation_deg: float
    margin_deg: float
    coverage: float

    @property
    def clear(self) -> bool:
        """Whether the outlines tell the elevation at all: those of a ball agree at any."""
        return self.margin_deg <= CLEAR_DEG


def seen_elevation(
    alpha: np.ndarray,  # [N, S, S] in [0, 1]
    azimuth_deg: np.ndarray,  # [N]
    elevation_deg: np.ndarray,  # [N], of which only the differences count
) -> Seen | None:
    """Search the elevation of the last frame, which is the photo's, with all the others moved along.

    Returns:
        None if there is no outline, or no elevation at which all cameras stay off the poles.
    """
    outlines = _Outlines(alpha)
    above_photo = np.asarray(elevation_deg, np.float64) - elevation_deg[-1]  # [N]
    lowest = max(LOWEST_DEG, int(np.ceil(-STEEPEST_DEG - above_photo.min())))
    highest = min(HIGHEST_DEG, int(np.floor(STEEPEST_DEG - above_photo.max())))
    if lowest > highest or not outlines:
        return None
    short: dict[int, np.ndarray] = {}  # elevation -> [R] of all rays

    def look(elevations: range) -> int:
        """The best elevation after these, too, have been tried."""
        for degrees in elevations:
            if lowest <= degrees <= highest and degrees not in short:
                short[degrees] = outlines.shortfalls(orbit(azimuth_deg, degrees + above_photo))
        return min(short, key=lambda degrees: short[degrees].mean())

    best = look(range(lowest, highest + 1, 5))
    best = look(range(best - 4, best + 5, 2))
    best = look(range(best - 3, best + 4))
    tried = np.array(sorted(short))
    loss = np.array([short[degrees].mean() for degrees in tried])
    middle = _lowest_point(tried, loss, best)
    coverage = float((short[best] <= TOUCHES).mean())
    margin = np.inf if best in (lowest, highest) else _margin(tried, loss, middle)
    return Seen(middle, float(margin), coverage)


def _lowest_point(tried: np.ndarray, loss: np.ndarray, best: int) -> float:
    """The lowest point of a parabola through the losses within 3 degrees of the best."""
    near = np.abs(tried - best) <= 3
    if near.sum() < 3:
        return float(best)
    bend, slope, _ = np.polyfit(tried[near] - best, loss[near], 2)
    return float(best + np.clip(-slope / (2 * bend), -3, 3)) if bend > 0 else float(best)


def _margin(tried: np.ndarray, loss: np.ndarray, middle: float) -> float:
    """How far from the middle losses can be told from the smallest no more."""
    between = np.arange(tried[0], tried[-1] + 0.1, 0.25)
    good = np.interp(between, tried, loss) <= loss.min() * (1 + NOISE[1]) + NOISE[0]
    return float(np.abs(between[good] - middle).max())


class _Outlines:
    """The outlines of N masks; of R rays in all, those of one view after those of another.

    Args:
        alpha: [N, S, S] in [0, 1].
    """

    def __init__(self, alpha: np.ndarray):
        self.distances = np.stack([_distance(frame) for frame in alpha])  # [N, SIZE, SIZE]
        pixels = [_on_outline(distance) for distance in self.distances]  # [R_n, 2] each
        self.view = np.repeat(np.arange(len(alpha)), [len(found) for found in pixels])  # [R]
        middle = np.concatenate(pixels) - SIZE / 2  # [R, 2]
        self.pixels = np.concatenate([middle * (1, -1), np.zeros((len(middle), 1))], -1)  # x right, y up, 0

    def __bool__(self) -> bool:
        return len(self.view) > 0

    def shortfalls(self, cameras: Cameras) -> np.ndarray:
        """[R] pixels by which the rays fall short of the hull that the other views leave, 0 to FARTHEST."""
        focal = cameras.focal(SIZE)
        c2w = cameras.c2w[self.view].astype(np.float64)  # [R, 4, 4]
        directions = np.einsum("rij,rj->ri", c2w[:, :3, :3], self.pixels / focal - (0, 0, 1))
        reached = np.full(len(self.view), -FARTHEST)
        near, step = RADIUS - REACH, 2 * REACH / (SAMPLES - 1)
        steepest = step * focal / near  # pixels between samples at the nearest point, seen from aside
        reach_hull(
            self.distances, cameras.w2c.astype(np.float64), focal, self.view, c2w[:, :3, 3], directions,
            near, step, SAMPLES, steepest, DISSENT, reached,
        )  # fmt: skip
        return -reached


def _distance(alpha: np.ndarray) -> np.ndarray:
    """[S, S] alpha to the distance from its outline in pixels of SIZE, [SIZE, SIZE], positive inside."""
    way = cv2.INTER_AREA if len(alpha) > SIZE else cv2.INTER_LINEAR
    mask = (cv2.resize(alpha.astype(np.float32), (SIZE, SIZE), interpolation=way) > 0.5).astype(np.uint8)
    return cv2.distanceTransform(mask, cv2.DIST_L2, 5) - cv2.distanceTransform(1 - mask, cv2.DIST_L2, 5)


def _on_outline(distance: np.ndarray) -> np.ndarray:
    """[R, 2] float32 pixel coordinates of at most RAYS pixels on an outline, spread evenly around its middle."""
    y, x = np.nonzero((distance > 0) & (distance < 1.2))
    if not len(y):
        return np.zeros((0, 2), np.float32)
    around = np.argsort(np.arctan2(y - y.mean(), x - x.mean()), kind="stable")
    chosen = around[np.linspace(0, len(around), min(RAYS, len(around)), endpoint=False).astype(int)]
    return np.stack([x[chosen], y[chosen]], -1).astype(np.float32) + 0.5
