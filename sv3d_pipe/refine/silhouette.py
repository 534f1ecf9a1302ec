"""How much of every pixel a mesh covers, with the exact gradient of the covered area.

The value is a plain supersampled mask. Its derivative is a boundary integral: where the outline
moves outward by d, the pixels on it gain the area (length of the outline in the pixel) * d. The
outline is made of the edges between a face that looks at the camera and one that looks away, with
background just outside; so the gradient does not depend on the size of the triangles.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from sv3d_pipe.cameras import Cameras
from sv3d_pipe.geometry.mesh_tensors import face_normals, take_rows

MOST_PIECES = 8192  # of one edge: more than the diagonal of any picture


@dataclass(frozen=True)
class Topology:
    """The edges of a mesh that two faces share.

    Attributes:
        edges: [E, 2] vertex indices, in the turning sense of the first face.
        faces: [E, 2] the two faces of each edge.
    """

    edges: torch.Tensor
    faces: torch.Tensor

    @classmethod
    def of(cls, faces: torch.Tensor, closed: bool = False) -> Topology:
        """From consistently oriented faces [F, 3]. Edges with a single face are left out.

        Args:
            closed: every edge is known to have two faces, so that a GPU need not be asked.
        """
        halves = torch.stack([faces, faces.roll(-1, 1)], -1).reshape(-1, 2)  # [3F, 2]
        keys, order = ((halves.amin(-1) << 32) + halves.amax(-1)).sort(stable=True)
        if closed:
            pairs = order.view(-1, 2)
        else:
            first = (keys[1:] == keys[:-1]).nonzero()[:, 0]
            pairs = torch.stack([order[first], order[first + 1]], -1)
        return cls(halves[pairs[:, 0]], pairs // 3)


@dataclass(frozen=True)
class Outline:
    """The edges of a mesh between front and back in N pictures, in pieces of at most one sub-pixel.

    Attributes:
        xy: [N * V, 2] the vertices in the pictures, in pixels; differentiable.
        edges: [E, 2] vertex indices; forward: [N, E] bool, the first face of the edge looks at the camera.
        lengths: [N, E] in sub-pixels; pieces: [N, E] int64, 0 for all other edges.
        size: of the pictures; factor: sub-pixels per pixel side.
    """

    xy: torch.Tensor
    edges: torch.Tensor
    forward: torch.Tensor
    lengths: torch.Tensor
    pieces: torch.Tensor
    size: int
    factor: int

    @classmethod
    def of(
        cls,
        vertices: torch.Tensor,
        faces: torch.Tensor,
        topology: Topology,
        cameras: Cameras,
        size: int,
        factor: int,
    ) -> Outline:
        """Of a closed mesh: vertices [V, 3], faces [F, 3]."""
        there = cameras.on(vertices.device)
        xy = there.project(vertices, size)[0]  # [N, V, 2]
        with torch.no_grad():
            normals = face_normals(vertices, faces)
            front = there.origins @ normals.T > (vertices[faces[:, 0]] * normals).sum(-1)  # [N, F]
            first, second = front[:, topology.faces[:, 0]], front[:, topology.faces[:, 1]]  # [N, E]
            fine = xy * factor
            lengths = (fine[:, topology.edges[:, 0]] - fine[:, topology.edges[:, 1]]).norm(dim=-1)
            pieces = torch.where(first != second, lengths.ceil().clamp(1, MOST_PIECES), 0).long()
        return cls(xy.flatten(0, 1), topology.edges, first, lengths, pieces, size, factor)

    @property
    def count(self) -> torch.Tensor:
        """[] number of all pieces."""
        return self.pieces.sum()

    def coverage(self, face_ids: torch.Tensor, count: int) -> torch.Tensor:
        """Share of each pixel that the mesh covers, [N, size, size] in [0, 1]; differentiable in the vertices.

        Args:
            face_ids: [N, size * factor, size * factor] of the mesh, -1 beside it.
            count: :attr:`count`, read.
        """
        covered, size, factor = face_ids >= 0, self.size, self.factor
        pooled = torch.nn.functional.avg_pool2d(covered.float()[:, None], factor)[:, 0]
        with torch.no_grad():
            view, ends, share, length = self._middles(count)
            start, end = self.xy[ends[:, 0]], self.xy[ends[:, 1]]
            along = torch.nn.functional.normalize(end - start, dim=-1)
            outward = torch.stack([-along[:, 1], along[:, 0]], -1)  # pixel rows grow downward
            middle = torch.lerp(start, end, share)
            pixel = middle.floor().long()
            beyond = ((middle + outward / factor) * factor).floor().long()
            kept = _inside(pixel, size) & ~_at(covered, view, beyond)  # [P]
            outward = torch.where(kept[:, None], outward, 0)  # what is hidden sweeps nothing
            x, y = pixel.clamp(0, size - 1).unbind(-1)
        middle = torch.lerp(
            take_rows(self.xy, ends[:, 0]), take_rows(self.xy, ends[:, 1]), share
        )  # this time with a gradient
        swept = (middle * outward).sum(-1) * (length / factor)
        index = (view * size + y) * size + x
        change = torch.zeros(pooled.numel(), device=pooled.device).index_add(0, index, swept - swept.detach())
        return pooled + change.view_as(pooled)

    def _middles(self, count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """The pieces' pictures [P]; the ends [P, 2] of their edges, rows of xy, turning with the front face; their
        middles as shares of the edges [P, 1]; their lengths [P] in sub-pixels.
        """
        n_views, n_edges = self.pieces.shape
        pieces = self.pieces.flatten()
        owner = torch.repeat_interleave(pieces, output_size=count)  # [P]
        view = torch.div(owner, max(n_edges, 1), rounding_mode="floor")
        ends = self.edges[owner - view * n_edges]
        forward = self.forward.reshape(-1)[owner]
        ends = torch.where(forward[:, None], ends, ends.flip(-1)) + view[:, None] * (len(self.xy) // n_views)
        number = torch.arange(count, device=owner.device) - (pieces.cumsum(0) - pieces)[owner]
        share = (number + 0.5) / pieces[owner]
        return view, ends, share[:, None], self.lengths.flatten()[owner] / pieces[owner]


def coverage(
    vertices: torch.Tensor,
    faces: torch.Tensor,
    topology: Topology,
    cameras: Cameras,
    face_ids: torch.Tensor,
    size: int,
) -> torch.Tensor:
    """Share of each pixel that the mesh covers.

    Args:
        vertices: [V, 3]; the result is differentiable in them.
        faces: [F, 3] of a closed mesh.
        face_ids: what the N cameras see of it at a whole multiple of `size`, see :class:`sv3d_pipe.geometry.raster.Raster`.
    Returns:
        [N, size, size] in [0, 1].
    """
    outline = Outline.of(vertices, faces, topology, cameras, size, face_ids.shape[-1] // size)
    return outline.coverage(face_ids, int(outline.count))


def _inside(pixel: torch.Tensor, size: int) -> torch.Tensor:
    return ((pixel >= 0) & (pixel < size)).all(-1)


def _at(image: torch.Tensor, view: torch.Tensor, pixel: torch.Tensor) -> torch.Tensor:
    """Values [P] of a boolean image [N, S, S] at pixels [P, 2] (x, y); False beyond its border."""
    inside = _inside(pixel, image.shape[-1])
    x, y = pixel.clamp(0, image.shape[-1] - 1).unbind(-1)
    return image[view, y, x] & inside
