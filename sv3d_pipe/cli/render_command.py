"""The verb ``render`` of the command line."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import typer

Orbit = Literal["static", "sine", "dynamic", "random", "photos"]
Distance = Literal["content", "sphere"]
Lighting = Literal["random", "none"]
Textures = Literal["random", "keep"]
Background = Literal["random", "white"]
Renderer = Literal["builtin", "blender"]
WHAT, CAMERAS, LOOKS, MACHINE = "What to render", "Cameras", "Augmentation", "Machine"


def render(
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder of the data set; what is there is gone on with.")
    ],
    meshes: Annotated[
        Path | None, typer.Argument(help="Folder of meshes: glb, gltf, obj, ply, stl, off, dae, 3mf.")
    ] = None,
    procedural: Annotated[
        int, typer.Option(help="Also invent this many objects.", min=0, rich_help_panel=WHAT)
    ] = 0,
    variants: Annotated[
        int,
        typer.Option(
            help="Render each mesh so often, each time with other cameras, light and textures.",
            min=1,
            rich_help_panel=WHAT,
        ),
    ] = 1,
    size: Annotated[
        int, typer.Option(help="Side of the pictures in pixels.", min=16, max=1024, rich_help_panel=CAMERAS)
    ] = 64,
    views: Annotated[
        int,
        typer.Option(
            help="Pictures per object: 21 as SV3D makes them, or 84 to take every fourth of.",
            min=2,
            max=360,
            rich_help_panel=CAMERAS,
        ),
    ] = 21,
    orbit: Annotated[
        Orbit,
        typer.Option(
            help="static: one elevation from -5 to 30 degrees; sine: up and down by 30 around it; dynamic: "
            "SV3D's random one; random: every view its own elevation from -30 to 50; photos: "
            "as people take them, for `img2mesh finetune-depth`.",
            rich_help_panel=CAMERAS,
        ),
    ] = "static",
    photos: Annotated[
        int,
        typer.Option(
            help="Also this many large photos per object, two of three as people take them: what a model like mini"
            " is trained to be shown.",
            min=0,
            max=100,
            rich_help_panel=CAMERAS,
        ),
    ] = 0,
    distance: Annotated[
        Distance,
        typer.Option(
            help="content: as near as the object's outline allows; sphere: its bounding sphere fills the frame.",
            rich_help_panel=CAMERAS,
        ),
    ] = "content",
    lighting: Annotated[
        Lighting,
        typer.Option(
            help="random: lamps, sky and gloss drawn per object; none: bare colors.", rich_help_panel=LOOKS
        ),
    ] = "random",
    textures: Annotated[
        Textures,
        typer.Option(
            help="random: flat-colored meshes get other hues and procedural textures; keep: as in the file.",
            rich_help_panel=LOOKS,
        ),
    ] = "random",
    background: Annotated[
        Background,
        typer.Option(
            help="Color noted for training, the views stay transparent: random for half of the objects, or white.",
            rich_help_panel=LOOKS,
        ),
    ] = "random",
    renderer: Annotated[
        Renderer,
        typer.Option(
            help="builtin, or blender: your own Blender, in the background.", rich_help_panel=MACHINE
        ),
    ] = "builtin",
    workers: Annotated[
        int, typer.Option(help="Processes; 0 is one per processor.", min=0, rich_help_panel=MACHINE)
    ] = 0,
    seed: Annotated[int, typer.Option(help="Seed of everything random.", min=0, rich_help_panel=WHAT)] = 0,
) -> None:
    """Render orbits around meshes and invented objects into a data set for `img2mesh finetune`.

    `img2mesh render meshes -o data --orbit dynamic --size 576` makes what SV3D's pose-conditioned phase needs;
    `img2mesh render --procedural 1000 -o data` needs no mesh at all. Ctrl-C or a crash loses nothing: the same
    command goes on, and the data come out the same to the byte. Meshes that cannot be read are listed.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from sv3d_pipe.cli.guard import at_work
    from sv3d_pipe.dataset.collect import collect
    from sv3d_pipe.dataset.engine import DataSet, render_data_set
    from sv3d_pipe.dataset.photograph import Look
    from sv3d_pipe.render.blender import find_blender

    look = Look(size, views, orbit, distance, lighting, textures, background, renderer, photos)
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
        f"{size} pixels in {len(manifest['shards'])} shards; {len(manifest['skipped'])} skipped. See {out}/manifest.json."
    )
