"""One shape for outlines that do not agree: exactly what some show, and as near as that allows to what the others do."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from scipy import ndimage

from sv3d_pipe.cameras import Cameras
from sv3d_pipe.geometry.hull import cell_centers
from sv3d_pipe.geometry.outlines import Outline

GRID = 72  # cells per side
AGREE = (
    0.85  # share of the painted outlines that must hold a point, as hull.AGREEMENT has it for generated views
)
SLOPE = 0.3  # by which what is added falls with distance, so that it has no thin fins: cells per cell
ROUNDS = 4  # of adding what is lacking
FINEST = 2 * GRID  # side of pictures above which they show no more of the cells
LOOKED_AT = 48  # side of the pictures in which it is looked for
DEEP = 0.5  # cells that a point must lie inside to be sure to be seen
BEYOND = -2.0  # cells outside of a known outline from where on nothing is asked


@dataclass(frozen=True)
class CommonShape:
    """A shape as a field.

    Attributes:
        inside: [G, G, G] float32, indexed x, y, z: about how far cell centers are inside, in cells; negative outside.
        radius: half side of the cube.
    """

    inside: np.ndarray
    radius: float

    @classmethod
    def of(
        cls,
        painted: list[Outline],
        painted_cameras: Cameras,
        known: list[Outline],
        known_cameras: Cameras,
        radius: float,
    ) -> CommonShape:
        """What all known outlines hold, and of that what most painted ones do; more where a known one would be empty.

        Raised where a known outline lacks something: at the points on such a line of sight that are most inside of the
        painted outlines, and less and less around them.
        """
        points = cell_centers(GRID, radius)
        most = _inside(known, known_cameras, points, radius).min(0)
        asked = np.flatnonzero(most > BEYOND)
        votes = _inside(painted, painted_cameras, points[asked], radius)
        allowed = int((1 - AGREE) * len(votes))
        least = np.full(len(points), -np.inf, np.float32)
        least[asked] = np.partition(votes, allowed, 0)[allowed]
        shape = cls(np.minimum(most, least).reshape((GRID,) * 3), radius)
        raised = np.zeros((GRID,) * 3, np.float32)
        limit, start = (
            most.reshape(raised.shape),
            np.where(np.isfinite(least), least, -GRID).reshape(raised.shape),
        )
        for _ in range(ROUNDS):
            lacking = np.zeros_like(raised)
            for outline, camera in zip(known, known_cameras):
                np.maximum(lacking, shape._lacking(outline, camera), out=lacking)
            if not lacking.any():
                break
            raised += _spread(lacking)
            shape = cls(np.minimum(limit, start + raised), radius)
        return shape

    def seen(self, camera: Cameras, size: int) -> np.ndarray:  # [size, size]
        """The most that a point along each pixel's line of sight is inside, in cells."""
        most = self._along(camera, min(size, FINEST))[0]
        return cv2.resize(most, (size, size), interpolation=cv2.INTER_LINEAR)

    def _lacking(self, outline: Outline, camera: Cameras) -> np.ndarray:
        """[G, G, G] how far outside, in cells, the nearest points of lines of sight are that should meet the shape."""
        most, where = self._along(camera, LOOKED_AT)
        pixel = (np.arange(LOOKED_AT) + 0.5) / LOOKED_AT
        column, row = np.meshgrid(pixel, pixel)
        u = np.stack([column, row], -1) * len(outline.inside) - 0.5
        should = ndimage.map_coordinates(outline.inside, [u[..., 1], u[..., 0]], order=1, mode="nearest")
        missing = (should > 0.5 / LOOKED_AT) & (most < DEEP)
        cells = np.clip(((where[missing] / self.radius + 1) / 2 * GRID).astype(int), 0, GRID - 1)
        lacking = np.zeros((GRID,) * 3, np.float32)
        np.maximum.at(lacking, tuple(cells.T), DEEP - np.maximum(most[missing], -GRID))
        return lacking

    def _along(self, camera: Cameras, size: int) -> tuple[np.ndarray, np.ndarray]:
        """[size, size] the most inside along each line of sight, and [size, size, 3] where."""
        origin, directions = camera.rays(size)
        distance = float(np.linalg.norm(origin[0]))
        reach = 3**0.5 * self.radius
        along = torch.linspace(max(0.1 * distance, distance - reach), distance + reach, 2 * GRID)
        xyz = torch.from_numpy(origin[0]) + torch.from_numpy(directions[0])[:, :, None] * along[:, None]
        volume = torch.from_numpy(self.inside.transpose(2, 1, 0).copy())[
            None, None
        ]  # as grid_sample has it: z, y, x
        volume = volume.clamp(min=-GRID) + GRID  # what lies beyond the cube reads 0
        values = torch.nn.functional.grid_sample(
            volume, (xyz / self.radius).view(1, size, size * len(along), 1, 3), align_corners=False
        ).view(size, size, -1)
        most, index = values.max(-1)
        where = torch.gather(xyz, 2, index[..., None, None].expand(-1, -1, 1, 3))[:, :, 0]
        return most.numpy() - GRID, where.numpy()


def _inside(outlines: list[Outline], cameras: Cameras, points: np.ndarray, radius: float) -> np.ndarray:
    """[N, P] how far points are inside of outlines, in cells at the distance of the origin."""
    found = np.empty((len(outlines), len(points)), np.float32)
    for n, (outline, camera) in enumerate(zip(outlines, cameras)):
        side = float(np.linalg.norm(camera.origins[0])) / camera.focal(1)  # of the picture, at the origin
        found[n] = outline.around(camera, points) * (side * GRID / (2 * radius))
    return found


def _spread(peaks: np.ndarray) -> np.ndarray:
    """Peaks [G, G, G] made the tips of cones."""
    cones, left = peaks, float(peaks.max())
    ball = ndimage.generate_binary_structure(3, 2)
    while left > SLOPE:
        wider = ndimage.maximum_filter(cones, footprint=ball) - SLOPE
        cones, left = np.maximum(cones, wider), left - SLOPE
    return np.maximum(cones, 0)
