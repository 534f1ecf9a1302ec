"""A data set that lies on the device: for a GPU, which examples made one by one on the CPU would leave waiting.

Every picture is read once, by several processes; every photo is looked at once, in a detail of its own, and once
mirrored. From then on a batch is made on the device, by a handful of operations for all its examples together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from sv3d_pipe.dataset.orbit_set import OrbitSet
from sv3d_pipe.device import usable_cores
from sv3d_pipe.errors import UserError
from sv3d_pipe.finetune.check_records import check_record
from sv3d_pipe.finetune.examples import (
    Alteration,
    Batch,
    Examples,
    ExampleViews,
    altered,
    camera_ids,
    choose_views,
)
from sv3d_pipe.finetune.known_views import FLATTEST, as_frame, check_photos, framed, seen
from sv3d_pipe.finetune.reframe import reframe
from sv3d_pipe.orbit.mini.knowledge import knowledge_token
from sv3d_pipe.orbit.mini.pixel_codec import PixelCodec
from sv3d_pipe.orbit.mini.recognizer import COARSE, FINE, FINE_SIDE, Units
from sv3d_pipe.orbit.mini.voxels import frame_axes

LOOKED_AT = 2 * (FINE * FINE_SIDE**2 + COARSE)  # bytes of what is kept of a look at a photo
SHARE = 0.4  # of the memory that is free may be filled with a data set
MOST_READERS = 16  # processes
AT_ONCE = 16  # objects whose photos are looked at together


def fits(orbits: OrbitSet, device: torch.device) -> bool:
    """Whether a data set may lie on a CUDA device besides a training run."""
    if device.type != "cuda":
        return False
    about = [entry.about for entry in orbits.entries]
    frames = sum((len(one.azimuth_deg) + len(one.photos.azimuth_deg)) * 4 * one.size**2 for one in about)
    looks = sum(2 * len(one.photos.azimuth_deg) * LOOKED_AT for one in about)
    return frames + looks < SHARE * torch.cuda.mem_get_info(device)[0]


class ResidentViews:
    """Records with photos on a device: the fast twin of :class:`sv3d_pipe.finetune.known_views.KnownViews`.

    What it gives is the same, but that the detail in which a photo is seen is drawn once and not in every example.

    Args:
        codec: of the model, on the CPU.
        device: where the pictures lie and the recognizer works.
        seed: of the details in which photos are seen.
    """

    def __init__(self, codec: PixelCodec, device: torch.device, seed: int):
        self.codec, self.device, self.seed = codec, device, seed
        self.azimuth_deg: list[np.ndarray] = []
        self.elevation_deg: list[np.ndarray] = []
        self.textured: list[bool] = []
        self.photos: list[np.ndarray] = []
        self.first_view, self.first_photo = [], []  # of each object, in the tensors below
        self._views = self._photos = 0  # of all objects
        size = codec.config.size
        self.frames = torch.empty(0, size, size, 4, dtype=torch.uint8, device=device)  # [V, S, S, 4]
        self.photo_frames = torch.empty_like(self.frames)  # [P, S, S, 4]
        self.fine = torch.empty(2, 0, FINE, FINE_SIDE, FINE_SIDE, dtype=torch.float16, device=device)
        self.whole = torch.empty(2, 0, COARSE, dtype=torch.float16, device=device)  # as it is, and mirrored
        self.depth = torch.empty(0, device=device)  # [P]

    def add(
        self,
        orbits: Sequence[Any],
        frames: int,
        processes: int = 0,
        on_object: Callable[[], None] = lambda: None,
    ) -> None:
        """Read a data set and look at its photos; until all of it is there, nothing of it is used.

        Args:
            orbits: records as :class:`sv3d_pipe.dataset.orbit_set.OrbitSet` gives them.
            frames: views that an example needs.
            processes: that read; 0 reads in this one.
            on_object: called after each.
        Raises:
            UserError: a record is unfit, or a picture is damaged.
        """
        loader = torch.utils.data.DataLoader(
            _Objects(orbits, frames, self.codec, self.seed),
            batch_size=None,
            collate_fn=_as_it_is,
            num_workers=processes,
            multiprocessing_context="spawn" if processes else None,
        )
        waiting: list[_Object] = []
        looked: list[tuple[torch.Tensor, ...]] = []
        for read in loader:
            if isinstance(read, UserError):
                raise read
            waiting.append(read)
            if len(waiting) == AT_ONCE:
                looked.append(self._look_at(waiting))
                waiting = []
            self._take(read)
            on_object()
        if waiting:
            looked.append(self._look_at(waiting))
        if looked:
            frames, photo_frames, fine, whole, depth = zip(*looked)
            self.frames = torch.cat([self.frames, *frames])
            self.photo_frames = torch.cat([self.photo_frames, *photo_frames])
            self.fine, self.whole = torch.cat([self.fine, *fine], 1), torch.cat([self.whole, *whole], 1)
            self.depth = torch.cat([self.depth, *depth])

    def _look_at(self, objects: list[_Object]) -> tuple[torch.Tensor, ...]:
        """Pictures, looks and depths of some objects, on the device; nothing is worked on before it is there."""
        names = ("frames", "photo_frames", "shown", "depth")
        arrays = (np.concatenate([getattr(one, name) for one in objects]) for name in names)
        frames, photo_frames, shown, depth = (torch.from_numpy(array).to(self.device) for array in arrays)
        looks = torch.cat([shown, shown.flip(-1)]).float()
        fine, whole = (part.unflatten(0, (2, -1)) for part in seen(looks))
        return frames, photo_frames, fine, whole, depth

    def _take(self, read: _Object) -> None:
        """Note where an object's views and photos will lie, and how they were taken."""
        views, photos = len(read.frames), len(read.photo_frames)
        self.first_view.append(self._views)
        self.first_photo.append(self._photos)
        self._views, self._photos = self._views + views, self._photos + photos
        self.photos.append(np.arange(views, views + photos))
        self.azimuth_deg.append(read.azimuth_deg)
        self.elevation_deg.append(read.elevation_deg)
        self.textured.append(read.textured)

    def take_units(self, units: Units) -> None:
        """Make the mean and spread of what is seen in the photos the units of features."""
        units.take(self.fine[0], self.whole[0])

    def views(self, index: int, chosen: np.ndarray, rng: np.random.Generator | None) -> ExampleViews:
        change = Alteration.draw(rng) if rng is not None else None
        clean, token = self.many([index], [chosen], None if change is None else [change])
        return ExampleViews(clean[0], clean[0, -1], token[0], change is not None and change.mirrored)

    def many(
        self, objects: Sequence[int], chosen: Sequence[np.ndarray], changes: Sequence[Alteration] | None
    ) -> tuple[torch.Tensor, torch.Tensor]:  # [B, T, 4, S, S], [B, 1, TOKEN]
        """Views ``chosen`` [T] of B objects, the photo last, and what is known of the photo."""
        view, photo, mirrored, polar, azimuth = self._places(objects, chosen, changes)
        rgba = torch.cat([self.frames[view], self.photo_frames[photo][:, None]], 1)  # [B, T, S, S, 4]
        if changes is None:
            latents = self.codec.encode(rgba.flatten(0, 1).permute(0, 3, 1, 2).float() / 255)
            clean = latents.unflatten(0, rgba.shape[:2])
        else:
            clean = altered(rgba, changes, self.codec)
        clean = reframe(clean, frame_axes(polar, azimuth))
        seen_so = self.fine[mirrored, photo], self.whole[mirrored, photo]
        return clean, knowledge_token(*seen_so, self.depth[photo])

    def _places(self, objects, chosen, changes):
        """Where views [B, T - 1] and photos [B] lie, which are mirrored [B], polar angles and azimuths [B, T]."""
        rows = list(zip(objects, chosen))
        view = np.stack([self.first_view[i] + which[:-1] for i, which in rows])
        photo = np.array([self.first_photo[i] + which[-1] - self.photos[i][0] for i, which in rows])
        mirrored = np.array([change.mirrored for change in changes or ()] or [False] * len(rows), np.int64)
        polar = np.radians(90 - np.stack([self.elevation_deg[i][which] for i, which in rows]))
        azimuth = np.radians(np.stack([self.azimuth_deg[i][which] for i, which in rows]))
        azimuth *= np.where(mirrored, -1, 1)[:, None].astype(np.float32)
        arrays = (view, photo, mirrored, polar, azimuth)
        return (torch.from_numpy(array).to(self.device, non_blocking=True) for array in arrays)


class ResidentExamples(Examples):
    """:class:`Examples` of :class:`ResidentViews`, whose batches are made on their device."""

    def batch(self, numbers: Sequence[int]) -> Batch:
        drawn = [self.draw(number) for number in numbers]
        angles = [(self.source.azimuth_deg[i], self.source.elevation_deg[i]) for i, _ in drawn]
        chosen = [
            choose_views(*both, self.recipe.frames, False, rng, self.source.photos[i])
            for (i, rng), both in zip(drawn, angles)
        ]
        changes = [Alteration.draw(rng) for _, rng in drawn]
        clean, token = self.source.many([i for i, _ in drawn], chosen, changes)
        ids = [
            camera_ids(azimuth[which], elevation[which], change.mirrored)
            for (azimuth, elevation), which, change in zip(angles, chosen, changes)
        ]
        ids = torch.from_numpy(np.stack(ids)).to(clean.device, non_blocking=True)
        return Batch(clean, clean[:, -1], token, ids)


@dataclass(frozen=True)
class _Object:
    """What is read of one object, as arrays: handing a tensor from process to process takes ten times as long.

    Attributes:
        frames: [V, S, S, 4] and photo_frames [P, S, S, 4] uint8.
        shown: [P, 4, SIDE, SIDE] float16, the photos as the recognizer sees them.
        depth: [P] float32. azimuth_deg, elevation_deg: [V + P] float32.
        textured: as the record says.
    """

    frames: np.ndarray
    photo_frames: np.ndarray
    shown: np.ndarray
    depth: np.ndarray
    azimuth_deg: np.ndarray
    elevation_deg: np.ndarray
    textured: bool


class _Objects(torch.utils.data.Dataset):
    """Every object of a data set, or its fault: one that is raised in another process loses its sentence."""

    def __init__(self, orbits: Sequence[Any], frames: int, codec: PixelCodec, seed: int):
        self.orbits, self.frames, self.codec, self.seed = orbits, frames, codec, seed

    def __len__(self) -> int:
        return len(self.orbits)

    def __getitem__(self, index: int) -> _Object | UserError:
        try:
            record, rng = self.orbits[index], np.random.default_rng((self.seed, index))
            check_record(record, self.frames)
            check_photos(record)
            photos = [record.photos[number] for number in range(len(record.photos))]
        except UserError as fault:
            return fault
        return _Object(
            record.rgba.numpy(),
            torch.cat([as_frame(photo, self.codec) for photo in photos]).numpy(),
            torch.stack([framed(photo, rng) for photo in photos]).half().numpy(),
            record.photos.depth.clamp(min=FLATTEST).numpy(),
            _both(record.azimuth_deg, record.photos.azimuth_deg),
            _both(record.elevation_deg, record.photos.elevation_deg),
            bool(record.textured),
        )


def _as_it_is(read: _Object | UserError) -> _Object | UserError:
    return read


def _both(views: Any, photos: Any) -> np.ndarray:
    return np.append(np.asarray(views, np.float32), np.asarray(photos, np.float32))


def readers() -> int:
    """Processes that read a data set: as many as this one may use processors, but one."""
    return max(1, min(MOST_READERS, usable_cores() - 1))
