"""Training examples: which object, which of its views, which is the photo.

The example with a given global number is the same on every machine, in every process and after
every restart: all that is random about it comes from (seed, number).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from sv3d_pipe.errors import UserError
from sv3d_pipe.finetune.check_records import check_record, is_static
from sv3d_pipe.finetune.recipe import Recipe
from sv3d_pipe.orbit.mini.pixel_codec import PixelCodec

COND_AUG = 1e-5  # noise on the photo in both released SV3D models
PHOTO_ELEVATION_DEG = (-5.0, 30.0)  # views from here may serve as the photo, if there are any


@dataclass(frozen=True)
class ExampleViews:
    """Some views of an object as the denoiser knows them.

    Attributes:
        clean: [T, 4, h, w] latents that are denoised.
        photo: [4, h, w] the last view's latent as the condition.
        token: [1, C] the last view's CLIP embedding, or what a :class:`VolumeDenoiser` is told of it, or None.
        mirrored: left and right have changed places.
    """

    clean: torch.Tensor
    photo: torch.Tensor
    token: torch.Tensor | None
    mirrored: bool


@dataclass(frozen=True)
class Alteration:
    """What is changed in all pictures of an example alike.

    Attributes:
        mirrored: left and right change places.
        channels: which of red, green and blue each becomes.
        gamma, gain: exponent and factor of the colors.
    """

    mirrored: bool
    channels: tuple[int, ...]
    gamma: float
    gain: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Alteration:
        mirrored = bool(rng.random() < 0.5)
        channels = rng.permutation(3).tolist() if rng.random() < 0.5 else (0, 1, 2)
        return cls(
            mirrored, tuple(channels), float(np.exp(rng.normal(0, 0.25))), float(rng.uniform(0.8, 1.1))
        )


def altered(
    rgba: torch.Tensor,  # [B, T, S, S, 4] uint8, straight alpha
    changes: Sequence[Alteration],  # B of them
    codec: PixelCodec,
) -> torch.Tensor:  # [B, T, 4, s, s]
    """The pictures of B examples as latents, the pictures of each changed in its own way."""
    rgba = rgba.float() / 255
    mirrored = _beside([c.mirrored for c in changes], rgba)
    rgba = torch.where(mirrored, rgba.flip(3), rgba)
    channels = _beside([c.channels for c in changes], rgba).expand(*rgba.shape[:-1], 3)
    gamma, gain = (_beside([getattr(c, name) for c in changes], rgba) for name in ("gamma", "gain"))
    rgb = rgba.gather(-1, channels).clamp(min=1e-4) ** gamma * gain
    rgba = torch.cat([rgb.clamp(0, 1), rgba[..., 3:]], -1).flatten(0, 1)
    return codec.encode(rgba.permute(0, 3, 1, 2)).unflatten(0, (len(changes), -1))


def _beside(values: list, rgba: torch.Tensor) -> torch.Tensor:
    """Numbers [B] or [B, 3] in the shape [B, 1, 1, 1, 1 or 3], on the device of pictures."""
    return torch.tensor(values).to(rgba.device, non_blocking=True).view(len(values), 1, 1, 1, -1)


class ExampleSource(Protocol):
    """Objects with views; angles in degrees, one float32 array [n] per object.

    ``photos`` are each object's views that serve only as the photo; None: any view may.
    """

    azimuth_deg: list[np.ndarray]
    elevation_deg: list[np.ndarray]
    textured: list[bool]
    photos: list[np.ndarray] | None

    def views(self, index: int, chosen: np.ndarray, rng: np.random.Generator | None) -> ExampleViews:
        """Views ``chosen`` [T] of an object; with ``rng`` altered at random."""


class PixelViews:
    """The source of pixel models: the records themselves, mirrored and recolored at random.

    Args:
        orbits: records as :class:`sv3d_pipe.dataset.orbit_set.OrbitSet` gives them.
        codec: on the CPU.
        frames: views that an example needs.
    Raises:
        UserError: a record is unfit.
    """

    def __init__(self, orbits: Sequence[Any], codec: PixelCodec, frames: int):
        self.orbits, self.codec, self.photos = orbits, codec, None
        self.azimuth_deg, self.elevation_deg, self.textured = [], [], []
        for i in range(len(orbits)):
            record = orbits[i]
            check_record(record, frames)
            self.azimuth_deg.append(np.asarray(record.azimuth_deg, np.float32))
            self.elevation_deg.append(np.asarray(record.elevation_deg, np.float32))
            self.textured.append(bool(record.textured))

    def views(self, index: int, chosen: np.ndarray, rng: np.random.Generator | None) -> ExampleViews:
        rgba = self.orbits[index].rgba[torch.from_numpy(chosen)]
        clean, mirrored = self._altered(rgba, rng)
        return ExampleViews(clean, clean[-1], None, mirrored)

    def _altered(self, rgba: torch.Tensor, rng: np.random.Generator | None) -> tuple[torch.Tensor, bool]:
        """Pictures [T, S, S, 4] uint8 as latents, mirrored and recolored at random; and whether mirrored."""
        if rng is None:
            return self.codec.encode(rgba.permute(0, 3, 1, 2).float() / 255), False
        change = Alteration.draw(rng)
        return altered(rgba[None], [change], self.codec)[0], change.mirrored


@dataclass(frozen=True)
class Batch:
    """Training examples: T frames of B objects, the photo last.

    Attributes:
        clean: [B, T, 4, h, w] latents that are denoised.
        photo: [B, 4, h, w] latent of the photo as the condition.
        token: [B, 1, C] CLIP embedding of the photo, or None.
        ids: [B, T, 3] noise on the photo, polar angle, azimuth from the photo in [0, 2 pi) (radians).
    """

    clean: torch.Tensor
    photo: torch.Tensor
    token: torch.Tensor | None
    ids: torch.Tensor

    def to(self, device: torch.device) -> Batch:
        parts = (self.clean, self.photo, self.token, self.ids)
        return Batch(*(None if part is None else part.to(device, non_blocking=True) for part in parts))


class Examples:
    """All training examples, by global number.

    Args:
        source: the objects.
        recipe: says phase, frames, oversampling and seed.
        in_order: frames go around the object, evenly spaced, as video models need them; else any
            views in any order.
    Attributes:
        objects: those of the source that can be used.
    Raises:
        UserError: no object can be used.
    """

    def __init__(self, source: ExampleSource, recipe: Recipe, in_order: bool):
        self.source, self.recipe, self.in_order = source, recipe, in_order
        self.objects = [
            i for i, e in enumerate(source.elevation_deg) if recipe.phase != "u" or is_static(e)
        ]  # phase u has no angles, so its cameras must not rise or sink
        if not self.objects:
            what = "static orbits, which phase u needs" if len(source.elevation_deg) else "orbits"
            raise UserError(f"The data set holds no {what}; make some with `img2mesh render`.")
        times = [recipe.oversample if source.textured[i] else 1 for i in self.objects]
        self.tickets = np.repeat(self.objects, times)

    @functools.lru_cache(maxsize=2)  # noqa: B019  (one Examples lives as long as its run)
    def _order(self, epoch: int) -> np.ndarray:
        return np.random.default_rng((self.recipe.seed, 0, epoch)).permutation(self.tickets)

    def batch(self, numbers: Sequence[int]) -> Batch:
        """The examples of these global numbers. Every ticket is drawn once before any comes again."""
        return _stack([self._example(index, rng, rng) for index, rng in map(self.draw, numbers)])

    def draw(self, number: int) -> tuple[int, np.random.Generator]:
        """The object of an example, and what draws the rest of it."""
        epoch, place = divmod(number, len(self.tickets))
        return int(self._order(epoch)[place]), np.random.default_rng((self.recipe.seed, 1, number))

    def fixed(self, place: int) -> Batch:
        """One example of the object at a place among :attr:`objects` [1, T, ...], never altered: for validation."""
        return _stack([self._example(self.objects[place], np.random.default_rng((0, place)), None)])

    def _example(
        self,
        index: int,
        rng: np.random.Generator,
        alter: np.random.Generator | None,
    ):
        azimuth, elevation = self.source.azimuth_deg[index], self.source.elevation_deg[index]
        photos = None if self.source.photos is None else self.source.photos[index]
        chosen = choose_views(azimuth, elevation, self.recipe.frames, self.in_order, rng, photos)
        views = self.source.views(index, chosen, alter)
        ids = camera_ids(azimuth[chosen], elevation[chosen], views.mirrored)
        if views.mirrored and self.in_order:  # the mirrored camera goes the other way round
            turn = np.append(np.arange(len(ids) - 1)[::-1], len(ids) - 1)
            views, ids = ExampleViews(views.clean[turn], views.photo, views.token, True), ids[turn]
        return views.clean, views.photo, views.token, torch.from_numpy(ids)


class OneExample:
    """One object's example again and again, always the same views: for the overfit check."""

    def __init__(self, example: Batch):
        self.example = example  # [1, T, ...]

    def batch(self, numbers: Sequence[int]) -> Batch:
        """As many copies as there are numbers."""
        parts = (self.example.clean, self.example.photo, self.example.token, self.example.ids)
        return Batch(*(None if x is None else torch.cat([x] * len(numbers)) for x in parts))


def camera_ids(azimuth_deg: np.ndarray, elevation_deg: np.ndarray, mirrored: bool) -> np.ndarray:
    """What a network is told of the cameras of an example, [T] each and the photo's last: see :class:`Batch`, [T, 3]."""
    azimuth = azimuth_deg - azimuth_deg[-1]
    if mirrored:
        azimuth = -azimuth
    polar = np.radians(90 - elevation_deg)
    return np.stack([np.full_like(polar, COND_AUG), polar, np.radians(azimuth % 360)], -1).astype(np.float32)


def choose_views(
    azimuth_deg: np.ndarray,  # [n]
    elevation_deg: np.ndarray,  # [n]
    frames: int,
    in_order: bool,
    rng: np.random.Generator,
    photos: np.ndarray | None = None,
) -> np.ndarray:  # [frames] indices, the photo last
    """Draw a photo and the other views: any, or in order of azimuth and evenly spread over the orbit.

    Args:
        photos: views that serve only as the photo; None: any view from an ordinary height may.
    """
    if photos is not None:
        views = np.delete(np.arange(len(azimuth_deg)), photos)
        return np.append(rng.permutation(views)[: frames - 1], rng.choice(photos))
    low, high = PHOTO_ELEVATION_DEG
    candidates = np.flatnonzero((elevation_deg >= low) & (elevation_deg <= high))
    if len(candidates) == 0:
        candidates = [np.abs(elevation_deg - (low + high) / 2).argmin()]
    photo = int(rng.choice(candidates))
    if in_order:
        around = np.argsort((azimuth_deg - azimuth_deg[photo]) % 360, kind="stable")
        around = np.append(photo, around[around != photo])
        others = around[np.arange(1, frames) * len(around) // frames]
    else:
        others = rng.permutation(np.delete(np.arange(len(azimuth_deg)), photo))[: frames - 1]
    return np.append(others, photo)


def _stack(rows: list[tuple]) -> Batch:
    clean, photo, token, ids = zip(*rows)
    tokens = None if token[0] is None else torch.stack(token)
    return Batch(torch.stack(clean), torch.stack(photo), tokens, torch.stack(ids))
