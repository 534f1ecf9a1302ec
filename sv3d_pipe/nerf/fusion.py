"""From the fitted field to a closed mesh: rendered depths, fused to a truncated signed distance."""

from __future__ import annotations

from dataclasses import dataclass

import mcubes
import numpy as np
import torch
from scipy import ndimage

from sv3d_pipe.artifacts import Mesh
from sv3d_pipe.cameras import FOV_DEG, Cameras, orbit
from sv3d_pipe.errors import UserError
from sv3d_pipe.geometry.meshes import outward
from sv3d_pipe.nerf import _fusion_numba as kernels
from sv3d_pipe.nerf.field import RadianceField
from sv3d_pipe.nerf.occupancy import OccupancyGrid
from sv3d_pipe.road.context import Context

DIRECTIONS = 49
OPACITY = 0.2  # the surface lies where this share of the light is stopped
TRUNCATION = 3.0  # in cells of the fused grid
# Components below this share of the largest one's volume are dropped. At 0.02 hooves and feet went too (38 orbits
# of mini: IoU .376, here .383); what is debris export asks the pictures.
SMALL = 0.001


@dataclass(frozen=True)
class Box:
    """A grid of cubic cells: ``shape`` cells per axis of side ``cell``, from corner ``low`` on."""

    low: np.ndarray
    cell: float
    shape: tuple[int, int, int]

    @classmethod
    def around(cls, occupied: np.ndarray, radius: float, cells: int) -> Box:
        """The occupied part of a grid over [-radius, radius]^3, with ``cells`` along its longest side."""
        index = np.argwhere(occupied)
        size = 2 * radius / len(occupied)
        low, high = index.min(0) * size - radius, (index.max(0) + 1) * size - radius
        cell = float((high - low).max() / cells)
        shape = np.ceil((high - low) / cell - 1e-6).astype(int)
        return cls(low.astype(np.float32), cell, tuple(shape.tolist()))

    def finer(self, factor: float) -> Box:
        """The same box with cells ``factor`` times smaller."""
        shape = tuple(int(np.ceil(n * factor)) for n in self.shape)
        return Box(self.low, self.cell / factor, shape)

    def padded(self, cells: int) -> Box:
        """The box grown by ``cells`` on every side."""
        low = self.low - np.float32(cells * self.cell)
        return Box(low, self.cell, tuple(n + 2 * cells for n in self.shape))


def extract(field: RadianceField, grid: OccupancyGrid, cells: int, context: Context) -> tuple[Mesh, dict]:
    """The field's closed surface, with the field's colors at its vertices.

    Falls back, with a warning, to the visual hull when the field holds no surface.

    Args:
        cells: cells along the longest side of the fused grid.
    Returns:
        the mesh, never empty, and its numbers: vertices, faces, components, components_dropped,
        dropped_share (of the volume), surface ("fused" or "hull").
    """
    occupied = grid.occupied.cpu().numpy()
    source, sdf = "fused", None
    if occupied.any():
        box = Box.around(occupied, grid.radius, cells)
        fine, outer = box.finer(1.5), box.padded(4)
        with context.bar("surface", 3) as bar:
            density = sample_density(field, grid, fine)
            bar.update(1)
            depth, cameras = render_depths(density, fine, grid.radius)
            bar.update(1)
            sdf = fuse_depths(depth, cameras, outer)
            bar.update(1)
    if sdf is None or not (sdf < 0).any():
        context.warn("The field holds no surface, so the mesh is the rough hull of the masks.")
        source = "hull"
        sdf, outer = hull_sdf(grid.hull.cpu().numpy(), grid.radius)
    sdf, metrics = clean(sdf)
    if metrics["dropped_share"] > 0.1:
        context.warn(
            f"{metrics['components_dropped']} loose pieces with {metrics['dropped_share']:.0%} of the volume "
            "were dropped."
        )
    vertices, faces = triangulate(sdf, outer)
    mesh = Mesh(vertices, faces, query_rgb(field, vertices))
    metrics = {"vertices": len(vertices), "faces": len(faces)} | metrics | {"surface": source}
    return mesh, metrics


@torch.no_grad()
def sample_density(field: RadianceField, grid: OccupancyGrid, box: Box) -> np.ndarray:
    """Sigma at the cell centers of a box, float32 [X, Y, Z]; 0 outside the occupied cells."""
    device = grid.occupied.device
    axes = [
        torch.arange(n, device=device) * box.cell + (float(low) + box.cell / 2)
        for n, low in zip(box.shape, box.low)
    ]
    cell = [((a + grid.radius) / (2 * grid.radius) * len(grid.occupied)).long() for a in axes]
    i, j, k = (c.clamp(0, len(grid.occupied) - 1) for c in cell)
    where = grid.occupied[i][:, j][:, :, k].nonzero()  # [P, 3]
    density = torch.zeros(box.shape, device=device)
    for part in where.split(2**18):
        points = torch.stack([axis[index] for axis, index in zip(axes, part.T)], -1)
        density[tuple(part.T)] = field.sigma(points)
    return density.cpu().numpy()


def render_depths(density: np.ndarray, box: Box, radius: float) -> tuple[np.ndarray, Cameras]:
    """Depth pictures of a density volume from directions spread evenly over the sphere.

    Returns:
        depth [N, S, S] along the viewing axis, inf where less than OPACITY is stopped; the cameras.
    """
    cameras = sphere_cameras(DIRECTIONS, radius)
    size = int(1.1 * max(box.shape))
    depth = np.empty((len(cameras), size, size), np.float32)
    blocks = [-(-n // 4) * 4 for n in box.shape]
    padded = np.zeros(blocks, bool)
    padded[tuple(slice(n) for n in box.shape)] = density > 0
    x, y, z = (n // 4 for n in blocks)
    filled = padded.reshape(x, 4, y, 4, z, 4).any((1, 3, 5))
    filled = ndimage.binary_dilation(filled)  # trilinear values reach half a cell further
    f32 = np.float32
    kernels.render_depth(
        density, filled, box.low, f32(box.cell), cameras.c2w, f32(cameras.focal(size)),
        f32(0.75 * box.cell), f32(-np.log(1 - OPACITY)), depth,
    )  # fmt: skip
    return depth, cameras


def sphere_cameras(count: int, radius: float) -> Cameras:
    """Cameras on a Fibonacci lattice that see the cube [-radius, radius]^3 whole."""
    index = np.arange(count) + 0.5
    elevation_deg = np.degrees(np.arcsin(1 - 2 * index / count))
    azimuth_deg = np.degrees(np.pi * (1 + 5**0.5) * index) % 360
    return orbit(azimuth_deg, elevation_deg, 3**0.5 * radius / np.sin(np.radians(FOV_DEG) / 2))


def fuse_depths(depth: np.ndarray, cameras: Cameras, box: Box) -> np.ndarray:
    """Truncated signed distance [X, Y, Z] at the cell centers of a box (Curless and Levoy 1996).

    Positive outside, in [-1, 1], in units of TRUNCATION cells. What no camera sees is inside.
    """
    sdf = np.empty(box.shape, np.float32)
    f32 = np.float32
    centers = (box.low + f32(box.cell / 2)).astype(np.float32)
    focal = f32(cameras.focal(depth.shape[1]))
    kernels.fuse(depth, cameras.w2c, focal, centers, f32(box.cell), f32(TRUNCATION * box.cell), sdf)
    return sdf


def hull_sdf(hull: np.ndarray, radius: float) -> tuple[np.ndarray, Box]:
    """The hull's cells as a smooth signed field, and its box. Raises UserError when it is empty."""
    if not hull.any():
        raise UserError("The views show no object; use a photo whose object stands out from its background.")
    box = Box(np.full(3, -radius, np.float32), 2 * radius / len(hull), hull.shape).padded(2)
    soft = ndimage.gaussian_filter(np.pad(hull.astype(np.float32), 2), 0.7)
    return 0.4 - soft, box


def clean(sdf: np.ndarray) -> tuple[np.ndarray, dict]:
    """Fill hidden cavities, drop small loose pieces, and close the border of a signed field."""
    outside = sdf >= 0
    _border(outside, True)
    inside = ndimage.binary_fill_holes(~outside)
    labels, count = ndimage.label(inside)
    volumes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    kept = volumes >= SMALL * volumes.max()
    inside &= np.concatenate([[False], kept])[labels]
    filled, dropped = inside & (sdf >= 0), ~inside & (sdf < 0)
    cleaned = np.where(filled, -1.0, np.where(dropped, 1.0, sdf)).astype(np.float32)
    _border(cleaned, 1.0)
    return cleaned, {
        "components": int(kept.sum()),
        "components_dropped": int((~kept).sum()),
        "dropped_share": float(volumes[~kept].sum() / max(volumes.sum(), 1)),
    }


def _border(volume: np.ndarray, value: float) -> None:
    for axis in range(3):
        faces = np.moveaxis(volume, axis, 0)
        faces[0] = faces[-1] = value


def triangulate(sdf: np.ndarray, box: Box) -> tuple[np.ndarray, np.ndarray]:
    """Marching cubes: vertices [V, 3] float32 in world space and outward faces [F, 3] int64."""
    vertices, faces = mcubes.marching_cubes(sdf.astype(np.float64), 0.0)
    vertices = (vertices + 0.5) * box.cell + box.low
    return vertices.astype(np.float32), outward(vertices, faces.astype(np.int64))


@torch.no_grad()
def query_rgb(field: RadianceField, points: np.ndarray) -> np.ndarray:
    """The field's colors [P, 3] at world points [P, 3]."""
    device = field.table.device
    parts = torch.from_numpy(points).split(2**18)
    return torch.cat([field.rgb(part.to(device)).cpu() for part in parts]).numpy()
