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
        size = self.size
        self._strides = torch.tensor([[1], [size], [size**2]], device=device)  # of x, y, view
        self._corners = torch.tensor([0, 1, size, size + 1], device=device)  # of a square of four pixels
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
        view, pixel = self._unravel(chosen)
        x, y = pixel + 0.5
        return RayBatch(*self.cameras.rays(view, x, y, self.size), self.rgba.view(-1, 4)[chosen])

    def draw(self, count: int, generator: torch.Generator) -> tuple[torch.Tensor, ...]:
        """``count`` rays through random points of random chosen pixels, for :func:`draw`.

        Returns:
            origins and directions [R, 3], the four pixels around each point [R, 2, 2, 4], y first, and where the
            point lies between them [R, 2], x and y in [0, 1].
        """
        device = self.rgba.device
        which = torch.randint(len(self.chosen), (count,), generator=generator, device=device)
        view, pixel = self._unravel(self.chosen[which])
        point = pixel + torch.rand(2, count, generator=generator, device=device)
        return *self.cameras.rays(view, *point, self.size), *self._around(view, point)

    def _unravel(self, flat: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Views [R], and pixels [2, R] as x and y, of flat indices [R]."""
        whole = flat // self._strides
        return whole[2], whole[:2] % self.size

    def _around(self, view: torch.Tensor, point: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        point = (point - 0.5).clamp(0, self.size - 1)  # [2, R]
        first = point.long().clamp(max=max(self.size - 2, 0))
        corners = torch.add(first[0], first[1], alpha=self.size)[:, None] + self._corners  # [R, 4]
        around = self.rgba.view(len(self.rgba), self.size**2, 4)[view[:, None], corners]
        return around.view(-1, 2, 2, 4), (point - first).T


def draw(sets: list[tuple[Pictures, float]], count: int, generator: torch.Generator) -> RayBatch:
    """About ``count`` rays, of each pictures their share, through random points of random chosen pixels."""
    parts = [drawn.draw(max(1, round(count * share)), generator) for drawn, share in sets]
    origins, directions, around, inside = parts[0] if len(parts) == 1 else map(torch.cat, zip(*parts))
    after = inside[..., None, None]  # [R, 2, 1, 1]
    before = 1 - after
    rows = around[:, :, 0] * before[:, 0] + around[:, :, 1] * after[:, 0]  # [R, 2, 4]
    return RayBatch(origins, directions, rows[:, 0] * before[:, 1, 0] + rows[:, 1] * after[:, 1, 0])


def pictures(views: Views, photo_weight: float, device: str) -> list[tuple[Pictures, float]]:
    """The views and, at their own size, the photos, each with its share of the rays.

    The photos replace the last frames, which are the same pictures, smaller; the rays of each count
    ``photo_weight`` times those of one view.
    """
    if views.photos is None or photo_weight == 0:
        return [(Pictures(views.rgba, views.cameras, device, views.seen), 1.0)]
    others = len(views.cameras) - views.n_photos
    photos = Pictures(views.photos, views.photo_cameras, device)
    if others == 0:
        return [(photos, 1.0)]
    share = views.n_photos * photo_weight / (views.n_photos * photo_weight + others)
    seen = None if views.seen is None else views.seen[:others]
    frames = Pictures(views.rgba[:others], views.cameras[:others], device, seen)
    return [(frames, 1 - share), (photos, share)]
