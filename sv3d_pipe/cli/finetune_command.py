"""The verb finetune: its options are the recipe's fields."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from sv3d_pipe.finetune.recipe import MINI, SV3D, Recipe


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
    from sv3d_pipe.finetune.session import train

    device = resolve_device(device)
    sets = [OrbitSet(folder) for folder in (data, validation) if folder is not None]
    with at_work(out):
        done = train(sets, out, model, encoded or out / "encoded", device, recipe, overfit_check, typer.echo)
    if not done:
        raise typer.Exit(1)
