"""What the refined surface is judged by: masks, colors, smoothness. All are means, 0 is perfect."""

from __future__ import annotations

import torch

from sv3d_pipe.geometry.mesh_tensors import face_normals, take_rows
from sv3d_pipe.refine.silhouette import Topology


def mask_loss(coverage: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
    """Mean squared difference of two masks [N, S, S]."""
    return (coverage - alpha).square().mean()


def color_loss(rgb: torch.Tensor, coverage: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Squared color difference where both the mesh and the picture show the object.

    Args:
        rgb: [N, S, S, 3]; coverage: [N, S, S], not differentiated here: outlines are the mask loss's work.
        target: [N, S, S, 4] straight-alpha picture.
    """
    weight = coverage.detach() * target[..., 3]
    error = (rgb - target[..., :3]).square().mean(-1)
    return (weight * error).sum() / weight.sum().clamp(min=1.0)


def normal_loss(vertices: torch.Tensor, faces: torch.Tensor, topology: Topology) -> torch.Tensor:
    """Mean of 1 - cosine between the normals of neighboring faces."""
    normals = torch.nn.functional.normalize(face_normals(vertices, faces), dim=-1, eps=1e-12)
    first, second = (take_rows(normals, topology.faces[:, i]) for i in range(2))
    return 1 - (first * second).sum(-1).mean()


def laplacian(values: torch.Tensor) -> torch.Tensor:
    """Mean of the six neighbors minus the value: [X, Y, Z] to [X - 2, Y - 2, Z - 2]."""
    inner = values[1:-1, 1:-1, 1:-1]
    around = (
        values[2:, 1:-1, 1:-1] + values[:-2, 1:-1, 1:-1] + values[1:-1, 2:, 1:-1]
        + values[1:-1, :-2, 1:-1] + values[1:-1, 1:-1, 2:] + values[1:-1, 1:-1, :-2]
    )  # fmt: skip
    return around / 6 - inner


def smooth_loss(sdf: torch.Tensor, band: float = 2.0) -> torch.Tensor:
    """Mean squared bi-Laplacian of an SDF [X, Y, Z] in cells, over the nodes within `band` of the surface.

    Zero on planes and on all surfaces of even curvature; folds and noise cost.
    """
    near = sdf.detach()[2:-2, 2:-2, 2:-2].abs() < band
    return (laplacian(laplacian(sdf)).square() * near).sum() / near.sum().clamp(min=1)


def anchor_loss(sdf: torch.Tensor, start: torch.Tensor, band: float = 2.0) -> torch.Tensor:
    """Mean squared change of the SDF in cells near the starting surface."""
    near = start.abs() < band
    return ((sdf - start).square() * near).sum() / near.sum().clamp(min=1)
