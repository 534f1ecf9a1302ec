"""Photos as a recognizer sees them in training, and examples whose denoiser is told what it sees.

Objects are drawn with their longest side at a given length, so a deep one is small in its picture, and framing
it as prep does would blur it. What learned from such photos would read depth off the blur, which no photo of a user has.
So photos are drawn so large that framing shrinks them, and each is seen in a detail of its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from sv3d_pipe.config import PrepConfig
from sv3d_pipe.device import prefers_bfloat16
from sv3d_pipe.errors import UserError
from sv3d_pipe.finetune.examples import ExampleViews, PixelViews
from sv3d_pipe.finetune.reframe import reframe
from sv3d_pipe.orbit.mini.knowledge import knowledge_token
from sv3d_pipe.orbit.mini.pixel_codec import PixelCodec
from sv3d_pipe.orbit.mini.recognizer import SIDE, Units, look
from sv3d_pipe.orbit.mini.voxels import frame_axes
from sv3d_pipe.prep.frame import recenter

DETAIL = (72, 224)  # pixels of a photo's side, log-uniform; above the recognizer's it sees all
FLATTEST = 1e-2  # depths below it count as this
UNITS_FROM = 512  # photos whose features are taken as the units of all


def framed(
    photo: torch.Tensor,  # [S, S, 4] uint8, straight alpha
    rng: np.random.Generator | None,
) -> torch.Tensor:  # [4, SIDE, SIDE]
    """A photo as prep frames it, encoded; with ``rng`` in the detail of fewer pixels."""
    pixels = SIDE if rng is None else min(SIDE, round(math.exp(rng.uniform(*map(math.log, DETAIL)))))
    rgba = recenter(photo.numpy().astype(np.float32) / 255, PrepConfig().fill, pixels)
    small = PixelCodec(pixels).encode(torch.from_numpy(rgba).permute(2, 0, 1)[None])
    return F.interpolate(small, SIDE, mode="bicubic")[0]


def check_photos(record: Any) -> None:
    """Raise UserError with one sentence unless a record has photos."""
    if not len(record.photos):
        raise UserError(
            f"The object {record.name} has no photos, which this model learns from; render the data set"
            " with --photos 6."
        )


def as_frame(photo: torch.Tensor, codec: PixelCodec) -> torch.Tensor:
    """A photo [P, P, 4] uint8 as the other frames are, [1, S, S, 4] uint8."""
    latent = codec.encode(photo.permute(2, 0, 1)[None].float() / 255)
    return (codec.decode(latent) * 255 + 0.5).byte().permute(0, 2, 3, 1)


@torch.inference_mode()
def seen(
    photos: torch.Tensor,  # [B, 4, SIDE, SIDE], on the device to work on
) -> tuple[torch.Tensor, torch.Tensor]:  # [B, 120, 12, 12], [B, 1280] float16, on that device
    """What the recognizer sees in photos, in the number format that suits the device."""
    half = prefers_bfloat16(str(photos.device))
    with torch.autocast(photos.device.type, torch.bfloat16) if half else nullcontext():
        fine, whole = look(photos)
    return fine.half().contiguous(), whole.half()


class KnownViews(PixelViews):
    """Records with photos: one of these is the photo, and the token tells what is seen in it and its true depth.

    The frame of the photo is the photo itself in the frames' size; all are framed as prep frames photos. See
    :class:`PixelViews`.

    Args:
        device: where the recognizer works.
    Raises:
        UserError: a record has no photos.
    """

    def __init__(self, orbits: Sequence[Any], codec: PixelCodec, frames: int, device: torch.device):
        super().__init__(orbits, codec, frames)
        self.device, self.photos = device, []
        for i in range(len(orbits)):
            photos, views = orbits[i].photos, len(self.azimuth_deg[i])
            check_photos(orbits[i])
            self.photos.append(np.arange(views, views + len(photos)))
            self.azimuth_deg[i] = np.append(self.azimuth_deg[i], np.asarray(photos.azimuth_deg, np.float32))
            self.elevation_deg[i] = np.append(
                self.elevation_deg[i], np.asarray(photos.elevation_deg, np.float32)
            )

    def views(self, index: int, chosen: np.ndarray, rng: np.random.Generator | None) -> ExampleViews:
        record, number = self.orbits[index], int(chosen[-1] - self.photos[index][0])
        photo = record.photos[number]
        clean, mirrored = self._altered(
            torch.cat([record.rgba[torch.from_numpy(chosen[:-1])], as_frame(photo, self.codec)]), rng
        )
        azimuth = torch.from_numpy(self.azimuth_deg[index][chosen]).deg2rad()
        polar = torch.from_numpy(90 - self.elevation_deg[index][chosen]).deg2rad()
        clean = reframe(clean, frame_axes(polar, -azimuth if mirrored else azimuth))
        shown = framed(photo.flip(1) if mirrored else photo, rng)
        depth = record.photos.depth[number : number + 1].clamp(min=FLATTEST)
        token = knowledge_token(*seen(shown[None].to(self.device)), depth).cpu()
        return ExampleViews(clean, clean[-1], token[0], mirrored)

    def take_units(self, units: Units) -> None:
        """Make the mean and spread of what is seen in some of the photos the units of features."""
        every = max(1, len(self.orbits) // UNITS_FROM)
        shown = [framed(self.orbits[i].photos[0], None) for i in range(0, len(self.orbits), every)]
        units.take(*map(torch.cat, zip(*(seen(photo[None].to(self.device)) for photo in shown))))
