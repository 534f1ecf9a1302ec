"""What stages ask of each other beyond the artifacts they hand on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    import torch

    from sv3d_pipe.artifacts import Mesh, Views
    from sv3d_pipe.config import NerfConfig
    from sv3d_pipe.road.context import Context


class Prior(Protocol):
    """An orbit model as score distillation sees it: noisy = clean + sigma * noise.

    Attributes:
        size: side in pixels of the frames that it judges. frames: how many it judges at a time, the photo's last.
    """

    size: int
    frames: int

    def encode(
        self,
        rgba: torch.Tensor,  # [T, size, size, 4] in [0, 1], straight alpha
    ) -> torch.Tensor:  # [T, 4, h, w]
        """Frames to latents; differentiable."""

    def denoise(
        self,
        noisy: torch.Tensor,  # [T, 4, h, w]
        sigma: float,
        azimuth_deg: np.ndarray,  # [T]
        elevation_deg: np.ndarray,  # [T]
        guidance: float,
    ) -> torch.Tensor:  # [T, 4, h, w]
        """The model's estimate of the clean latents."""


class Reconstruction(Protocol):
    """What refinement needs of what was fitted to the views: a surface, and the color of space near it.

    A ``torch.nn.Module``; its parameters, if it has any, are fitted further.

    Attributes:
        mesh: the coarse surface, closed.
    """

    mesh: Mesh

    def rgb(
        self,
        points: torch.Tensor,  # [P, 3] world space
    ) -> torch.Tensor:  # [P, 3] sRGB in [0, 1]
        """Colors, differentiable in the points and in the parameters."""


class Reconstructor(Protocol):
    """Makes reconstructions of views: the hash grid, or splats, or a feed-forward network in its place.

    Attributes:
        identity: what its results depend on besides settings, views and seed; part of the stage's key.
    """

    identity: str

    def fit(self, config: NerfConfig, views: Views, context: Context) -> tuple[Any, dict[str, Any]]:
        """An artifact with ``save(folder)``, and metrics, the one it is judged by first."""

    def load(self, folder: Path) -> Reconstruction:
        """The reconstruction in an artifact's folder, on the CPU."""
