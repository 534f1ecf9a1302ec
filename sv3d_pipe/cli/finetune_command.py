"""The verb finetune: its options are the recipe's fields."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from sv3d_pipe.cli.signatures import said_defaults, with_fields
from sv3d_pipe.finetune.recipe import MINI, SV3D, Recipe


def _defaults(field: str) -> str:
    return said_defaults({"mini": getattr(MINI, field), "SV3D": getattr(SV3D, field)})


@with_fields("recipe", Recipe, _defaults, "Recipe")
def finetune(
    data: Annotated[Path, typer.Argument(help="Orbit data set made by `img2mesh render`.")],
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", help="Folder for the trained model; a run that was begun there continues."
        ),
    ],
    model: Annotated[
        str,
        typer.Option(
            help="Model to start from: mini, sv3d-u, sv3d-p, a folder, or an SV3D or SVD .safetensors file; `new` is mini"
            " with random weights."
        ),
    ] = "mini",
    validation: Annotated[Path | None, typer.Option(help="Data set to measure on while training.")] = None,
    encoded: Annotated[
        Path | None,
        typer.Option(
            help="For models with a VAE: folder for the latents, which are computed once.",
            show_default="OUT/encoded",
        ),
    ] = None,
    overfit_check: Annotated[
        bool,
        typer.Option(
            "--overfit-check", help="Only check whether one object can be memorized in --minutes (default 5)."
        ),
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    recipe: dict[str, Any] = None,
) -> None:
    """Train an orbit model on rendered orbits. Ctrl-C keeps what was learned; the same command continues.

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
