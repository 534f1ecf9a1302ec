"""How a training run is doing: PSNR on held-out objects, pictures of them, and curves in TensorBoard."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from sv3d_pipe.contact_sheet import contact_sheet, strip
from sv3d_pipe.evaluate.picture_scores import mse
from sv3d_pipe.finetune.examples import Batch, Examples
from sv3d_pipe.finetune.loss import PURE_NOISE, denoise
from sv3d_pipe.orbit.conditioning import triangle_scales
from sv3d_pipe.orbit.denoising_pipeline import OrbitPipeline, PhotoCondition
from sv3d_pipe.pictures import decibels

JUDGED, SHOWN = 38, 4  # objects measured by one step from pure noise, and objects sampled and shown
COLUMNS, SIDE = 6, 96  # frames per object in the picture, and their side in pixels


class Monitor:
    """Measures and shows the network of a pipeline on held-out examples.

    Args:
        pipeline: around the network that is trained.
        batches: examples [1, T, ...] on the network's device.
        steps: sampling steps of the pictures; 0 is the model's own.
        folder: gets ``samples/step_*.png``; None writes nothing.
    """

    def __init__(self, pipeline: OrbitPipeline, batches: list[Batch], steps: int, folder: Path | None):
        self.pipeline, self.batches, self.folder = pipeline, batches, folder
        self.steps = steps or pipeline.config.steps

    @torch.no_grad()
    def __call__(self, step: int) -> dict[str, float]:
        """Mean PSNR of the novel frames: one step from pure noise, sampled, and the photo copied to all."""
        one_step, sampled, copied, rows = [], [], [], []
        for i, batch in enumerate(self.batches):
            truth = decode(self.pipeline, batch.clean[0])
            one_step.append(one_step_db(self.pipeline, batch, truth, seed=i))
            copied.append(copied_photo_db(truth))
            if i < SHOWN:
                frames = decode(self.pipeline, sample(self.pipeline, batch, self.steps, seed=i))
                sampled.append(novel_db(frames, truth))
                rows += _rows(f"{sampled[-1]:.1f} dB", truth, frames)
        if self.folder is not None:
            (self.folder / "samples").mkdir(parents=True, exist_ok=True)
            heading = f"step {step}: photo | other views: true above, painted below"
            contact_sheet(self.folder / "samples" / f"step_{step:07d}.png", heading, rows)
        return {
            "val_psnr_db": float(np.mean(one_step)),
            "val_sampled_db": float(np.mean(sampled)),
            "val_copied_photo_db": float(np.mean(copied)),
        }


def held_out(examples: Examples, device: torch.device) -> list[Batch]:
    """The same few examples every time, one per object."""
    return [examples.fixed(i).to(device) for i in range(min(JUDGED, len(examples.objects)))]


@torch.no_grad()
def one_step_db(pipeline: OrbitPipeline, batch: Batch, truth: np.ndarray, seed: int) -> float:
    """PSNR of what the network sees in pure noise, against the true frames [T, S, S, 3 or 4]."""
    sigma = torch.full((1,), PURE_NOISE[1], device=batch.clean.device)
    noisy = PURE_NOISE[1] * _normal(batch.clean.shape, seed, batch.clean.device)
    return novel_db(decode(pipeline, denoise(pipeline.unet, noisy, sigma, batch)[0]), truth)


def copied_photo_db(truth: np.ndarray) -> float:
    """PSNR of the photo, which is the last, shown in place of all frames [T, S, S, 3 or 4]."""
    return novel_db(np.broadcast_to(truth[-1:], truth.shape), truth)


@torch.no_grad()
def decode(pipeline: OrbitPipeline, latents: torch.Tensor) -> np.ndarray:
    """Latents [T, 4, h, w] as frames [T, S, S, 3 or 4] in [0, 1]."""
    return pipeline.decode_frames(latents).float().cpu().numpy()


@torch.no_grad()
def sample(pipeline: OrbitPipeline, batch: Batch, steps: int, seed: int) -> torch.Tensor:  # [T, 4, h, w]
    """Paint the frames of an example [1, T, ...] with the pipeline's guidance, as the pipeline does."""
    scheduler, guidance = pipeline.scheduler, pipeline.config.guidance
    scheduler.set_timesteps(steps, device=batch.clean.device)
    photo = PhotoCondition(batch.photo, batch.token)
    frames = batch.clean.shape[1]
    scales = triangle_scales(frames, guidance).to(batch.clean.device) if guidance > 1 else None
    x = _normal(batch.clean.shape[1:], seed, batch.clean.device) * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        velocity = pipeline.predict_velocity(
            scheduler.scale_model_input(x, t), t, photo, batch.ids[0], scales
        )
        x = scheduler.step(velocity, t, x, return_dict=False)[0]
    return x


def _normal(shape: tuple[int, ...], seed: int, device: torch.device) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(device)


def novel_db(frames: np.ndarray, truth: np.ndarray) -> float:
    """Mean PSNR of all frames but the photo, on white, at most 100 dB each."""
    return float(np.mean([decibels(error) for error in mse(frames[:-1], truth[:-1])]))


def _rows(label: str, truth: np.ndarray, frames: np.ndarray) -> list[tuple[str, np.ndarray]]:
    shown = np.linspace(0, len(truth) - 2, min(COLUMNS, len(truth) - 1)).round().astype(int)
    blank = np.ones_like(truth[-1])
    above = strip([truth[-1], *truth[shown]], SIDE)
    below = strip([blank, *frames[shown]], SIDE)
    return [(label, np.concatenate([above, below], 0))]


class Curves:
    """The log's numbers for TensorBoard, if it is installed.

    Args:
        folder: gets ``tensorboard/``.
    Attributes:
        missing: True if TensorBoard is not installed; the curves are in log.jsonl all the same.
    """

    def __init__(self, folder: Path):
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            self.missing, self._writer = True, None
        else:
            self.missing, self._writer = False, SummaryWriter(str(folder / "tensorboard"))

    def add(self, row: dict[str, float]) -> None:
        """Write a row of the log: every number but the step is a curve."""
        if self._writer is not None:
            for name in set(row) - {"step"}:
                self._writer.add_scalar(name, row[name], row["step"])
            self._writer.flush()
