"""NVIDIA kaolin's marching tetrahedra with the interface of our own, to compare ours with.

Refinement does not use it: it looks at all tetrahedra, ours only at those that the surface cuts.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch

from sv3d_pipe.errors import UserError
from sv3d_pipe.geometry.tets import TetGrid


@cache
def kaolin_march() -> Callable[..., Any] | None:
    """NVIDIA kaolin's marching tetrahedra, or None where no working kaolin is installed.

    PyPI's ``kaolin`` is an empty placeholder that raises on import, so its presence alone says nothing.
    """
    try:
        from kaolin.ops.conversions import marching_tetrahedra
    except Exception:  # the placeholder and half-installed builds raise all kinds
        return None
    return marching_tetrahedra


@cache
def _is_flipped() -> bool:
    """Whether kaolin turns the faces of a positive tetrahedron towards the negative side of our SDF."""
    corners = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]])
    vertices, faces = kaolin_march()(corners, torch.tensor([[0, 1, 2, 3]]), torch.tensor([[1.0, -1, -1, -1]]))
    a, b, c = vertices[0][faces[0][0]]
    return bool(torch.linalg.cross(b - a, c - a).sum() < 0)  # corner 0 alone is inside: outward is +++


def marching_tetrahedra_kaolin(
    grid: TetGrid, nodes: torch.Tensor, sdf: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same surface as :func:`sv3d_pipe.geometry.tets.marching_tetrahedra`: the same vertices in the same
    order; quadrilaterals may be cut along their other diagonal. Looks at all tetrahedra.
    """
    march = kaolin_march()
    if march is None:
        raise UserError("kaolin is not usable here; install NVIDIA's wheel for your torch and CUDA.")
    vertices, faces = march(nodes[None], grid.tetrahedra(sdf.device), -sdf[None])
    return vertices[0], faces[0].flip(-1) if _is_flipped() else faces[0]
