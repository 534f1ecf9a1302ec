"""What the orbit stage and distillation ask of a model. SV3D and mini are two; any object with this interface is a third."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from sv3d_pipe.artifacts import Photo
from sv3d_pipe.config import OrbitConfig
from sv3d_pipe.contracts import Prior
from sv3d_pipe.orbit.memory_plan import Plan
from sv3d_pipe.road.context import Context

Angles = tuple[np.ndarray, np.ndarray]  # azimuth_deg, elevation_deg [T]; the last are the photo's


@dataclass(frozen=True)
class Painted:
    """An orbit as a model painted it.

    Attributes:
        rgba: [T, S, S, 4] float32 in [0, 1], straight alpha; masks may be soft. The last frame is the photo.
        photo_psnr_db: the model's own picture of the photo's view against the photo, on white.
        facts: more that is worth a place in the stage's record.
    """

    rgba: np.ndarray
    photo_psnr_db: float
    facts: dict[str, Any] = field(default_factory=dict)


class OrbitModel(Protocol):
    """Paints orbits around the object of a photo.

    Attributes:
        identity: what its pictures depend on besides settings, photo and seed; part of the stage's key.
        takes_pose: whether it can paint any orbit, or static ones at the photo's elevation alone.
    """

    identity: str
    takes_pose: bool

    def in_use(self) -> AbstractContextManager[None]:
        """Around a stage's work with the model; when the last user leaves, it gives the device's memory back."""

    def settled(self, config: OrbitConfig) -> OrbitConfig:
        """The settings with the model's own steps, guidance and frame size in the place of zeros.

        Raises UserError for settings that the model cannot follow.
        """

    def plans(
        self, config: OrbitConfig, device: str, frames: int, with_gradient: bool = False
    ) -> tuple[Plan, ...]:
        """Ways to paint so many frames in the memory that is free: the fastest that fits, then more economical ones.

        Args:
            config: settled. with_gradient: leave room for the gradient of one encoded frame.
        """

    def brief(self, config: OrbitConfig, plan: Plan, context: Context) -> None:
        """Tell the user, before the work, what is worth knowing of it."""

    def paint(
        self, photo: Photo, angles: Angles, config: OrbitConfig, plan: Plan, context: Context
    ) -> Painted:
        """Paint the orbit; what is random comes from ``context.seed``. Runs out of memory as PyTorch does."""

    def solid(
        self,
        rgba: np.ndarray,  # [T, S, S, 4]
        photo: Photo,
        angles: Angles,
        config: OrbitConfig,
    ) -> np.ndarray:  # [T, S, S, 4]
        """Painted frames with masks as a surface can be fitted to them: edges about one pixel wide."""

    def prior(
        self, photo: Photo, elevation_deg: float, frames: int, config: OrbitConfig, plan: Plan, device: str
    ) -> Prior:
        """The model as a judge of orbits of so many frames around this photo, taken from this elevation."""
