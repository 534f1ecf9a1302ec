"""Thin parts that the pictures show and the mesh lacks: rods, antennas, handlebars.

The fused surface and the tetrahedral grid lose what is thinner than about a cell. Masks know it pixel by pixel, so
such parts are carved from the masks alone, on a grid as fine as their pixels, and added as closed pieces.
"""

from __future__ import annotations

import cv2
import mcubes
import numpy as np
import torch
from scipy import ndimage

from sv3d_pipe.artifacts import Mesh, Views
from sv3d_pipe.contracts import Reconstruction
from sv3d_pipe.geometry.hull import MASK_LEVEL, cell_centers, dilated, pixels_of
from sv3d_pipe.geometry.meshes import compact, component_labels, outward
from sv3d_pipe.geometry.raster import rasterize
from sv3d_pipe.refine.mesh_picture import Score, score, seen_at, shrink

SIDE = 256  # pixels of the masks at most
THIN = 0.025  # of the side: narrower parts of a mask are thin; two cells of a tetrahedral grid of 64
SLACK = 0.006  # of the side: outlines this near to the mesh count as covered
COARSE = 48  # cells per side of the grid on which thin parts are looked for first
WITNESSES = 3  # views that must show a cell as thin and not covered
ALLOWED = 0.9  # share of the views in whose masks a cell must lie
LEVEL = 0.35  # of the softened cells, at which their surface lies: a row of single cells stays whole
FINE = 96  # pixels per side of views below which pixels are as large as the grid's cells
ON_OBJECT = 0.85  # share of a piece's pixels that must lie on the object
NEW_PIXELS = 12  # that a piece must cover, in all views together


def with_thin_parts(
    mesh: Mesh, known: Score, views: Views, colors: Reconstruction, size: int, device: str
) -> tuple[Mesh, Score]:
    """The mesh with what :func:`thin_parts` adds, if the masks agree with that no less; and its score.

    Args:
        known: the mesh's own score, at ``size`` pixels.
    """
    whole = thin_parts(mesh, views, colors, device)
    if whole is None:
        return mesh, known
    more = score(whole, views, size, device)
    return (whole, more) if more.mask_iou >= known.mask_iou else (mesh, known)


def thin_parts(mesh: Mesh, views: Views, colors: Reconstruction, device: str) -> Mesh | None:
    """The mesh with the thin parts that at least WITNESSES views show and it does not cover; None if there are none.

    Args:
        colors: gives the pieces' color. device: where it is.
    """
    if views.size < FINE:
        return None
    size = min(views.size, SIDE)
    masks = np.stack([shrink(frame, size)[..., 3] > MASK_LEVEL for frame in views.rgba])
    covered = np.stack([dilated(one, max(1, round(SLACK * size))) for one in _covered(mesh, views, size)])
    missing = np.stack([_thin(mask) for mask in masks]) & ~covered
    allowed = masks | ~seen_at(views, size)
    if (missing.sum((1, 2)) > 0).sum() < WITNESSES:
        return None
    radius = views.cameras.visible_radius
    split = int(np.ceil(size / COARSE))  # cells as large as pixels
    points = cell_centers(COARSE, radius)
    near = _shown(points, views, np.stack([dilated(one, split) for one in missing]), False) >= WITNESSES
    inside = _shown(points[near], views, np.stack([dilated(one, split) for one in allowed]), True)
    near[near] = inside >= ALLOWED * len(masks)
    if not near.any():
        return None
    vertices, faces = _surface(*_carved(near.reshape([COARSE] * 3), split, radius, views, allowed, missing))
    faces = faces[_shown_faces(vertices, faces, views, allowed, masks & ~covered)]
    if len(faces) == 0:
        return None
    used, faces = compact(faces)
    return _joined(mesh, vertices[used], faces, colors, device)


def _thin(mask: np.ndarray) -> np.ndarray:
    """[S, S] bool: what a disc as wide as THIN does not fit into."""
    reach = max(1, round(THIN * len(mask) / 2))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    wide = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, disc)
    return mask & ~dilated(wide > 0, 1)


def _carved(
    near: np.ndarray, split: int, radius: float, views: Views, allowed: np.ndarray, missing: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float]:
    """The fine cells [X, Y, Z] of thin parts around some coarse cells [G, G, G], their box's corner [3], a cell's side.

    Neighbors of missing cells that the masks allow belong to them, so that pieces reach into the body.
    """
    grown = ndimage.binary_dilation(near)
    index = np.argwhere(grown)
    first, last = index.min(0), index.max(0) + 1
    fine = grown[tuple(slice(a, b) for a, b in zip(first, last))]
    fine = fine.repeat(split, 0).repeat(split, 1).repeat(split, 2)
    cell = 2 * radius / (len(near) * split)
    low = (first * split) * cell - radius
    where = np.argwhere(fine)
    points = ((where + 0.5) * cell + low).astype(np.float32)
    inside = _shown(points, views, allowed, True) >= ALLOWED * len(allowed)
    lacking = inside.copy()
    lacking[inside] = _shown(points[inside], views, missing, False) >= WITNESSES
    may, core = np.zeros(fine.shape, bool), np.zeros(fine.shape, bool)
    may[tuple(where.T)], core[tuple(where.T)] = inside, lacking
    return ndimage.binary_dilation(core, iterations=split, mask=may), low, cell


def _surface(solid: np.ndarray, low: np.ndarray, cell: float) -> tuple[np.ndarray, np.ndarray]:
    """Closed surfaces, vertices [V, 3] and outward faces [F, 3], around cells [X, Y, Z] of a box with corner low [3]."""
    soft = ndimage.gaussian_filter(np.pad(solid, 2).astype(np.float32), 0.6)
    vertices, faces = mcubes.marching_cubes(soft.astype(np.float64), LEVEL)
    vertices = (vertices - 1.5) * cell + low
    return vertices.astype(np.float32), outward(vertices, faces.astype(np.int64))


def _shown_faces(
    vertices: np.ndarray, faces: np.ndarray, views: Views, allowed: np.ndarray, bare: np.ndarray
) -> np.ndarray:
    """[F] bool: faces of pieces that lie where the masks allow, and cover pixels that were bare."""
    if len(faces) == 0:
        return np.zeros(0, bool)
    piece = component_labels(faces)  # [F]
    count = int(piece.max()) + 1
    drawn, on_object, new, witnesses = np.zeros((4, count), np.int64)
    shape = torch.from_numpy(vertices), torch.from_numpy(faces)
    for n, mask in enumerate(allowed):
        ids = rasterize(*shape, views.cameras[n], mask.shape[-1]).face_ids[0].numpy()
        here = ids >= 0
        fresh = np.bincount(piece[ids[here & bare[n]]], minlength=count)
        drawn += np.bincount(piece[ids[here]], minlength=count)
        on_object += np.bincount(piece[ids[here & mask]], minlength=count)
        new, witnesses = new + fresh, witnesses + (fresh > 0)
    kept = (on_object >= ON_OBJECT * drawn) & (new >= NEW_PIXELS) & (witnesses >= WITNESSES)
    return kept[piece]


@torch.no_grad()
def _joined(mesh: Mesh, vertices: np.ndarray, faces: np.ndarray, colors: Reconstruction, device: str) -> Mesh:
    parts = torch.from_numpy(vertices).split(2**16)
    rgb = torch.cat([colors.rgb(part.to(device)).clamp(0, 1).cpu() for part in parts]).numpy()
    return Mesh(
        np.concatenate([mesh.vertices, vertices]),
        np.concatenate([mesh.faces, faces + len(mesh.vertices)]),
        np.concatenate([mesh.rgb, rgb]).astype(np.float32),
    )


def _covered(mesh: Mesh, views: Views, size: int) -> np.ndarray:
    """[N, S, S] bool."""
    shape = torch.from_numpy(mesh.vertices), torch.from_numpy(mesh.faces)
    return rasterize(*shape, views.cameras, size).covered.numpy()


def _shown(points: np.ndarray, views: Views, masks: np.ndarray, beyond: bool) -> np.ndarray:
    """[P] in how many of the masks [N, S, S] points lie; ``beyond`` says whether those outside the picture do."""
    size, count = masks.shape[-1], np.zeros(len(points), np.int32)
    for n, mask in enumerate(masks):
        index, inside = pixels_of(points, views.cameras[n], size)
        count += np.where(inside, mask.ravel()[index], beyond)
    return count
