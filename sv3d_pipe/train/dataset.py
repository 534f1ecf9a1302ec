"""Orbit data sets: one safetensors file per object, rendered once and kept in memory as bytes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from sv3d_pipe.cameras import orbit
from sv3d_pipe.train.render import Light, Object, render_views

COND_AUG = 1e-5  # noise on the photo in both released SV3D models
ELEVATION_RANGE_DEG = (-30.0, 50.0)  # what a sine orbit of amplitude 30 around a photo at 0..20 needs


def render_record(obj: Object, size: int, n_views: int, seed: int) -> dict[str, torch.Tensor]:
    """Pictures of one object from random directions under one random light.

    Azimuths are spread evenly with jitter, elevations drawn uniformly from ELEVATION_RANGE_DEG.

    Returns:
        rgba [n_views, size, size, 4] uint8 and azimuth_deg, elevation_deg [n_views] float32.
    """
    rng = np.random.default_rng(seed)
    azimuth_deg = (np.arange(n_views) + rng.uniform(-0.5, 0.5, n_views)) * (360 / n_views) % 360
    elevation_deg = rng.uniform(*ELEVATION_RANGE_DEG, n_views)
    cameras = orbit(azimuth_deg, elevation_deg, obj.camera_radius())
    rgba = render_views(obj, cameras, size, Light.random(rng))
    return {
        "rgba": torch.from_numpy((rgba * 255 + 0.5).astype(np.uint8)),
        "azimuth_deg": torch.from_numpy(azimuth_deg.astype(np.float32)),
        "elevation_deg": torch.from_numpy(elevation_deg.astype(np.float32)),
    }


def save_record(record: dict[str, torch.Tensor], path: Path) -> None:
    """Write a record whole or not at all."""
    partial = path.with_suffix(".partial")
    save_file(record, partial)
    partial.replace(path)


@dataclass(frozen=True)
class Batch:
    """Training examples: T frames of B objects, the photo last.

    Attributes:
        rgba: [B, T, S, S, 4] float32 straight alpha in [0, 1].
        azimuth_deg: [B, T] relative to the photo's, in [0, 360); the last is 0.
        elevation_deg: [B, T].
    """

    rgba: torch.Tensor
    azimuth_deg: torch.Tensor
    elevation_deg: torch.Tensor

    def time_ids(self) -> torch.Tensor:
        """[B, T, 3] what sv3d-p is told of every frame: noise on the photo, polar angle, azimuth (radians)."""
        polar, azimuth = (90 - self.elevation_deg).deg2rad(), self.azimuth_deg.deg2rad()
        return torch.stack([torch.full_like(polar, COND_AUG), polar, azimuth], -1)


class OrbitSet:
    """All records of a folder, held in memory.

    Args:
        folder: holds ``*.safetensors`` written by ``img2mesh render``.
        photo_elevation_deg: range of elevations from which a view may serve as the photo.
    """

    def __init__(self, folder: Path, photo_elevation_deg: tuple[float, float] = (-5.0, 30.0)):
        self.paths = sorted(Path(folder).rglob("*.safetensors"))
        self.records = [load_file(path) for path in self.paths]
        self.photo_elevation_deg = photo_elevation_deg

    def __len__(self) -> int:
        return len(self.records)

    def batches(self, batch: int, frames: int, rng: np.random.Generator) -> Iterator[Batch]:
        """Endless random batches; every object is drawn once before any comes again."""
        queue: list[int] = []
        while True:
            if len(queue) < batch:
                queue = rng.permutation(len(self.records)).tolist() + queue
            examples = [self._example(self.records[queue.pop()], frames, rng) for _ in range(batch)]
            yield Batch(*(torch.stack(parts) for parts in zip(*examples)))

    def _example(self, record: dict, frames: int, rng: np.random.Generator):
        """One object's frames, randomly mirrored and recolored; the photo is the last."""
        elevation = record["elevation_deg"].numpy()
        low, high = self.photo_elevation_deg
        candidates = np.flatnonzero((elevation >= low) & (elevation <= high))
        photo = (
            int(rng.choice(candidates))
            if len(candidates)
            else int(np.abs(elevation - (low + high) / 2).argmin())
        )
        others = rng.permutation(np.delete(np.arange(len(elevation)), photo))[: frames - 1]
        chosen = torch.from_numpy(np.append(others, photo))
        rgba = record["rgba"][chosen].float() / 255
        azimuth = record["azimuth_deg"][chosen] - record["azimuth_deg"][photo]
        if rng.random() < 0.5:  # a mirror world is as good: left and right change places
            rgba, azimuth = rgba.flip(2), -azimuth
        rgba = torch.cat([_recolor(rgba[..., :3], rng), rgba[..., 3:]], -1)
        return rgba, azimuth % 360, record["elevation_deg"][chosen]


def _recolor(rgb: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Shuffle the channels and bend brightness and contrast, the same for all frames."""
    if rng.random() < 0.5:
        rgb = rgb[..., rng.permutation(3).tolist()]
    return (rgb.clamp(min=1e-4) ** float(np.exp(rng.normal(0, 0.25))) * float(rng.uniform(0.8, 1.1))).clamp(
        0, 1
    )
