"""Where photos of one object were taken from, given about their directions: by their outlines alone.

Every photo was framed by itself, so neither its scale nor its place is known, and people are a few degrees off when
they say from where they took it. One object casts all the outlines: on every line of sight along the rim of one of
them there is a point that lies inside of all the others (the consistency of silhouettes, Laurentini, PAMI 16(2), 1994;
as a measure for cameras: Hernandez et al., PAMI 29(2), 2007). The cameras are moved until that holds best.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from sv3d_pipe.cameras import Cameras, orbit
from sv3d_pipe.geometry.camera_moves import POSE, moved

SIZE = 144  # side of the outlines that are compared, in pixels
RIM = 96  # lines of sight along the rim of each
ALONG = 96  # points along each
REACH = 1.1  # half the length that is looked along, in radii of the sphere that all cameras see
NOISE = 0.005  # share of the side: how far an outline is off
# Azimuth, elevation, roll (radians), log of the distance, shift to the right and down (shares of the side): what is
# expected to be wrong with a camera that a person told of, and how far it may be moved at most.
EXPECTED = np.array([*np.radians([4, 4, 1.5]), 0.1, 0.03, 0.03])
BOUND = np.array([*np.radians([12, 12, 5]), 0.7, 0.12, 0.12])
STARTS = (0.0, 0.5, 1.0)  # shares of the difference in height that the distance makes up for at first
ROUNDS = 12
FITS = 0.02  # share of the side by which a line of sight may miss an outline


@dataclass(frozen=True)
class Registration:
    """Photos and the cameras that took them.

    Attributes:
        cameras: K, the last as it was told.
        change: [K, 6] of what was told, as in :func:`sv3d_pipe.geometry.camera_moves.moved`.
        misfit: [K] of each photo, the share of the lines of sight between it and the photo that it agrees with least
            that miss.
        cost: of all of them, what was minimized.
    """

    cameras: Cameras
    change: np.ndarray
    misfit: np.ndarray
    cost: float


def register(
    alphas: np.ndarray,  # [K, S, S] in [0, 1]
    azimuth_deg: np.ndarray,  # [K]
    elevation_deg: np.ndarray,  # [K]
) -> Registration:
    """The cameras of K photos of one object, each framed by itself; the last one's is known.

    Args:
        azimuth_deg, elevation_deg: from where they were taken, as far as is known, see :data:`EXPECTED`.
    """
    told = orbit(azimuth_deg, elevation_deg)
    outlines = [_Outline.of(alpha) for alpha in alphas]
    change = np.zeros((len(alphas), POSE))
    last = len(alphas) - 1
    for k in range(last):  # each beside the known one first, then all together
        pair = _Photos([outlines[k], outlines[last]], told[[k, last]])
        height = np.log(outlines[last].height / outlines[k].height)
        starts = []
        for share in STARTS:
            start = np.zeros((2, POSE))
            start[0, 3] = np.clip(share * height, -BOUND[3], BOUND[3])
            starts.append((pair.cost(start), start))
        change[k] = pair.fit(min(starts, key=lambda start: start[0])[1])[0]
    photos = _Photos(outlines, told)
    if last > 1:
        change = photos.fit(change)
    return Registration(moved(told, change), change, photos.misfit(change), photos.cost(change))


@dataclass(frozen=True)
class _Outline:
    """A mask as distances.

    Attributes:
        inside: [SIZE, SIZE] float32, how far pixel centers are inside of the mask, as shares of the side; negative outside.
        rim: [R, 2] x and y in [0, 1] of points on its rim.
        height: of the mask, as a share of the side.
    """

    inside: np.ndarray
    rim: np.ndarray
    height: float

    @classmethod
    def of(cls, alpha: np.ndarray) -> _Outline:
        fine = cv2.resize(alpha.astype(np.float32), (2 * SIZE, 2 * SIZE), interpolation=cv2.INTER_AREA) > 0.5
        mask = fine.astype(np.uint8)
        within, beyond = (
            cv2.distanceTransform(m, cv2.DIST_L2, cv2.DIST_MASK_PRECISE) for m in (mask, 1 - mask)
        )
        inside = (np.maximum(within - 0.5, 0) - np.maximum(beyond - 0.5, 0)) / (2 * SIZE)
        inside = cv2.resize(inside.astype(np.float32), (SIZE, SIZE), interpolation=cv2.INTER_AREA)
        contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        rim = (np.concatenate(contours)[:, 0] + 0.5) / (2 * SIZE)
        rows = np.flatnonzero(mask.any(1))
        rim = rim[np.linspace(0, len(rim), min(RIM, len(rim)), endpoint=False).astype(int)]
        return cls(inside, rim.astype(np.float64), (rows[-1] + 1 - rows[0]) / (2 * SIZE))


class _Photos:
    """Outlines and the cameras that were told, the last of which is known."""

    def __init__(self, outlines: list[_Outline], told: Cameras):
        self.outlines, self.told = outlines, told
        self.reach = REACH * told.visible_radius

    def cost(self, change: np.ndarray) -> float:
        """What a fit minimizes: robust squares of what lines of sight miss, and of the change in what is expected."""
        missed, unusual = self._residuals(change)
        return float((np.sqrt(1 + missed**2) - 1).sum() + 0.5 * (unusual**2).sum())

    def fit(self, change: np.ndarray) -> np.ndarray:
        """The change [K, 6] that fits best, by damped Gauss-Newton steps from one that is near."""
        free = np.zeros(change.shape, bool)
        free[:-1] = True
        cost, damping = self.cost(change), 1e-2
        for _ in range(ROUNDS):
            system, pull = self._normal_equations(change, free)
            improved = False
            while damping < 1e3:
                step = np.linalg.solve(system + damping * np.diag(np.diag(system)), pull)
                tried = change.copy()
                tried[free] -= step * np.broadcast_to(EXPECTED, change.shape)[free]
                tried = np.clip(tried, -BOUND, BOUND)
                less = self.cost(tried)
                if less < cost:
                    improved = cost - less > 1e-3 * cost
                    change, cost, damping = tried, less, damping / 4
                    break
                damping *= 6
            if not improved:
                break
        return change

    def misfit(self, change: np.ndarray) -> np.ndarray:
        """[K] see :class:`Registration`."""
        cameras, count = moved(self.told, change), len(self.outlines)
        missing = np.zeros((count, count))
        for j in range(count):
            xyz = self._sight(cameras, j)
            for k in range(count):
                if k != j:
                    missing[j, k] = (self._inside(cameras, k, xyz).max(1) < -FITS).mean()
        return np.maximum(missing, missing.T).max(1)

    def _normal_equations(self, change: np.ndarray, free: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of changes in units of what is expected."""
        missed, unusual = self._residuals(change)
        slopes = []
        for k, part in np.argwhere(free):
            step = np.zeros(change.shape)
            step[k, part] = 0.1 * EXPECTED[part]
            ahead, behind = self._residuals(change + step), self._residuals(change - step)
            slopes.append(np.concatenate([a - b for a, b in zip(ahead, behind)]) / 0.2)
        slopes = np.stack(slopes, 1)  # [R, F]
        weight = np.concatenate([1 / np.sqrt(1 + missed**2), np.ones(len(unusual))])
        residual = np.concatenate([missed, unusual])
        return (slopes * weight[:, None]).T @ slopes, slopes.T @ (weight * residual)

    def _residuals(self, change: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """[R] by how much lines of sight miss, in units of NOISE, and [6 K] the change in units of what is expected."""
        cameras, missed = moved(self.told, change), []
        for j in range(len(self.outlines)):
            xyz = self._sight(cameras, j)
            common = np.full(xyz.shape[:2], np.inf)
            for k in range(len(self.outlines)):
                if k != j:
                    common = np.minimum(common, self._inside(cameras, k, xyz))
            missed.append(np.maximum(-common.max(1), 0) / NOISE)
        return np.concatenate(missed), (change / EXPECTED).ravel()

    def _sight(self, cameras: Cameras, j: int) -> np.ndarray:
        """[R, ALONG, 3] points along the lines of sight through the rim of a photo's outline."""
        u = (self.outlines[j].rim - 0.5) / cameras.focal(1)
        local = np.stack([u[:, 0], -u[:, 1], -np.ones(len(u))], -1)
        c2w = cameras.c2w[j].astype(np.float64)
        world = local @ c2w[:3, :3].T
        distance = np.linalg.norm(c2w[:3, 3])
        along = np.linspace(distance - self.reach, distance + self.reach, ALONG)
        return c2w[:3, 3] + world[:, None] * along[:, None]

    def _inside(self, cameras: Cameras, k: int, xyz: np.ndarray) -> np.ndarray:
        """[R, ALONG] how far points are inside of a photo's outline, as shares of its side."""
        w2c = cameras.w2c[k].astype(np.float64)
        local = xyz @ w2c[:3, :3].T + w2c[:3, 3]
        scale = cameras.focal(SIZE) / -local[..., 2]
        x, y = local[..., 0] * scale + SIZE / 2 - 0.5, -local[..., 1] * scale + SIZE / 2 - 0.5
        outside = np.maximum(np.maximum(-x, x - (SIZE - 1)), np.maximum(-y, y - (SIZE - 1)))
        seen = cv2.remap(
            self.outlines[k].inside, x.astype(np.float32), y.astype(np.float32), cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )  # fmt: skip
        return seen - np.maximum(outside, 0) / SIZE
