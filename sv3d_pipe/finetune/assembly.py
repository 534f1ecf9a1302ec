"""Train an orbit model on rendered orbits: model, data, loss and loop put together."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from rich.progress import track
from transformers.utils import logging as transformers_logging

from sv3d_pipe.finetune.distill import Distillation
from sv3d_pipe.finetune.examples import Examples, OneExample, PixelViews
from sv3d_pipe.finetune.known_views import KnownViews
from sv3d_pipe.finetune.lora import merged
from sv3d_pipe.finetune.loss import denoising_loss, draw_sigma
from sv3d_pipe.finetune.monitor import copied_photo_db, decode, held_out, one_step_db
from sv3d_pipe.finetune.phases import choose_trained
from sv3d_pipe.finetune.precompute import EncodedViews, encode_orbits
from sv3d_pipe.finetune.recipe import Recipe
from sv3d_pipe.finetune.resident_views import ResidentExamples, ResidentViews, fits, readers
from sv3d_pipe.finetune.trainer import Trainer
from sv3d_pipe.orbit.denoising_pipeline import OrbitPipeline
from sv3d_pipe.orbit.mini.pixel_codec import PixelCodec
from sv3d_pipe.orbit.schedulers import euler_scheduler

OVERFIT_GAIN_DB = 5.0  # by which one memorized object must beat the photo copied to all its views


def make_examples(
    orbits: Sequence[Any],
    pipeline: OrbitPipeline,
    recipe: Recipe,
    accelerator: Accelerator,
    encoded: Path,
) -> Examples:
    """The examples of a data set as this pipeline's network takes them.

    Args:
        encoded: folder of the latents of a model with a VAE; they are made first if they are not there.
    Raises:
        UserError: the data set is unfit.
    """
    if pipeline.paints_alpha:
        codec = type(pipeline.vae).from_config(pipeline.vae.config)  # a copy that stays on the CPU
        if pipeline.knows and fits(orbits, accelerator.device):
            return _resident(orbits, codec, recipe, accelerator.device)
        if pipeline.knows:
            source = KnownViews(orbits, codec, recipe.frames, accelerator.device)
        else:
            source = PixelViews(orbits, codec, recipe.frames)
    else:
        part, parts = accelerator.process_index, accelerator.num_processes
        steps = iter(
            track(range(part, len(orbits), parts), "Encoding views", disable=part > 0, transient=True)
        )
        encode_orbits(orbits, pipeline, encoded, recipe.frames, part, parts, lambda: next(steps, None))
        accelerator.wait_for_everyone()
        source = EncodedViews(encoded, len(orbits), pipeline.vae.config.scaling_factor)
    return Examples(source, recipe, in_order=not pipeline.paints_alpha)  # a video UNet


def _resident(
    orbits: Sequence[Any], codec: PixelCodec, recipe: Recipe, device: torch.device
) -> ResidentExamples:
    source = ResidentViews(codec, device, recipe.seed)
    steps = iter(track(range(len(orbits)), "Reading the data set", transient=True))
    source.add(orbits, recipe.frames, readers(), lambda: next(steps, None))
    return ResidentExamples(source, recipe, in_order=False)


def make_trainer(
    pipeline: OrbitPipeline,
    examples: Examples | OneExample,
    recipe: Recipe,
    folder: Path | None,
    accelerator: Accelerator,
) -> Trainer:
    """The training run of a pipeline's network; afterwards ``pipeline.unet`` is what is trained."""
    if recipe.objective == "distill":
        student = Distillation(pipeline.unet, pipeline.config.guidance, recipe)
        student.teacher.to(accelerator.device)
        loss, sigma = student.loss, student.draw_sigma
        pipeline.register_to_config(steps=recipe.student_steps, guidance=1.0)
    else:
        loss, sigma = partial(denoising_loss, recipe=recipe), partial(draw_sigma, recipe)
    choose_trained(pipeline.unet, recipe)
    trainer = Trainer(pipeline.unet, examples, recipe, folder, accelerator, loss, sigma)
    pipeline.unet = trainer.net
    return trainer


def save_model(pipeline: OrbitPipeline, state: dict[str, torch.Tensor], folder: Path) -> None:
    """Write the pipeline with these weights of its network as a diffusers folder; other files stay.

    Each part is there whole or not at all, model_index.json last.
    """
    unet = type(pipeline.unet).from_config(pipeline.unet.config)
    unet.load_state_dict(merged(state))
    parts = pipeline.components | {"unet": unet, "scheduler": euler_scheduler()}
    whole = type(pipeline)(**parts, steps=pipeline.config.steps, guidance=pipeline.config.guidance)
    partial_folder = folder / ".model.partial"
    shutil.rmtree(partial_folder, ignore_errors=True)
    if not whole.paints_alpha:
        transformers_logging.disable_progress_bar()
    whole.save_pretrained(partial_folder)
    for path in partial_folder.rglob("*.safetensors"):
        path.chmod(0o644)  # safetensors writes files that only their owner may read
    for path in partial_folder.rglob("config.json"):
        config = json.loads(path.read_text())
        config.pop("_name_or_path", None)  # where on this disk the starting model lay
        path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    for path in sorted(partial_folder.iterdir(), key=lambda p: p.name == "model_index.json"):
        if (folder / path.name).is_dir():
            shutil.rmtree(folder / path.name)
        path.replace(folder / path.name)
    partial_folder.rmdir()


@dataclass(frozen=True)
class Overfit:
    """What came of the overfit check: PSNR of the one object's views in dB, and seconds."""

    before_db: float
    after_db: float
    copied_photo_db: float
    seconds: float

    @property
    def passed(self) -> bool:
        return self.after_db >= self.copied_photo_db + OVERFIT_GAIN_DB


def overfit_check(
    pipeline: OrbitPipeline,
    examples: Examples,
    recipe: Recipe,
    accelerator: Accelerator,
    on_log: Callable[[dict], None] = lambda row: None,
) -> Overfit:
    """Train on one object for ``recipe.minutes``: a recipe that cannot memorize it will learn nothing else.

    Of the first eight objects it is the one that looks least like its photo; always the same views, the
    photo always seen. Measured by one step from pure noise, eight times, and ended by success.
    """
    start = time.monotonic()
    candidates = held_out(examples, accelerator.device)[:8]
    truths = [decode(pipeline, batch.clean[0]) for batch in candidates]
    copied = [copied_photo_db(truth) for truth in truths]
    chosen = copied.index(min(copied))
    batch, truth = candidates[chosen], truths[chosen]
    scores = [one_step_db(pipeline, batch, truth, seed=0)]
    recipe = replace(
        recipe, steps=10**9, drop_photo=0.0, ema=0.9, save_minutes=recipe.minutes / 8, objective="denoise"
    )
    trainer = make_trainer(pipeline, OneExample(batch.to("cpu")), recipe, None, accelerator)

    def validate(step: int) -> dict:
        scores.append(one_step_db(pipeline, batch, truth, seed=0))
        if scores[-1] >= min(copied) + OVERFIT_GAIN_DB:
            raise _Enough
        return {"overfit_psnr_db": scores[-1]}

    with contextlib.suppress(_Enough):
        trainer.run(on_log, validate)
    return Overfit(scores[0], scores[-1], min(copied), time.monotonic() - start)


class _Enough(Exception):
    """The overfit check has succeeded."""
