"""The verb finetune-matte: train the network that cuts objects out of photos."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sv3d_pipe.cli.signatures import MOST_SEED

EVERY = 100  # steps between lines where there is no terminal


def finetune_matte(
    cutouts: Annotated[
        list[Path],
        typer.Argument(
            help="Folders of objects: data sets of `img2mesh render --orbit photos --size 448`, or PNG pictures with "
            "transparent background."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the network.")],
    backgrounds: Annotated[
        list[Path],
        typer.Option(help="Folder of photographs to lay the objects on; may be given several times."),
    ],
    start: Annotated[
        Path | None,
        typer.Option(help="Folder of a network to go on from; by default the published image classifier."),
    ] = None,
    minutes: Annotated[float, typer.Option(help="How long to train.", min=0.01)] = 120.0,
    size: Annotated[
        int, typer.Option(help="Side of the training scenes in pixels, a multiple of 32.", min=96, max=1024)
    ] = 320,
    judged_scenes: Annotated[
        int,
        typer.Option(
            help="Held-out scenes to measure on at the end, from which it learns when to warn.", min=20
        ),
    ] = 500,
    workers: Annotated[int, typer.Option(help="Processes that compose scenes.", min=0, max=64)] = 1,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    seed: Annotated[int, typer.Option(help="Seed of weights and scenes.", min=0, max=MOST_SEED)] = 0,
    sheet: Annotated[
        Path | None,
        typer.Option(help="Train nothing; draw 48 training scenes into this PNG, what is meant below each."),
    ] = None,
) -> None:
    """Train the network that cuts the object out of a photo, whatever its background.

    Scenes are composed while training runs: objects of the given folders, with shadows and clutter, on photographs
    and in invented rooms. Every sixteenth family of objects is kept for measuring. The network is saved every five
    minutes; after an interruption, go on with --start.
    """
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from sv3d_pipe.cli.guard import at_work
    from sv3d_pipe.device import resolve_device
    from sv3d_pipe.errors import UserError
    from sv3d_pipe.finetune.matte_measuring import calibrate, judge, summary
    from sv3d_pipe.finetune.matte_training import Material, train
    from sv3d_pipe.prep.matting.doubt import save_calibration

    if size % 32:
        raise UserError(
            f"--size must be a multiple of 32, not {size}; give {size // 32 * 32} or {size // 32 * 32 + 32}."
        )
    material = Material(tuple(cutouts), tuple(backgrounds))
    if sheet is not None:
        from sv3d_pipe.dataset.scenes.sheet import draw_sheet

        draw_sheet(sheet, *material.open(), size, seed)
        typer.echo(f"Wrote {sheet}.")
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[loss]}"),
        TimeRemainingColumn(),
    )
    with at_work(out), Progress(*columns) as progress:
        task, recent = progress.add_task("Training", total=1.0, loss=""), [0.0]

        def on_step(step: int, loss: float, gone: float) -> None:
            recent[0] += (loss - recent[0]) * max(0.02, 1 / step)
            progress.update(task, completed=gone, loss=f"step {step}, loss {recent[0]:.3f}")
            if step % EVERY == 0 and not progress.console.is_terminal:
                typer.echo(f"step {step}, loss {recent[0]:.3f}, {gone:.0%} of the time")

        network = train(material, out, start, size, minutes, resolve_device(device), seed, workers, on_step)
        judging = progress.add_task("Measuring", total=judged_scenes, loss="")
        judged = judge(network.cpu(), material, judged_scenes, seed, lambda: progress.advance(judging))
        save_calibration(calibrate(judged), out)
    typer.echo(summary(judged))
    typer.echo(f"The network is in {out}.")
