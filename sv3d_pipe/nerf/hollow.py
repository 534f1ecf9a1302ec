"""Hollows: room inside the visual hull that views look into.

No silhouette shows the inside of a vessel, and a fit that starts as fog closes it with a lid in the inside's
color. Here stereo (:mod:`sv3d_pipe.nerf.stereo`) proposes cells that ought to be empty; whether they are is
for a fit to decide. The thresholds were chosen on renders of scanned and modeled objects (docs/reconstruction.md).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage

from sv3d_pipe.geometry.hull import cell_centers
from sv3d_pipe.nerf.march import march
from sv3d_pipe.nerf.stereo import Depths

DEEP = 4  # cells below the hull's surface from which room is a hollow; stereo errs by less
LEAST = 0.02  # share of the hull's cells that a hollow has that deep
FREE_VIEWS = 2  # views that must look through a cell
FREE_TO_SURFACE = 3  # views that look through a cell for each that ends in it
INTO = 3.0  # cells of hollow in front of what a pixel sees, for it to look into the hollow


@dataclass(frozen=True)
class Hollow:
    """Cells of the hull that ought to be empty, and the pixels that can tell.

    Attributes:
        cells: [G, G, G] bool, indexed x, y, z.
        looks: [N, S, S] bool, the pixels of the views of the depths that look into them.
        crosses: [N, S, S] bool, all pixels whose rays meet them, before or behind what they see.
    """

    cells: np.ndarray
    looks: np.ndarray
    crosses: np.ndarray


def find_hollow(hull: np.ndarray, depths: Depths, radius: float) -> Hollow | None:
    """The hollows of the hull [G, G, G] over [-radius, radius]^3; None if there is no large one.

    A cell is free if at least two views look through it and few end there. Cells that no view sees join the
    hollow they touch, down to its lowest seen level, except for walls as thick as those that are seen.
    """
    free, ending = votes(depths, len(hull), radius)
    carved = hull & (free >= FREE_VIEWS) & (free >= FREE_TO_SURFACE * ending)
    unseen = hull & (free < FREE_VIEWS) & (ending == 0)
    below = ndimage.distance_transform_edt(hull)
    labels, _ = ndimage.label(carved & (below > DEEP), np.ones((3, 3, 3)))
    large = np.flatnonzero(np.bincount(labels.ravel())[1:] >= LEAST * hull.sum()) + 1
    if not len(large):
        return None
    behind_seen = lengths(depths, hull, radius)[1]
    cells = np.zeros_like(hull)
    looks = np.zeros(depths.depth.shape, bool)
    for label in large:
        seen = ndimage.binary_dilation(labels == label, iterations=DEEP + 1, mask=carved)
        into = lengths(depths, seen, radius)[0] > INTO
        if not into.any():
            continue
        shut = unseen & (below > np.median(behind_seen[into]))
        shut[:, : np.flatnonzero(seen.any((0, 2)))[0]] = False
        cells |= seen | ndimage.binary_propagation(ndimage.binary_dilation(seen) & shut, mask=shut)
        looks |= into
    if not cells.any():
        return None
    before, behind = lengths(depths, cells, radius)
    return Hollow(cells, looks, before + behind > 0)


def votes(depths: Depths, grid: int, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """How many views look through each cell, and how many end within a cell of it: [G, G, G] each."""
    points, cell = cell_centers(grid, radius), 2 * radius / grid
    free, ending = np.zeros((2, len(points)), np.int64)
    for view in range(len(depths.depth)):
        depth, seen = depths.at(points, view)
        free += depth < seen - cell
        ending += np.abs(depth - seen) <= cell
    return free.reshape(grid, grid, grid), ending.reshape(grid, grid, grid)


def lengths(depths: Depths, cells: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Way of each pixel's ray through ``cells``, before and behind what it sees: [N, S, S] each, in cells.

    Where a pixel's depth is not known all of it counts as behind.
    """
    count, size = depths.depth.shape[:2]
    occupied, step = torch.from_numpy(cells), radius / len(cells)
    found = np.zeros((2, count, size * size))
    for view in range(count):
        origins, directions = depths.cameras[view].rays(size)
        rays = torch.from_numpy(directions[0].reshape(-1, 3))
        start = torch.from_numpy(origins).expand(len(rays), 3).contiguous()
        samples = march(start, rays, occupied, radius, step, torch.full((len(rays),), 0.5))
        forward = directions[0].reshape(-1, 3) @ -depths.cameras.c2w[view, :3, 2]
        ends = (depths.depth[view].ravel() / forward)[samples.ray_indices]
        before = samples.t_starts.numpy() < ends
        for side, chosen in enumerate((before, ~before)):
            hits = np.bincount(samples.ray_indices.numpy()[chosen], minlength=size * size)
            found[side, view] = 0.5 * hits
    before, behind = found.reshape(2, count, size, size)
    return before, behind
