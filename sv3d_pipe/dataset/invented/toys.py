"""Procedural textured objects: endless training data and test inputs with no license attached."""

from __future__ import annotations

import colorsys

import numpy as np
import trimesh

from sv3d_pipe.render.objects import Object, from_trimesh


def procedural(seed: int) -> Object:
    """A random toy made of two to six solids, usually mirror-symmetric, with painted patterns.

    The same seed gives the same object.
    """
    rng = np.random.default_rng(seed)
    hues = [colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.1, 0.9), rng.uniform(0.3, 1)) for _ in range(4)]
    body = _part(rng, hues[0], hues[1])
    body.apply_scale(rng.uniform(0.5, 1.2, 3))
    parts = [body]
    for _ in range(rng.integers(1, 6)):
        part = _part(rng, hues[rng.integers(4)], hues[rng.integers(4)])
        part.apply_scale(rng.uniform(0.15, 0.7, 3))
        part.apply_transform(
            trimesh.transformations.rotation_matrix(rng.uniform(0, 2 * np.pi), rng.normal(size=3))
        )
        part.apply_translation(rng.uniform(-0.55, 0.55, 3) * body.extents)
        parts.append(part)
        if rng.random() < 0.6:
            twin = part.copy()
            twin.apply_transform(np.diag([-1.0, 1, 1, 1]))
            parts.append(twin)
    return from_trimesh(_join(parts))


def _part(rng: np.random.Generator, first, second) -> trimesh.Trimesh:
    """One solid of about unit size, its faces painted with a pattern of two colors."""
    solid = [
        lambda: trimesh.creation.icosphere(subdivisions=4, radius=0.5),
        lambda: trimesh.creation.box((1, 1, 1)).subdivide_to_size(0.09),
        lambda: trimesh.creation.cylinder(0.5, 1, sections=48).subdivide_to_size(0.12),
        lambda: trimesh.creation.cone(0.5, 1, sections=48).subdivide_to_size(0.12),
        lambda: trimesh.creation.torus(0.38, rng.uniform(0.06, 0.2), 48, 24),
        lambda: trimesh.creation.capsule(0.6, 0.25),
    ][rng.integers(6)]()
    solid.apply_transform(
        trimesh.transformations.random_rotation_matrix(rng.random(3)) if rng.random() < 0.4 else np.eye(4)
    )
    centers = solid.triangles_center
    pattern = [
        np.zeros(len(centers)),
        np.sin(centers[:, rng.integers(3)] * rng.uniform(8, 30)),
        np.sin(centers @ rng.normal(size=3) * 12) * np.sin(centers @ rng.normal(size=3) * 12),
        centers[:, rng.integers(3)] - rng.uniform(-0.3, 0.3),
    ][rng.integers(4)]
    colors = np.where(pattern[:, None] > 0, np.asarray(first), np.asarray(second))
    solid.visual = trimesh.visual.ColorVisuals(solid, face_colors=(colors * 255).astype(np.uint8))
    return solid


def _join(parts: list[trimesh.Trimesh]) -> trimesh.Trimesh:
    colors = np.concatenate([part.visual.face_colors for part in parts])
    whole = trimesh.util.concatenate([trimesh.Trimesh(p.vertices, p.faces, process=False) for p in parts])
    whole.visual = trimesh.visual.ColorVisuals(whole, face_colors=colors)
    return whole
