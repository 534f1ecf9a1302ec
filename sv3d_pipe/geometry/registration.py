"""Where photos of one object were taken from, given about their directions: by their outlines alone.

Every photo was framed by itself, so neither the scale nor the place of the object in it means anything, and people are
a few degrees off when they say from where they took it. One object casts all the outlines: on every line of sight
along the rim of one of them there is a point that lies inside of all the others (the consistency of silhouettes,
Laurentini, PAMI 16(2), 1994; as a measure for cameras: Hernandez et al., PAMI 29(2), 2007). Cameras are turned, and
pictures moved and scaled, until that holds best.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sv3d_pipe.cameras import Cameras, orbit
from sv3d_pipe.geometry.camera_moves import moved
from sv3d_pipe.geometry.outlines import Outline

PARTS = 6  # of a change
ALONG = 64  # points along a line of sight
REACH = 1.1  # half the length that is looked along, in radii of the sphere that all cameras see
NOISE = 0.005  # share of the side: how far an outline is off
# Azimuth, elevation, roll (radians); log of the picture's scale, its shift to the right and down (shares of the side):
# what is expected to be wrong with what a person told, and how far it may be changed at most. With 4 degrees instead of
# 2, angles of ten objects that were told exactly moved by .7 on average instead of .3, and wrong ones came out the same.
EXPECTED = np.array([*np.radians([2, 2, 1.5]), 0.1, 0.03, 0.03])
BOUND = np.array([*np.radians([12, 12, 5]), 1.8, 0.12, 0.12])
STARTS = (0.0, 0.5, 1.0)  # shares of the difference in height that the scale makes up for at first
ROUNDS = 12
STEP = 0.1  # of what is expected, in which slopes are measured
FITS = 0.02  # share of the side by which a line of sight may miss an outline


@dataclass(frozen=True)
class Registration:
    """Photos, the cameras that took them, and where in their frames they are seen.

    Attributes:
        cameras: K on the orbit's sphere, the last as it was told.
        scale: [K] factors, about the middle, and shift: [K, 2] shares of the side to the right and down, that bring a
            photo into its camera's frame; the last stays as it is.
        turn: [K, 3] of the cameras from what was told: azimuth, elevation, roll in radians.
        misfit: [K] of each photo, the share of the lines of sight between it and the photo that it agrees with least
            that miss.
    """

    cameras: Cameras
    scale: np.ndarray
    shift: np.ndarray
    turn: np.ndarray
    misfit: np.ndarray

    @property
    def strain(self) -> np.ndarray:
        """[K] the largest part of each turn, in units of what is expected."""
        return (np.abs(self.turn) / EXPECTED[:3]).max(1)


def register(
    alphas: np.ndarray,  # [K, S, S] in [0, 1]
    azimuth_deg: np.ndarray,  # [K]
    elevation_deg: np.ndarray,  # [K]
) -> Registration:
    """The cameras of K photos of one object, each framed by itself; the last one's is known.

    Args:
        azimuth_deg, elevation_deg: from where they were taken, as far as is known, see :data:`EXPECTED`.
    Raises:
        ValueError: a photo is empty.
    """
    if not (alphas > 0.5).any((1, 2)).all():
        raise ValueError("a photo is empty")
    told = orbit(azimuth_deg, elevation_deg)
    outlines = [Outline.of(alpha) for alpha in alphas]
    change = np.zeros((len(alphas), PARTS))
    last = len(alphas) - 1
    for k in range(last):  # each beside the known one first, then all together
        pair = _Photos([outlines[k], outlines[last]], told[[k, last]])
        height = np.log(outlines[last].height / outlines[k].height)
        starts = []
        for share in STARTS:
            start = np.zeros((2, PARTS))
            start[0, 3] = np.clip(share * height, -BOUND[3], BOUND[3])
            found = pair.fit(start)
            starts.append((pair.cost(found, start), found[0]))
        change[k] = min(starts, key=lambda start: start[0])[1]
    photos = _Photos(outlines, told)
    scaled = change * (np.arange(PARTS) == 3)  # the scale is not to be expected, only found
    if last > 1:
        change = photos.fit(change, scaled)
    return Registration(
        turned(told, change),
        np.exp(change[:, 3]),
        change[:, 4:],
        change[:, :3],
        photos.misfit(change),
    )


def turned(cameras: Cameras, change: np.ndarray) -> Cameras:
    """Cameras turned by the first three numbers of a change [K, 6]."""
    return moved(cameras, change * (np.arange(PARTS) < 3))


Table = dict[tuple[int, int], np.ndarray]


class _Photos:
    """Outlines and the cameras that were told, the last of which is known."""

    def __init__(self, outlines: list[Outline], told: Cameras):
        self.outlines, self.told = outlines, told
        self.reach = REACH * told.visible_radius

    def cost(self, change: np.ndarray, usual: np.ndarray) -> float:
        """What a fit minimizes: robust squares of what lines of sight miss, and of how unusual the change is."""
        missed, unusual = _missed(self._table(change)), (change - usual) / EXPECTED
        return float((np.sqrt(1 + missed**2) - 1).sum() + 0.5 * (unusual**2).sum())

    def fit(self, change: np.ndarray, usual: np.ndarray | None = None) -> np.ndarray:
        """The change [K, 6] that fits best, by damped Gauss-Newton steps from one that is near.

        Args:
            usual: what is expected; by default where it starts.
        """
        usual = change if usual is None else usual
        free = np.zeros(change.shape, bool)
        free[:-1] = True
        cost, damping = self.cost(change, usual), 1e-2
        for _ in range(ROUNDS):
            system, pull = self._normal_equations(change, usual, free)
            improved = False
            while damping < 1e3:
                step = np.linalg.solve(system + damping * np.diag(np.diag(system)), pull)
                tried = change.copy()
                tried[free] -= step * np.broadcast_to(EXPECTED, change.shape)[free]
                tried = np.clip(tried, -BOUND, BOUND)
                less = self.cost(tried, usual)
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
        missing = np.zeros((len(self.outlines),) * 2)
        for pair, inside in self._table(change).items():
            missing[pair] = (inside.max(1) < -FITS).mean()
        return np.maximum(missing, missing.T).max(1)

    def _normal_equations(
        self, change: np.ndarray, usual: np.ndarray, free: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Of changes in units of what is expected."""
        table = self._table(change)
        missed, unusual = _missed(table), ((change - usual) / EXPECTED).ravel()
        slopes = []
        for k, part in np.argwhere(free):
            step = np.zeros(change.shape)
            step[k, part] = STEP * EXPECTED[part]
            slope = (_missed(self._table(change + step, table, k)) - missed) / STEP
            slopes.append(np.concatenate([slope, (step / EXPECTED).ravel() / STEP]))
        slopes = np.stack(slopes, 1)  # [R, F]
        weight = np.concatenate([1 / np.sqrt(1 + missed**2), np.ones(len(unusual))])
        residual = np.concatenate([missed, unusual])
        return (slopes * weight[:, None]).T @ slopes, slopes.T @ (weight * residual)

    def _table(self, change: np.ndarray, before: Table | None = None, only: int | None = None) -> Table:
        """How far points along the lines of sight of photo j are inside of the outline of photo k, for all j and k.

        Args:
            before, only: a table that differs from this one only where photo ``only`` takes part.
        """
        cameras, table = turned(self.told, change), dict(before or {})
        for j in range(len(self.outlines)):
            others = [k for k in range(len(self.outlines)) if k != j and only in (None, j, k)]
            if others:
                xyz = self._sight(cameras, change, j)
                table |= {(j, k): self._inside(cameras, change, k, xyz) for k in others}
        return table

    def _inside(self, cameras: Cameras, change: np.ndarray, k: int, xyz: np.ndarray) -> np.ndarray:
        """[R, ALONG] how far points are inside of a photo's outline, as shares of its frame's side."""
        return self.outlines[k].around(cameras[k], xyz, np.exp(change[k, 3]), change[k, 4:])

    def _sight(self, cameras: Cameras, change: np.ndarray, j: int) -> np.ndarray:
        """[R, ALONG, 3] points along the lines of sight through the rim of a photo's outline."""
        u = (np.exp(change[j, 3]) * (self.outlines[j].rim - 0.5) + change[j, 4:]) / cameras.focal(1)
        local = np.stack([u[:, 0], -u[:, 1], -np.ones(len(u))], -1)
        c2w = cameras.c2w[j].astype(np.float64)
        world = local @ c2w[:3, :3].T
        distance = np.linalg.norm(c2w[:3, 3])
        along = np.linspace(distance - self.reach, distance + self.reach, ALONG)
        return c2w[:3, 3] + world[:, None] * along[:, None]


def _missed(table: Table) -> np.ndarray:
    """[R] by how much all lines of sight miss what the outlines have in common, in units of NOISE."""
    common: dict[int, np.ndarray] = {}
    for (j, _), inside in table.items():
        common[j] = np.minimum(common[j], inside) if j in common else inside
    return np.concatenate([np.maximum(-common[j].max(1), 0) for j in sorted(common)]) / NOISE
