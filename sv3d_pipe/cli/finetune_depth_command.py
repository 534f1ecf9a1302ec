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
    """Train the network that guesses how deep an object is, which export stretches mini's meshes to.

    It reads features that a classifier, which stays as it is, finds in the photos. That takes two cores
    about 0.05 seconds a photo; then it trains for minutes. Stopped, it starts anew.
    """
    from sv3d_pipe.cli.guard import at_work
    from sv3d_pipe.dataset.orbit_set import OrbitSet
    from sv3d_pipe.device import resolve_device

    device = resolve_device(device)
    sets = [OrbitSet(folder, keep_gb=0) for folder in (data, validation) if folder is not None]
    with at_work(out):
        typer.echo(_train(sets, out, model, steps, device, seed))
    typer.echo(f"The model is in {out}; use it with --model {out}.")


def _train(sets: list, out: Path, model: str, steps: int, device: str, seed: int) -> str:
    """What the verb does; returns what it has measured, in a sentence."""
    import torch
    from rich.progress import Progress, TextColumn

    from sv3d_pipe.finetune.assembly import save_model
    from sv3d_pipe.finetune.depth_training import errors, look_at, train
    from sv3d_pipe.orbit.mini.depth_guess import DepthGuesser
    from sv3d_pipe.orbit.store.find import load_pipeline

    torch.manual_seed(seed)
    pipeline = load_pipeline(model, device)
    guesser = DepthGuesser().to(device)
    with Progress(*Progress.get_default_columns(), TextColumn("{task.fields[loss]}")) as progress:
        seeing = progress.add_task("Looking at photos", total=sum(map(len, sets)), loss="")
        photos = [look_at(orbits, guesser, seed, lambda: progress.advance(seeing)) for orbits in sets]
        training = progress.add_task("Training", total=steps, loss="")

        def on_step(step: int, loss: float) -> None:
            progress.update(training, completed=step, loss=f"loss {loss:.3f}")

        train(guesser, photos[0], steps, seed, on_step)
    pipeline.register_modules(depth=guesser)
    out.mkdir(parents=True, exist_ok=True)
    save_model(pipeline, pipeline.unet.state_dict(), out)
    kinds = ("photos learned from", "others")
    off = [f"{errors(guesser, p).abs().mean():.3f} on {len(p)} {kind}" for p, kind in zip(photos, kinds)]
    return f"Mean error of ln(depth): {', '.join(off)}."
