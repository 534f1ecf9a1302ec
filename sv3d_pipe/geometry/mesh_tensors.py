"""Normals of meshes whose vertices are tensors, differentiable; with gradients that are the same in every run.

And what lets the host go on before a GPU has answered.
"""

from __future__ import annotations

import torch


def take_rows(
    values: torch.Tensor,  # [V, ...]
    index: torch.Tensor,  # [...] int64
) -> torch.Tensor:  # [..., ...]
    """``values[index]``; the gradient of a row that is taken several times is summed in the order of ``index``.

    That of ``values[index]`` itself is summed by all threads of a CPU at once, in an order that differs from run to
    run: so do the last digits of every gradient, and after some hundred steps of Adam the whole mesh.
    """
    return values.index_select(0, index.reshape(-1)).view(*index.shape, *values.shape[1:])


def true_places(mask: torch.Tensor, count: int) -> torch.Tensor:
    """``mask.nonzero()[:, 0]`` of a mask [M] that is true ``count`` times; a CUDA device is not waited for."""
    if mask.device.type == "cuda":
        return torch.repeat_interleave(mask.long(), output_size=count)
    return mask.nonzero()[:, 0]


def face_normals(vertices: torch.Tensor, faces: torch.Tensor) -> torch.Tensor:
    """[F, 3] outward normals, twice as long as the face's area."""
    a, b, c = (take_rows(vertices, faces[:, i]) for i in range(3))
    return torch.linalg.cross(b - a, c - a)


def vertex_normals(vertices: torch.Tensor, faces: torch.Tensor) -> torch.Tensor:
    """[V, 3] unit means of the adjoining faces' normals, weighted by area."""
    face = face_normals(vertices, faces)
    total = torch.zeros_like(vertices)
    for i in range(3):
        total = total.index_add(0, faces[:, i], face)
    return torch.nn.functional.normalize(total, dim=-1, eps=1e-12)
