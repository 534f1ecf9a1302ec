"""The verb finetune-depth: train the network by which a model guesses how deep its photo's object is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def finetune_depth(
    data: Annotated[Path, typer.Argument(help="Photos made by `img2mesh render --orbit photos --size 448`.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the model with the trained network.")],
    model: Annotated[
        str, typer.Option(help="Model that gets the network: mini, or the folder of one trained from it.")
    ] = "mini",
    validation: Annotated[Path | None, typer.Option(help="Photos to measure on at the end.")] = None,
    steps: Annotated[int, typer.Option(help="Training steps of 128 photos.", min=1)] = 1500,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    seed: Annotated[int, typer.Option(help="Seed of weights and batches.", min=0)] = 0,
) -> None:
    """Train the network that guesses how deep the object in a photo is, from front to back, for mini to paint it so.

    It reads features that a classifier, which stays as it is, finds in the photos. That takes two cores
    about 0.05 seconds a photo; then it trains for minutes. Stopped, it starts anew.
    """
    from sv3d_pipe.cli.guard import at_work
    from sv3d_pipe.dataset.orbit_set import OrbitSet
    from sv3d_pipe.device import resolve_device
    from sv3d_pipe.finetune.depth_training import train_model

    device = resolve_device(device)
    sets = [OrbitSet(folder, keep_gb=0) for folder in (data, validation) if folder is not None]
    with at_work(out):
        typer.echo(train_model(sets, out, model, steps, device, seed))
    typer.echo(f"The model is in {out}; use it with --model {out}.")
