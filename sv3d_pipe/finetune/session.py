"""A training run from the first step to the saved model: data, model, trainer, validation, and what the user sees of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from rich.progress import Progress, TextColumn, TimeRemainingColumn

from sv3d_pipe.device import prefers_bfloat16
from sv3d_pipe.errors import UserError
from sv3d_pipe.finetune.assembly import (
    OVERFIT_GAIN_DB,
    make_examples,
    make_trainer,
    overfit_check,
    save_model,
)
from sv3d_pipe.finetune.examples import Examples
from sv3d_pipe.finetune.monitor import Curves, Monitor, held_out
from sv3d_pipe.finetune.phases import start_model
from sv3d_pipe.finetune.recipe import MINI, SV3D, Recipe, settle
from sv3d_pipe.finetune.trainer import Trainer
from sv3d_pipe.orbit.denoising_pipeline import OrbitPipeline

CHECK_MINUTES = 5.0
Echo = Callable[..., None]  # (sentence, err=False), as typer's


def train(
    sets: list[Any],
    out: Path,
    model: str,
    encoded: Path,
    device: str,
    settings: dict[str, Any],
    check: bool = False,
    echo: Echo = lambda sentence, err=False: None,
) -> bool:
    """Train a model, or see whether it can be trained; False if the overfit check failed.

    Args:
        sets: orbits to train on, and maybe orbits to measure on.
        settings: fields of :class:`Recipe` that were given.
        check: run the overfit check alone.
        echo: called with sentences for the user; ``err=True`` marks those that are not results.
    """
    torch.manual_seed(settings.get("seed", MINI.seed))
    accelerator = _accelerator(device, settings.get("precision", MINI.precision))
    out.mkdir(parents=True, exist_ok=True)
    with accelerator.main_process_first():
        pipeline = start_model(model, settings.get("phase", MINI.phase), str(accelerator.device), out)
    if check:
        settings = {"minutes": CHECK_MINUTES} | settings
    recipe = dataclasses.replace(MINI if pipeline.paints_alpha else SV3D, **settings)
    examples = make_examples(sets[0], pipeline, recipe, accelerator, encoded)
    if model == "new" and pipeline.knows:
        examples.source.take_units(pipeline.unet.knowledge.units)
    if check:
        return _check(pipeline, examples, recipe, accelerator, echo)
    with accelerator.main_process_first():
        settle(recipe, out)
    trainer = make_trainer(pipeline, examples, recipe, out, accelerator)
    monitor = None
    if len(sets) > 1:
        held = make_examples(sets[1], pipeline, recipe, accelerator, encoded.with_name(f"{encoded.name}-val"))
        main = accelerator.is_main_process
        monitor = Monitor(
            pipeline, held_out(held, accelerator.device), recipe.sample_steps, out if main else None
        )
    _run(trainer, monitor, out, echo)
    state = trainer.averaged_state()
    if accelerator.is_main_process:
        save_model(pipeline, state, out)
        echo(f"The model is in {out}; use it with --model {out}.")
    return True


def _accelerator(device: str, precision: str) -> Accelerator:
    """One process, or those that `accelerate launch` or torchrun started."""
    if device.startswith("cuda:"):
        torch.cuda.set_device(device)
    half = precision == "bfloat16" or (precision == "auto" and prefers_bfloat16(device))
    return Accelerator(cpu=device == "cpu", mixed_precision="bf16" if half else "no")


def _run(trainer: Trainer, monitor: Monitor | None, out: Path, echo: Echo) -> None:
    """Train under a progress bar, in the first process; the log's numbers go to TensorBoard too."""
    main = trainer.accelerator.is_main_process
    curves = Curves(out) if main else None
    if main and curves.missing:
        echo(f"TensorBoard is not installed; the curves are in {out / 'log.jsonl'}.", err=True)
    columns = (
        *Progress.get_default_columns()[:-1],
        TimeRemainingColumn(),
        TextColumn("{task.fields[shown]}"),
    )
    with Progress(*columns, disable=not main) as progress:
        task = progress.add_task("Training", total=1.0, completed=trainer.share_spent, shown="")
        last: dict[str, float] = {}

        def on_log(row: dict[str, float]) -> None:
            last.update(row)
            shown = f"loss {last['loss']:.4f}" if "loss" in last else ""
            if "val_psnr_db" in last:
                shown += f", val {last['val_psnr_db']:.2f} dB"
            progress.update(task, completed=trainer.share_spent, shown=shown)
            if curves is not None:
                curves.add(row)

        trainer.run(on_log, monitor)


def _check(
    pipeline: OrbitPipeline, examples: Examples, recipe: Recipe, accelerator: Accelerator, echo: Echo
) -> bool:
    """The overfit check, and what came of it in a sentence."""
    if recipe.minutes <= 0:
        raise UserError("The overfit check needs a time limit; give --minutes.")
    say = accelerator.is_main_process

    def on_log(row: dict[str, float]) -> None:
        if say and "overfit_psnr_db" in row:
            echo(f"step {row['step']}: {row['overfit_psnr_db']:.2f} dB", err=True)

    found = overfit_check(pipeline, examples, recipe, accelerator, on_log)
    facts = (
        f"{found.before_db:.1f} to {found.after_db:.1f} dB in {found.seconds:.0f} s, the copied photo"
        f" {found.copied_photo_db:.1f} dB"
    )
    if say and found.passed:
        echo(f"One object can be memorized: {facts}.")
    elif say:
        echo(
            f"Error: One object could not be memorized ({facts}; {OVERFIT_GAIN_DB:g} dB more are required);"
            " try another --learning-rate or more --minutes.",
            err=True,
        )
    return found.passed
