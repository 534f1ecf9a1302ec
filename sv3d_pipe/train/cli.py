"""The training verbs of the command line: render and finetune."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Annotated

import typer

from sv3d_pipe.errors import UserError

MESH_SUFFIXES = (".glb", ".gltf", ".obj", ".ply", ".stl", ".off")


def render(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the data set.")],
    meshes: Annotated[Path | None, typer.Argument(help="Folder of meshes (glb, obj, ply, stl, off).")] = None,
    procedural: Annotated[int, typer.Option(help="Also make this many procedural objects.", min=0)] = 0,
    size: Annotated[int, typer.Option(help="Side of the pictures in pixels.", min=16, max=1024)] = 64,
    views: Annotated[int, typer.Option(help="Pictures per object.", min=2, max=360)] = 32,
    seed: Annotated[int, typer.Option(help="Seed of cameras, lights and procedural objects.")] = 0,
) -> None:
    """Render meshes into an orbit data set for fine-tuning. Finished objects are skipped."""
    from rich.progress import track

    from sv3d_pipe.train.dataset import render_record, save_record
    from sv3d_pipe.train.render import load_object
    from sv3d_pipe.train.shapes import procedural as make_object

    jobs = {f"procedural_{seed}_{i:05d}": None for i in range(procedural)}
    if meshes is not None:
        if not meshes.is_dir():
            raise UserError(f"{meshes} is not a folder of meshes.")
        found = sorted(p for p in meshes.rglob("*") if p.suffix.lower() in MESH_SUFFIXES)
        jobs |= {"__".join(p.relative_to(meshes).with_suffix("").parts): p for p in found}
    if not jobs:
        raise UserError("Nothing to render: give a folder of meshes or --procedural N.")
    out.mkdir(parents=True, exist_ok=True)
    skipped = []
    for name, path in track(jobs.items(), f"Rendering {len(jobs)} objects"):
        target = out / f"{name}.safetensors"
        if target.exists():
            continue
        object_seed = zlib.crc32(f"{seed}:{name}".encode())
        try:
            obj = make_object(object_seed) if path is None else load_object(path)
        except UserError as error:
            skipped.append(str(error))
            continue
        save_record(render_record(obj, size, views, object_seed), target)
    for sentence in skipped:
        typer.echo(sentence, err=True)
    typer.echo(f"{len(jobs) - len(skipped)} objects in {out}.")


def finetune(
    data: Annotated[Path, typer.Argument(help="Orbit data set made by `img2mesh render`.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder of the trained model; resumes what is there.")
    ],
    model: Annotated[
        str, typer.Option(help="Model to start from; `new` starts a small one from nothing.")
    ] = "mini",
    validation: Annotated[Path | None, typer.Option(help="Data set to measure on while training.")] = None,
    steps: Annotated[int, typer.Option(help="Stop after this many steps.", min=1)] = 100_000,
    minutes: Annotated[
        float, typer.Option(help="Stop after this many minutes of training.", min=0.01)
    ] = 100.0,
    batch: Annotated[int, typer.Option(help="Objects per step.", min=1)] = 8,
    frames: Annotated[int, typer.Option(help="Frames per object, the photo included.", min=2)] = 6,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate.", min=0.0)] = 6e-4,
    seed: Annotated[int, typer.Option(help="Seed of weights, batches and noise.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
) -> None:
    """Train an orbit model on rendered orbits. Ctrl-C keeps what was learned; run again to go on."""
    import torch
    from rich.progress import Progress, TextColumn, TimeRemainingColumn

    from sv3d_pipe.device import prefers_bfloat16, resolve_device
    from sv3d_pipe.orbit.models import load_pipeline
    from sv3d_pipe.orbit.pixels import PixelCodec
    from sv3d_pipe.orbit.volume import VolumeDenoiser
    from sv3d_pipe.train.dataset import OrbitSet
    from sv3d_pipe.train.finetune import Recipe, Trainer, one_step_psnr, save_model

    device = resolve_device(device)
    orbits = OrbitSet(data)
    if len(orbits) == 0:
        raise UserError(f"There are no orbits in {data}; make some with `img2mesh render`.")
    held_out = OrbitSet(validation) if validation is not None else None
    torch.manual_seed(seed)
    if model == "new":
        unet, codec = VolumeDenoiser(), PixelCodec()
    else:
        pipeline = load_pipeline(model, device)
        unet, codec = pipeline.unet, pipeline.vae
    if not isinstance(codec, PixelCodec):
        raise UserError(f"Fine-tuning the latent model {model} is not supported yet; start from mini or new.")
    out.mkdir(parents=True, exist_ok=True)
    recipe = Recipe(steps, minutes, batch, frames, learning_rate, seed=seed)
    trainer = Trainer(unet, codec, orbits, recipe, out, device, prefers_bfloat16(device))
    columns = (*Progress.get_default_columns()[:-1], TimeRemainingColumn(), TextColumn("{task.fields[loss]}"))
    with Progress(*columns) as progress:
        task = progress.add_task("Training", total=1.0, completed=trainer.share_spent, loss="")
        trainer.run(
            lambda spent, loss: progress.update(task, completed=spent, loss=f"loss {loss:.4f}"),
            (lambda: one_step_psnr(unet, codec, held_out, device)) if held_out is not None else None,
        )
    with trainer.averaged():
        save_model(unet, codec, out, recipe)
    typer.echo(f"The model is in {out}; use it with --model {out}.")
