"""Random studio light, never the same twice: some lamps, a sky and a floor, a glossy surface or not.

SV3D was trained on objects lit by twenty panoramas (paper, appendix); three lamps and a two-colored
surround are the part of a panorama that a matte surface can tell apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sv3d_pipe.geometry.meshes import face_normals, same_places

CREASE_DEG = 40.0  # triangles that meet at a smaller angle are one smooth surface


@dataclass(frozen=True)
class Studio:
    """Distant lamps around an object; all colors are linear light.

    Attributes:
        lamps: [L, 6] float32, the unit direction towards each lamp and its color.
        ambient: [2, 3] float32, light from straight below and from straight above.
        gloss: strength and exponent of highlights (Blinn-Phong); 0 is matte.
    """

    lamps: np.ndarray
    ambient: np.ndarray
    gloss: tuple[float, float]

    @classmethod
    def random(cls, rng: np.random.Generator) -> Studio:
        """A key lamp from above, up to two weaker ones, hardly colored; half of the surfaces are matte.

        Ambient light gives 40 to 95 % of the brightness. A white surface that faces the key lamp comes
        out between 0.75 and 1.15 times white, so some pictures are dim and some a little overexposed.
        """
        exposure, share = rng.uniform(0.75, 1.15), rng.uniform(0.4, 0.95)
        count = int(rng.integers(1, 4))
        strength = np.concatenate([[1.0], rng.uniform(0.1, 0.5, count - 1)])
        directions = rng.normal(size=(count, 3))
        directions[0, 1] = abs(directions[0, 1]) + 0.5
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        colors = _tint(rng, count, 0.15) * strength[:, None] * (1 - share) * exposure
        floor, sky = rng.uniform(0.55, 1.0), rng.uniform(0.9, 1.1)
        ambient = _tint(rng, 2, 0.1) * np.array([[floor], [sky]]) * share * exposure
        gloss = (0.0, 1.0) if rng.random() < 0.5 else (rng.uniform(0.1, 0.8), 2 ** rng.uniform(3, 7))
        lamps = np.concatenate([directions, colors], 1).astype(np.float32)
        return cls(lamps, ambient.astype(np.float32), (float(gloss[0]), float(gloss[1])))


def _tint(rng: np.random.Generator, count: int, strength: float) -> np.ndarray:
    """[count, 3] colors near white with a mean of 1, some warm, some cold."""
    colors = np.exp(rng.normal(0, strength, (count, 3)))
    return colors / colors.mean(1, keepdims=True)


def corner_normals(vertices: np.ndarray, faces: np.ndarray, crease_deg: float = CREASE_DEG) -> np.ndarray:
    """Unit normals at the corners of triangles, [F, 3, 3] float32: smooth up to the crease, sharp beyond.

    Vertices at the same place count as one, so seams of texture coordinates do not show.
    """
    from sv3d_pipe.render._paint_numba import smooth_normals

    welded = same_places(vertices)[1][faces]  # [F, 3]
    normals = face_normals(vertices[faces])
    lengths = np.linalg.norm(normals, axis=1)
    normals = (normals / np.maximum(lengths, 1e-20)[:, None]).astype(np.float32)
    order = np.argsort(welded.ravel(), kind="stable")
    first = np.searchsorted(welded.ravel()[order], np.arange(welded.max() + 2))
    out = np.empty((len(faces), 3, 3), np.float32)
    cosine = np.float32(np.cos(np.radians(crease_deg)))
    smooth_normals(normals, lengths.astype(np.float32), welded, first, order // 3, cosine, out)
    return out
