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
from sv3d_pipe.geometry.raster import Raster

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
    def of(cls, faces: torch.Tensor) -> Topology:
        """From consistently oriented faces [F, 3]. Edges with a single face are left out."""
        halves = torch.stack([faces, faces.roll(-1, 1)], -1).reshape(-1, 2)  # [3F, 2]
        keys = halves.min(-1).values * (int(faces.max()) + 1) + halves.max(-1).values
        keys, order = keys.sort(stable=True)
        first = (keys[1:] == keys[:-1]).nonzero()[:, 0]
        pairs = torch.stack([order[first], order[first + 1]], -1)
        return cls(halves[pairs[:, 0]], pairs // 3)


def coverage(
    vertices: torch.Tensor,
    faces: torch.Tensor,
    topology: Topology,
    cameras: Cameras,
    raster: Raster,
    size: int,
) -> torch.Tensor:
    """Share of each pixel that the mesh covers.

    Args:
        vertices: [V, 3]; the result is differentiable in them.
        faces: [F, 3] of a closed mesh.
        raster: the mesh seen by the N cameras at a whole multiple of `size`.
    Returns:
        [N, size, size] in [0, 1].
    """
    factor = raster.face_ids.shape[-1] // size
    pooled = torch.nn.functional.avg_pool2d(raster.covered.float()[:, None], factor)[:, 0]
    xy = cameras.on(vertices.device).project(vertices, size)[0].flatten(0, 1)  # [N * V, 2]
    with torch.no_grad():
        ends, share, length = _outline_pieces(vertices, faces, topology, cameras, xy * factor)
        view = ends[:, 0] // len(vertices)
        start, end = xy[ends[:, 0]], xy[ends[:, 1]]
        along = torch.nn.functional.normalize(end - start, dim=-1)
        outward = torch.stack([-along[:, 1], along[:, 0]], -1)  # pixel rows grow downward
        middle = torch.lerp(start, end, share)
        pixel = middle.floor().long()
        beyond = ((middle + outward / factor) * factor).floor().long()
        kept = _inside(pixel, size) & ~_at(raster.covered, view, beyond)
    ends, view, share, outward, pixel = (x[kept] for x in (ends, view, share, outward, pixel))
    middle = torch.lerp(
        take_rows(xy, ends[:, 0]), take_rows(xy, ends[:, 1]), share
    )  # this time with a gradient
    swept = (middle * outward).sum(-1) * (length[kept] / factor)
    index = (view * size + pixel[:, 1]) * size + pixel[:, 0]
    change = torch.zeros(pooled.numel(), device=vertices.device).index_add(0, index, swept - swept.detach())
    return pooled + change.view_as(pooled)


def _outline_pieces(
    vertices: torch.Tensor, faces: torch.Tensor, topology: Topology, cameras: Cameras, xy: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Edges between front and back, cut into pieces of at most one unit of xy [N * V, 2].

    Returns:
        the two ends [P, 2] of the piece's edge, rows of xy, turning with its front face; the
        piece's middle as a share of the edge [P, 1]; its length [P].
    """
    normals = face_normals(vertices, faces)
    origins = torch.from_numpy(cameras.origins).to(vertices)
    front = origins @ normals.T > (vertices[faces[:, 0]] * normals).sum(-1)  # [N, F]
    first, second = front[:, topology.faces[:, 0]], front[:, topology.faces[:, 1]]
    view, edge = (first != second).nonzero(as_tuple=True)
    ends = topology.edges[edge]
    ends = torch.where(first[view, edge][:, None], ends, ends.flip(-1)) + view[:, None] * len(vertices)
    whole = (xy[ends[:, 0]] - xy[ends[:, 1]]).norm(dim=-1)
    pieces = whole.ceil().clamp(1, MOST_PIECES).long()
    owner = torch.arange(len(pieces), device=pieces.device).repeat_interleave(pieces)
    number = torch.arange(len(owner), device=pieces.device) - (pieces.cumsum(0) - pieces)[owner]
    share = (number + 0.5) / pieces[owner]
    return ends[owner], share[:, None], (whole / pieces)[owner]


def _inside(pixel: torch.Tensor, size: int) -> torch.Tensor:
    return ((pixel >= 0) & (pixel < size)).all(-1)


def _at(image: torch.Tensor, view: torch.Tensor, pixel: torch.Tensor) -> torch.Tensor:
    """Values [P] of a boolean image [N, S, S] at pixels [P, 2] (x, y); False beyond its border."""
    inside = _inside(pixel, image.shape[-1])
    x, y = pixel.clamp(0, image.shape[-1] - 1).unbind(-1)
    return image[view, y, x] & inside
