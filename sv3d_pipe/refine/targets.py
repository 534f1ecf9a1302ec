"""The pictures that refinement has to agree with, and which of them a step looks at."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from sv3d_pipe.artifacts import Views
from sv3d_pipe.cameras import Cameras
from sv3d_pipe.config import RefineConfig
from sv3d_pipe.refine.mesh_picture import seen_at, shrink
from sv3d_pipe.road.context import Context


@dataclass(frozen=True)
class Target:
    """Pictures to agree with.

    Attributes:
        cameras: K of them. rgba: [K, S, S, 4] straight alpha; seen: [K, S, S] bool, the pixels that are known.
        share: of the loss.
    """

    cameras: Cameras
    rgba: torch.Tensor
    seen: torch.Tensor
    share: float


class Targets:
    """The photos, which take turns, and the views, on the context's device.

    Args:
        generator: chooses views when it is on the CPU. Beside a GPU's the host has one of its own, so that it need
            not ask the GPU which views it chose.
    Attributes:
        object_share: of the pictures' area.
    """

    def __init__(self, config: RefineConfig, views: Views, context: Context, generator: torch.Generator):
        self.config, self.device = config, context.device
        self.cameras, self.photo_cameras = views.cameras, views.photo_cameras
        size = min(views.size, config.render)
        frames = np.stack([shrink(frame, size) for frame in views.rgba])
        self.frames = torch.from_numpy(frames).to(self.device)  # [N, S, S, 4]
        self.seen = torch.from_numpy(seen_at(views, size)).to(self.device)  # [N, S, S]
        self.object_share = max(float(self.frames[..., 3].mean()), 1e-3)
        photos = views.rgba[-1:] if views.photos is None else views.photos
        photos = np.stack([shrink(photo, min(photo.shape[0], config.render)) for photo in photos])
        self.photos = torch.from_numpy(photos).to(self.device)  # [K, P, P, 4]
        self.photos_seen = (
            self.seen[-1:] if views.photos is None else torch.ones_like(self.photos[..., 0]) > 0
        )
        self.photo_weight = 1.0 if views.photos is None else config.photo_weight  # a capture has no photo
        falloff = 0.0 if views.photos is None else config.view_falloff
        self.trust = torch.from_numpy(view_trust(views.cameras, falloff, len(photos)))  # [N - K]
        on_cpu = generator.device.type == "cpu"
        self.chooser = generator if on_cpu else context.generator("refine", "cpu")
        # On a GPU every launch costs time; on a CPU the sums keep the order that earlier runs had.
        self.at_once = not on_cpu and self.photos.shape[1:] == self.frames.shape[1:]

    def choose(self, step: int) -> list[list[Target]]:
        """A photo and some random views, grouped by what is to be drawn at once."""
        others = min(self.config.views_per_step - 1, len(self.trust))
        whole, turn = others + self.photo_weight, [step % len(self.photos)]
        photo = Target(
            self.photo_cameras[turn], self.photos[turn], self.photos_seen[turn], self.photo_weight / whole
        )
        if not others:
            return [[photo]]
        chosen = torch.multinomial(self.trust, others, generator=self.chooser)
        there = chosen.to(self.device, non_blocking=True)
        views = Target(self.cameras[chosen.tolist()], self.frames[there], self.seen[there], others / whole)
        return [[photo, views]] if self.at_once else [[photo], [views]]


def view_trust(cameras: Cameras, falloff: float, n_photos: int = 1) -> np.ndarray:
    """[N - K] float32: how often each view but the last K, the photos, is looked at, in proportion.

    1 - falloff * (1 - cos) / 2, with the angle between the view and the nearest photo; never below
    1 %, so that no view is left out for good.
    """
    toward = cameras.origins / np.linalg.norm(cameras.origins, axis=-1, keepdims=True)
    cosine = (toward[:-n_photos] @ toward[-n_photos:].T).max(1)
    return np.maximum(1 - falloff * (1 - cosine) / 2, 0.01).astype(np.float32)
