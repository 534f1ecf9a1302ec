"""The whole surface, seen or not: random samples, their distances and normals, and the mesh's soundness."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import trimesh

from sv3d_pipe.evaluate.protocol_a import arrays
from sv3d_pipe.geometry.meshes import component_labels, face_areas, face_normals
from sv3d_pipe.geometry.similarity import nearest

N_SAMPLES = 100_000


@dataclass(frozen=True)
class SurfaceSamples:
    """Random points of a surface, uniform by area.

    Attributes:
        points: [N, 3] float64. normals: [N, 3] unit normals of the triangles they lie on.
    """

    points: np.ndarray
    normals: np.ndarray


def sample(mesh: Any, seed: int, count: int = N_SAMPLES) -> SurfaceSamples:
    """Points of a mesh's whole surface; the same for the same seed."""
    vertices, faces = arrays(mesh)
    shape = trimesh.Trimesh(vertices, faces, process=False)
    points, ids = trimesh.sample.sample_surface(shape, count, seed=np.random.default_rng(seed))
    normals = face_normals(vertices[faces[ids]])
    return SurfaceSamples(np.asarray(points), normals / np.linalg.norm(normals, axis=1, keepdims=True))


def surface_scores(truth: SurfaceSamples, pred: SurfaceSamples) -> dict[str, float]:
    """Chamfer distance ``surface_cd`` and normal consistency ``normals`` of two sampled surfaces.

    The distance is that of protocol A (mean of the two mean nearest distances, not squared) over
    all of both surfaces. Normal consistency is the mean |cosine| between the normals of nearest
    points, averaged over both directions (Mescheder et al. 2019, supplement); 1 is best.
    """
    forth, there = nearest(truth.points, pred.points)
    back, here = nearest(pred.points, truth.points)
    cosine = [
        np.abs((truth.normals * pred.normals[there]).sum(1)).mean(),
        np.abs((pred.normals * truth.normals[here]).sum(1)).mean(),
    ]
    return {"surface_cd": float(forth.mean() + back.mean()) / 2, "normals": float(np.mean(cosine))}


def soundness(mesh: Any) -> dict[str, Any]:
    """``watertight`` (every edge has two faces), ``components`` (parts that share no vertex), ``faces``.

    Vertices of one place are merged first, since texture seams are not holes; triangles without three
    places do not count.
    """
    shape = _merged(mesh)
    return {
        "watertight": bool(shape.is_watertight),
        "components": int(component_labels(np.asarray(shape.faces)).max(initial=-1)) + 1,
        "faces": len(arrays(mesh)[1]),
    }


def topology(mesh: Any) -> dict[str, Any]:
    """``euler`` and ``floaters`` of a mesh that is merged as for :func:`soundness`.

    The Euler number is vertices - edges + faces: 2 for a ball, less 2 for every handle or hole through it;
    components add up. Floaters: the share of the surface's area outside of the largest component.
    """
    shape = _merged(mesh)
    area = np.bincount(component_labels(np.asarray(shape.faces)), face_areas(shape.triangles), 1)
    floaters = 1 - area.max() / area.sum() if area.sum() else 0.0
    return {"euler": int(shape.euler_number), "floaters": float(floaters)}


def _merged(mesh: Any) -> trimesh.Trimesh:
    """The bare shape without seams between vertices of one place, and without triangles that have fewer than three."""
    vertices, faces = arrays(mesh)
    shape = trimesh.Trimesh(vertices, faces, process=False)
    shape.merge_vertices()
    corners = np.asarray(shape.faces)
    shape.update_faces((corners != np.roll(corners, 1, axis=1)).all(1))
    return shape
