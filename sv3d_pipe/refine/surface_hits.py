"""Where the pixels' rays meet the mesh, differentiable in the vertices.

Visibility comes from the z-buffer; the point on the chosen triangle is computed again from the
ray, so that everything that depends on it (color, normals, barycentrics) has a gradient.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch

from sv3d_pipe.cameras import Cameras
from sv3d_pipe.geometry.mesh_tensors import take_rows, true_places


@dataclass(frozen=True)
class Hits:
    """One surface point for every pixel that the mesh touches.

    Attributes:
        index: [P] flat pixel index into [N, S, S].
        face_ids: [P].
        barycentrics: [P, 3] perspective-correct, differentiable in the vertices.
        points: [P, 3] world space, differentiable in the vertices.
    """

    index: torch.Tensor
    face_ids: torch.Tensor
    barycentrics: torch.Tensor
    points: torch.Tensor


def intersect(
    vertices: torch.Tensor,
    faces: torch.Tensor,
    face_ids: torch.Tensor,
    origins: torch.Tensor,
    rays: torch.Tensor,
) -> torch.Tensor:
    """Barycentrics [P, 3] where rays cross the planes of their triangles; differentiable in the vertices.

    Args:
        face_ids: [P]; origins, rays: [P, 3].
    """
    a, b, c = (take_rows(vertices, faces[face_ids, i]) for i in range(3))
    # The volumes that the ray spans with each side of the triangle are in the ratio of the weights.
    a, b, c = a - origins, b - origins, c - origins
    ab, bc = torch.linalg.cross(a, b), torch.linalg.cross(b, c)
    ca = torch.linalg.cross(c, a)
    volumes = torch.stack([(side * rays).sum(-1) for side in (bc, ca, ab)], -1)
    total = volumes.sum(-1, keepdim=True)
    return volumes / torch.where(total.abs() < 1e-20, torch.full_like(total, 1e-20), total)


@dataclass(frozen=True)
class Touched:
    """The pixels of N pictures that a mesh touches.

    Attributes:
        blocks: [N * S * S, factor * factor] the triangles seen by a pixel's sub-pixels, -1 for none.
        best: [N * S * S] the covered sub-pixel nearest to the middle; mask: [N * S * S] bool, there is one.
        size: S; factor: sub-pixels per pixel side.
    """

    blocks: torch.Tensor
    best: torch.Tensor
    mask: torch.Tensor
    size: int
    factor: int

    @classmethod
    def of(cls, face_ids: torch.Tensor, size: int) -> Touched:
        """From what N cameras see [N, fine, fine] at a whole multiple of `size`."""
        factor = face_ids.shape[-1] // size
        blocks = face_ids.view(-1, size, factor, size, factor).transpose(2, 3).reshape(-1, factor * factor)
        near = ((blocks >= 0) * _nearness(factor, str(blocks.device))).max(-1)
        return cls(blocks, near.indices, near.values > 0, size, factor)

    @property
    def count(self) -> torch.Tensor:
        """[] number of pixels touched."""
        return self.mask.sum()

    def hits(self, vertices: torch.Tensor, faces: torch.Tensor, cameras: Cameras, count: int) -> Hits:
        """The surface [V, 3], [F, 3] at the chosen sub-pixels.

        Args:
            count: :attr:`count`, read.
        """
        size, factor = self.size, self.factor
        index = true_places(self.mask, count)
        sub = self.best[index]
        face_ids = self.blocks[index, sub]
        view, row, column = index // size**2, index // size % size, index % size
        x, y = column * factor + sub % factor, row * factor + sub // factor
        origins, rays = cameras.on(vertices.device).rays(view, x + 0.5, y + 0.5, size * factor)
        barycentrics = intersect(vertices, faces, face_ids, origins, rays)
        points = (barycentrics[..., None] * take_rows(vertices, faces[face_ids])).sum(1)
        return Hits(index, face_ids, barycentrics, points)


@cache
def _nearness(factor: int, device: str) -> torch.Tensor:
    """[factor * factor] the larger, the nearer a sub-pixel is to the middle of its pixel."""
    offset = torch.arange(factor) + 0.5 - factor / 2
    return (1 / (1 + offset[:, None] ** 2 + offset**2).reshape(-1)).to(device)


def surface_hits(
    vertices: torch.Tensor, faces: torch.Tensor, cameras: Cameras, face_ids: torch.Tensor, size: int
) -> Hits:
    """The surface at the covered sub-pixel nearest to the middle of each pixel.

    Args:
        vertices: [V, 3]; face_ids: what the N cameras see of the mesh at a whole multiple of `size`.
    """
    touched = Touched.of(face_ids, size)
    return touched.hits(vertices, faces, cameras, int(touched.count))
