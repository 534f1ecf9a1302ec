"""The verb finetune-depth: train the network that estimates from a photo how deep its object is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sv3d_pipe.cli.signatures import MOST_SEED


def finetune_depth(
    data: Annotated[
        Path, typer.Argument(help="Data set made by `img2mesh render --orbit photos --size 448`.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the model with the trained network.")],
    model: Annotated[
        str,
        typer.Option(help="Model to put the network into: mini, or the folder of a model trained from it."),
    ] = "mini",
    validation: Annotated[
        Path | None, typer.Option(help="Data set of photos to measure the error on at the end.")
    ] = None,
    steps: Annotated[int, typer.Option(help="Training steps, of 128 photos each.", min=1)] = 1500,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    seed: Annotated[int, typer.Option(help="Seed of weights and batches.", min=0, max=MOST_SEED)] = 0,
) -> None:
    """Train the network with which mini estimates from a photo how deep its object is, from front to back.

    The network reads features that a fixed image classifier finds in the photos. Finding them takes two cores
    about 0.05 seconds per photo; the training takes minutes. After an interruption it starts over.
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
