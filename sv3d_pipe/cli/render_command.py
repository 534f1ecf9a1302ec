"""The verb render: its options are the fields of a shoot."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from sv3d_pipe.cli.signatures import MOST_SEED, said_defaults, with_fields
from sv3d_pipe.dataset.shoot import Shoot


@with_fields("shoot", Shoot, lambda field: said_defaults({"": getattr(Shoot(), field)}), "Pictures")
def render(
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for the data set; one that was begun there continues.")
    ],
    meshes: Annotated[
        Path | None,
        typer.Argument(
            help="Folder of meshes: glb, gltf, obj, ply, stl, off, dae, 3mf; with --renderer blender also fbx, blend, usd."
        ),
    ] = None,
    procedural: Annotated[int, typer.Option(help="Also invent this many objects.", min=0, max=MOST_SEED)] = 0,
    variants: Annotated[
        int,
        typer.Option(
            help="Render each mesh this many times, each time with other cameras, light and textures.", min=1
        ),
    ] = 1,
    workers: Annotated[
        int, typer.Option(help="Number of processes; 0 is one per CPU.", min=0, max=MOST_SEED)
    ] = 0,
    seed: Annotated[int, typer.Option(help="Seed of everything random.", min=0, max=MOST_SEED)] = 0,
    shoot: dict[str, Any] = None,
) -> None:
    """Render orbits around meshes and invented objects into a data set for `img2mesh finetune`.

    `img2mesh render meshes -o data --orbit dynamic --size 576` makes what SV3D's pose-conditioned phase needs;
    `img2mesh render --procedural 1000 -o data` needs no mesh at all. Ctrl-C or a crash loses nothing: the same
    command continues, and the data set is the same to the byte. Meshes that cannot be read are listed.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from sv3d_pipe.cli.guard import at_work
    from sv3d_pipe.dataset.collect import collect
    from sv3d_pipe.dataset.engine import DataSet, render_data_set
    from sv3d_pipe.render.blender import find_blender

    look = Shoot(**shoot)
    blender = find_blender() if look.renderer == "blender" else None
    jobs = collect(meshes, procedural, variants, seed)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with at_work(out), Progress(*columns) as progress:
        task = progress.add_task("Rendering", total=len(jobs))
        data = DataSet(out, jobs, look, seed)
        manifest = render_data_set(
            data, workers or os.cpu_count() or 1, blender, lambda count: progress.advance(task, count)
        )
    for skipped in manifest["skipped"]:
        typer.echo(f"Skipped {skipped['name']}: {skipped['reason']}", err=True)
    typer.echo(
        f"{manifest['rendered']} objects ({manifest['textured']} textured), {manifest['views_in_all']} views of "
        f"{look.size} pixels in {len(manifest['shards'])} shards; {len(manifest['skipped'])} skipped. "
        f"See {out}/manifest.json."
    )
