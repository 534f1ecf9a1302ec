"""The pixels a field is fitted to, as rays with a target color."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from sv3d_pipe.artifacts import Views
from sv3d_pipe.cameras import Cameras


@dataclass(frozen=True)
class RayBatch:
    """Rays and what they should see.

    Attributes:
        origins, directions: [R, 3], world space, unit directions.
        rgba: [R, 4] target, color premultiplied by alpha.
    """

    origins: torch.Tensor
    directions: torch.Tensor
    rgba: torch.Tensor


class Pictures:
    """Pictures of one size, from which rays are drawn at any point of the chosen pixels.

    Targets between pixel centers are interpolated bilinearly, so that small pictures do not leave
    the field free to do as it likes between their few rays.
    """

    def __init__(self, rgba: np.ndarray, cameras: Cameras, device: str, seen: np.ndarray | None = None):
        premultiplied = np.concatenate([rgba[..., :3] * rgba[..., 3:], rgba[..., 3:]], -1)
        self.rgba = torch.from_numpy(premultiplied).float().to(device)  # [N, S, S, 4]
        self.cameras = cameras.on(device)
        self.size = rgba.shape[1]
        self.chosen = torch.arange(self.rgba[..., 0].numel(), device=device)  # flat pixel indices
        self.seen = None if seen is None else torch.from_numpy(seen).flatten().to(device)
        if seen is not None:
            self.choose(self.seen)

    def __len__(self) -> int:
        return len(self.chosen)

    def choose(self, keep: torch.Tensor) -> None:
        """Draw only from those of the chosen pixels where ``keep`` [len(self)] is true."""
        self.chosen = self.chosen[keep]

    def at_centers(self, chosen: torch.Tensor) -> RayBatch:
        """The rays through the centers of pixels given by flat index [R]."""
        view, y, x = self._unravel(chosen)
        return RayBatch(*self.cameras.rays(view, x + 0.5, y + 0.5, self.size), self.rgba[view, y, x])

    def draw(self, count: int, generator: torch.Generator) -> RayBatch:
        """``count`` rays through random points of random chosen pixels."""
        device = self.rgba.device
        which = torch.randint(len(self.chosen), (count,), generator=generator, device=device)
        view, y, x = self._unravel(self.chosen[which])
        dx, dy = torch.rand(2, count, generator=generator, device=device)
        x, y = x + dx, y + dy
        return RayBatch(*self.cameras.rays(view, x, y, self.size), self._bilinear(view, x, y))

    def _unravel(self, flat: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        rest = flat % self.size**2
        return flat // self.size**2, rest // self.size, rest % self.size

    def _bilinear(self, view: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        x, y = (x - 0.5).clamp(0, self.size - 1), (y - 0.5).clamp(0, self.size - 1)
        left, top = (c.long().clamp(max=max(self.size - 2, 0)) for c in (x, y))
        u, v = (x - left)[:, None], (y - top)[:, None]
        row = self.rgba.view(len(self.rgba), self.size**2, 4)
        corner = top * self.size + left
        upper = row[view, corner] * (1 - u) + row[view, corner + 1] * u
        lower = row[view, corner + self.size] * (1 - u) + row[view, corner + self.size + 1] * u
        return upper * (1 - v) + lower * v


def pictures(views: Views, photo_weight: float, device: str) -> list[tuple[Pictures, float]]:
    """The views and, at its own size, the photo, each with its share of the rays.

    The photo replaces the last frame, which is the same picture, smaller; its rays count
    ``photo_weight`` times those of one view.
    """
    if views.photo is None or photo_weight == 0:
        return [(Pictures(views.rgba, views.cameras, device, views.seen), 1.0)]
    others = len(views.cameras) - 1
    photo = Pictures(views.photo[None], views.photo_camera, device)
    if others == 0:
        return [(photo, 1.0)]
    share = photo_weight / (photo_weight + others)
    seen = None if views.seen is None else views.seen[:-1]
    return [(Pictures(views.rgba[:-1], views.cameras[:-1], device, seen), 1 - share), (photo, share)]
