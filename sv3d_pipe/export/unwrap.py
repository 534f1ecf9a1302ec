"""Texture coordinates: charts by xatlas, and which point of the surface each texel shows.

Texture coordinates have v up: v = 1 is the top row of the picture, as in OBJ files and trimesh
(glTF files have v down; trimesh turns it on the way in and out).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import xatlas

from sv3d_pipe.artifacts import Mesh
from sv3d_pipe.cameras import Cameras
from sv3d_pipe.geometry.raster import rasterize

PADDING = 3  # texels between charts


@dataclass(frozen=True)
class Unwrapped:
    """A mesh cut open along chart borders.

    Attributes:
        source: [V] int64, the vertex of the uncut mesh that each vertex is a copy of.
        faces: [F, 3] int64; face f is face f of the uncut mesh.
        uv: [V, 2] float32 in [0, 1], v up.
    """

    source: np.ndarray
    faces: np.ndarray
    uv: np.ndarray


@dataclass(frozen=True)
class Texels:
    """The surface as the texture sees it: T texels whose center lies in a triangle.

    Attributes:
        rows, columns: [T] int64, where in the texture.
        faces: [T] int64, the triangle that each texel shows.
        corners: [T, 3] int64, the vertices of the uncut mesh around each texel.
        weights: [T, 3] float32, their shares.
    """

    rows: np.ndarray
    columns: np.ndarray
    faces: np.ndarray
    corners: np.ndarray
    weights: np.ndarray

    def interpolate(self, values: np.ndarray) -> np.ndarray:
        """Vertex values [V, C] at the texels: [T, C]."""
        return np.einsum("tkc,tk->tc", values[self.corners], self.weights)


def unwrap(mesh: Mesh, size: int) -> Unwrapped:
    """Charts of a mesh packed for a size x size texture, ``PADDING`` texels apart."""
    atlas = xatlas.Atlas()
    atlas.add_mesh(mesh.vertices, mesh.faces.astype(np.uint32))
    packing = xatlas.PackOptions()
    packing.resolution = size
    packing.padding = PADDING
    packing.bilinear = True
    atlas.generate(xatlas.ChartOptions(), packing)
    source, faces, uv = atlas[0]
    return Unwrapped(source.astype(np.int64), faces.astype(np.int64), np.clip(uv, 0, 1).astype(np.float32))


def texels(mesh: Mesh, unwrapped: Unwrapped, size: int) -> Texels:
    """The surface point of every texel, found by drawing the charts flat.

    A pinhole camera that looks straight at a plane maps it affinely, so the z-buffer draws charts too.
    """
    flat = np.concatenate([unwrapped.uv - 0.5, np.zeros((len(unwrapped.uv), 1), np.float32)], -1)
    c2w = np.eye(4, dtype=np.float32)[None]
    c2w[0, 2, 3] = 1
    camera = Cameras(c2w, fov_deg=float(np.degrees(2 * np.arctan(0.5))))
    raster = rasterize(torch.from_numpy(flat), torch.from_numpy(unwrapped.faces), camera, size)
    rows, columns = np.nonzero(raster.covered[0].numpy())
    seen = raster.face_ids[0].numpy()[rows, columns]
    return Texels(rows, columns, seen, mesh.faces[seen], raster.barycentrics[0].numpy()[rows, columns])
