"""The verb finetune: its options are the recipe's fields."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from sv3d_pipe.errors import UserError
from sv3d_pipe.finetune.recipe import MINI, SV3D, Recipe, settle

CHECK_MINUTES = 5.0


def with_recipe(verb: Callable) -> Callable:
    """Decorator: gives a verb an option per field of :class:`Recipe`; ``recipe`` receives those given."""
    own = [p for p in inspect.signature(verb, eval_str=True).parameters.values() if p.name != "recipe"]
    kinds = typing.get_type_hints(Recipe)
    fields = {spec.name: _option(spec, kinds[spec.name]) for spec in dataclasses.fields(Recipe)}
    extra = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind)
        for name, kind in fields.items()
    ]

    def command(**given: Any) -> Any:
        mine = {parameter.name: given.pop(parameter.name) for parameter in own}
        return verb(**mine, recipe={name: value for name, value in given.items() if value is not None})

    parameters = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own] + extra
    command.__signature__ = inspect.Signature(parameters)
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    command.__name__, command.__doc__ = verb.__name__, verb.__doc__
    return command


def _option(spec: dataclasses.Field, kind: Any) -> Any:
    flag = f"--{spec.name.replace('_', '-')}"
    declared = f"{flag}/--no-{flag[2:]}" if kind is bool else flag
    values = [getattr(recipe, spec.name) for recipe in (MINI, SV3D)]
    if kind is bool:
        values = ["on" if value else "off" for value in values]
    default = f"default {values[0]}" if values[0] == values[1] else f"mini {values[0]}, SV3D {values[1]}"
    limits = (
        {"min": spec.metadata["at_least"], "max": spec.metadata["at_most"]} if kind in (int, float) else {}
    )
    option = typer.Option(
        declared,
        help=f"{spec.metadata['help']} ({default})",
        show_default=False,
        rich_help_panel="Recipe",
        **limits,
    )
    return Annotated[kind | None, option]


@with_recipe
def finetune(
    data: Annotated[Path, typer.Argument(help="Orbit data set made by `img2mesh render`.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder of the trained model; goes on with what is there.")
    ],
    model: Annotated[
        str,
        typer.Option(
            help="Model to start from: mini, sv3d-u, sv3d-p, a folder, an SV3D or SVD .safetensors file; `new` is mini"
            " with random weights."
        ),
    ] = "mini",
    validation: Annotated[Path | None, typer.Option(help="Data set to measure on while training.")] = None,
    encoded: Annotated[
        Path | None,
        typer.Option(help="Folder of latents made once, for models with a VAE.", show_default="OUT/encoded"),
    ] = None,
    overfit_check: Annotated[
        bool,
        typer.Option(
            "--overfit-check", help="Only see whether one object can be memorised, in --minutes (default 5)."
        ),
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    recipe: dict[str, Any] = None,
) -> None:
    """Train an orbit model on rendered orbits. Ctrl-C keeps what was learned; run again to go on.

    On several GPUs: `accelerate launch --config_file ddp.yaml --no_python img2mesh finetune ...`.
    """
    from sv3d_pipe.cli.guard import at_work
    from sv3d_pipe.dataset.orbit_set import OrbitSet
    from sv3d_pipe.device import resolve_device

    device = resolve_device(device)
    sets = [OrbitSet(folder) for folder in (data, validation) if folder is not None]
    with at_work(out):
        done = train(sets, out, model, encoded or out / "encoded", device, recipe, overfit_check)
    if not done:
        raise typer.Exit(1)


def train(
    sets: list[Any],
    out: Path,
    model: str,
    encoded: Path,
    device: str,
    settings: dict[str, Any],
    check: bool = False,
) -> bool:
    """What the verb does; False if the overfit check failed.

    Args:
        sets: orbits to train on, and maybe orbits to measure on.
        settings: fields of :class:`Recipe` that were given.
        check: run the overfit check alone.
    """
    import torch

    from sv3d_pipe.finetune.assembly import make_examples, make_trainer, save_model
    from sv3d_pipe.finetune.monitor import Monitor, held_out
    from sv3d_pipe.finetune.phases import start_model

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
        return _check(pipeline, examples, recipe, accelerator)
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
    _run(trainer, monitor, out)
    state = trainer.averaged_state()
    if accelerator.is_main_process:
        save_model(pipeline, state, out)
        typer.echo(f"The model is in {out}; use it with --model {out}.")
    return True


def _accelerator(device: str, precision: str) -> Any:
    """One process, or those that `accelerate launch` or torchrun started."""
    import torch
    from accelerate import Accelerator

    from sv3d_pipe.device import prefers_bfloat16

    if device.startswith("cuda:"):
        torch.cuda.set_device(device)
    half = precision == "bfloat16" or (precision == "auto" and prefers_bfloat16(device))
    return Accelerator(cpu=device == "cpu", mixed_precision="bf16" if half else "no")


def _run(trainer: Any, monitor: Any, out: Path) -> None:
    """Train under a progress bar, in the first process; the log's numbers go to TensorBoard too."""
    from rich.progress import Progress, TextColumn, TimeRemainingColumn

    from sv3d_pipe.finetune.monitor import Curves

    main = trainer.accelerator.is_main_process
    curves = Curves(out) if main else None
    if main and curves.missing:
        typer.echo(f"TensorBoard is not installed; the curves are in {out / 'log.jsonl'}.", err=True)
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


def _check(pipeline: Any, examples: Any, recipe: Recipe, accelerator: Any) -> bool:
    """The overfit check, and what came of it in a sentence."""
    from sv3d_pipe.finetune.assembly import OVERFIT_GAIN_DB, overfit_check

    if recipe.minutes <= 0:
        raise UserError("The overfit check needs an end; give --minutes.")
    say = accelerator.is_main_process

    def on_log(row: dict[str, float]) -> None:
        if say and "overfit_psnr_db" in row:
            typer.echo(f"step {row['step']}: {row['overfit_psnr_db']:.2f} dB", err=True)

    found = overfit_check(pipeline, examples, recipe, accelerator, on_log)
    facts = (
        f"{found.before_db:.1f} to {found.after_db:.1f} dB in {found.seconds:.0f} s, the copied photo"
        f" {found.copied_photo_db:.1f} dB"
    )
    if say and found.passed:
        typer.echo(f"One object can be memorised: {facts}.")
    elif say:
        typer.echo(
            f"Error: One object could not be memorised ({facts}; {OVERFIT_GAIN_DB:g} dB more are asked);"
            " try another --learning-rate or more --minutes.",
            err=True,
        )
    return found.passed
