"""Latents and CLIP embeddings of all views, made once: the source of examples for models with a VAE."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from sv3d_pipe.errors import UserError
from sv3d_pipe.finetune.check_records import check_record
from sv3d_pipe.finetune.examples import ExampleViews
from sv3d_pipe.orbit.denoising_pipeline import PhotoCondition
from sv3d_pipe.orbit.sv3d.diffusion_pipeline import StableVideo3DPipeline

SAME = 0.05  # of the latents' spread: float16 and other devices stay below, another VAE does not


def encode_orbits(
    orbits: Sequence[Any],
    pipeline: StableVideo3DPipeline,
    folder: Path,
    frames: int,
    part: int = 0,
    parts: int = 1,
    on_object: Callable[[], None] = lambda: None,
) -> None:
    """Encode every object into a file of its own; what is there already is kept.

    A file holds ``latents`` [n, 4, h, w] (not scaled by the VAE's factor) and ``token`` [n, C] in float16,
    ``azimuth_deg``, ``elevation_deg`` [n] and ``textured`` [1].

    Args:
        orbits: records as :class:`sv3d_pipe.dataset.orbit_set.OrbitSet` gives them.
        pipeline: with VAE and image encoder, on the device to work on.
        frames: views that an example needs.
        part, parts: this process encodes the objects whose number is ``part`` modulo ``parts``.
        on_object: called after each object.
    Raises:
        UserError: a record is unfit, or the folder holds the work of another model or data set.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if len(orbits) and _place(folder, 0).exists():
        _check_same(orbits[0], pipeline, folder)
    for i in range(part, len(orbits), parts):
        path = _place(folder, i)
        if not path.exists():
            record = orbits[i]
            check_record(record, frames)
            partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
            save_file(_encoded(record, pipeline), partial)
            partial.replace(path)
        on_object()


def _place(folder: Path, index: int) -> Path:
    return folder / f"{index:07d}.safetensors"


@torch.no_grad()
def _encoded(record: Any, pipeline: StableVideo3DPipeline) -> dict[str, torch.Tensor]:
    seen = [_photo(record, k, pipeline) for k in range(len(record.rgba))]
    return {
        "latents": torch.cat([photo.latents for photo in seen]).half().cpu(),
        "token": torch.cat([photo.token[0] for photo in seen]).half().cpu(),
        "azimuth_deg": torch.as_tensor(record.azimuth_deg, dtype=torch.float32).clone(),
        "elevation_deg": torch.as_tensor(record.elevation_deg, dtype=torch.float32).clone(),
        "textured": torch.tensor([bool(record.textured)]),
    }


@torch.no_grad()
def _check_same(record: Any, pipeline: StableVideo3DPipeline, folder: Path) -> None:
    """Raise UserError unless the first view of the first object is encoded as it lies there."""
    with _open(_place(folder, 0)) as file:
        there = file.get_slice("latents")[0].float()
    here = _photo(record, 0, pipeline).latents[0].float().cpu()
    if here.shape != there.shape or (here - there).abs().mean() > SAME * here.std():
        raise UserError(
            f"{folder} holds the latents of another model or data set; delete it or choose another folder."
        )


def _photo(record: Any, view: int, pipeline: StableVideo3DPipeline) -> PhotoCondition:
    return pipeline.encode_photo(_on_background(record, view), float(record.elevation_deg[view]))


def _on_background(record: Any, view: int) -> np.ndarray:
    """[S, S, 4] float32 picture, laid on the record's background unless that is white, as the VAE's is."""
    rgba = record.rgba[view].numpy().astype(np.float32) / 255
    if min(record.background) == 1:
        return rgba
    alpha = rgba[..., 3:]
    rgb = rgba[..., :3] * alpha + np.float32(record.background) * (1 - alpha)
    return np.concatenate([rgb, np.ones_like(alpha)], -1)


def _open(path: Path) -> safe_open:
    try:
        return safe_open(path, framework="pt")
    except (OSError, SafetensorError):
        raise UserError(
            f"{path} is damaged; delete it and run the command again to make a new one."
        ) from None


class EncodedViews:
    """The source of examples in a folder of :func:`encode_orbits`; read view by view when asked for.

    Args:
        folder: complete.
        count: objects.
        scaling_factor: of the VAE; latents are denoised scaled, and serve as the photo unscaled.
    """

    def __init__(self, folder: Path, count: int, scaling_factor: float):
        self.folder, self.scaling_factor, self.photos = folder, scaling_factor, None
        self.azimuth_deg, self.elevation_deg, self.textured = [], [], []
        for i in range(count):
            with _open(_place(folder, i)) as file:
                self.azimuth_deg.append(file.get_tensor("azimuth_deg").numpy())
                self.elevation_deg.append(file.get_tensor("elevation_deg").numpy())
                self.textured.append(bool(file.get_tensor("textured")))

    def views(self, index: int, chosen: np.ndarray, rng: np.random.Generator | None) -> ExampleViews:
        """Latents cannot be mirrored or recolored, so ``rng`` changes nothing."""
        with _open(_place(self.folder, index)) as file:
            part = file.get_slice("latents")
            latents = torch.stack([part[int(k)] for k in chosen]).float()
            token = file.get_slice("token")[int(chosen[-1])].float()
        return ExampleViews(latents * self.scaling_factor, latents[-1], token[None], False)
