"""The verbs that run all stages: run and batch."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from sv3d_pipe.cli.guard import WRONG_USE, at_work
from sv3d_pipe.cli.signatures import SEED, Choices, with_settings
from sv3d_pipe.errors import UserError
from sv3d_pipe.further_photos import parse_view, views_text
from sv3d_pipe.inputs import require_file
from sv3d_pipe.road.workspace import Workspace

SOME_FAILED = 3
MOST_USED = (
    "prep.matte", "orbit.model", "orbit.kind", "orbit.elevation_deg", "orbit.azimuths", "orbit.elevations",
    "orbit.low_vram", "refine.sds", "export.format", "export.faces", "export.texture", "export.depth",
    "export.watertight", "export.remesh", "export.up", "export.scale", "export.turntable",
)  # fmt: skip
StageName = Literal["prep", "orbit", "nerf", "refine", "export"]
Until = Annotated[StageName, typer.Option(help="Stop after this stage.")]
From = Annotated[
    StageName | None,
    typer.Option("--from", help="Run this stage and the later ones again, even if they are finished."),
]
Objects = Annotated[
    Literal["main", "each"],
    typer.Option(
        help="main: one mesh of the main object. each: a mesh of every object, and OUT/scene.glb with all of them."
    ),
]
Views = Annotated[
    list[str],
    typer.Option(
        "--view",
        help="Another photo of the same object and from where it was taken, in degrees around it from the first photo:"
        " back.png@180, or side.png@90,20 with its elevation; 90 is from the right. May be repeated.",
        metavar="PHOTO@AZIMUTH[,ELEVATION]",
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Run everything again, even if it is finished.")]


@with_settings("prep.point", *MOST_USED)
def run(
    photo: Annotated[list[Path], typer.Argument(help="The photo.", metavar="PHOTO", show_default=False)],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Workspace of this photo.", show_default="out/<photo's name>"),
    ] = None,
    from_stage: From = None,
    until: Until = "export",
    force: Force = False,
    objects: Objects = "main",
    box: Annotated[
        list[str],
        typer.Option(
            help="Which object is meant: a box around it in pixels of the upright photo. With --objects each it may"
            " be repeated, and only the objects in the boxes are made.",
            metavar="LEFT,TOP,RIGHT,BOTTOM",
        ),
    ] = [],  # noqa: B006 - typer reads it, nobody changes it
    view: Views = [],  # noqa: B006
    choices: Choices = None,
) -> None:
    """Make a textured mesh from one photo, or from several of one object.

    Finished stages are skipped; a stage runs again when a setting that it depends on has changed.
    The path of the mesh is printed on stdout, everything else on stderr. Exit code 3: some of several
    objects failed.
    """
    from sv3d_pipe.road.report import make_reporter
    from sv3d_pipe.road.sources import workspace_for

    path = _one_photo(photo)
    take_views(view, choices)
    if objects == "main":
        if len(box) > 1:
            raise UserError("Several boxes mean several objects; add --objects each, or give one box.")
        if box:
            choices.settings["prep.box"] = box[0]
    make, boxes = (_maker(objects), {"boxes": box} if objects == "each" else {})
    image2mesh = make(choices.config(), _seed(choices), choices.device, make_reporter(choices.quiet))
    image2mesh.check(until=until)
    root = out or workspace_for(path, Path("out"))
    with at_work(root):
        result = image2mesh(path, root, until=until, force_from="prep" if force else from_stage, **boxes)
    if objects == "main":
        return report(result, choices)
    report_scene(result, choices)
    if result.failures:
        raise typer.Exit(SOME_FAILED)


@with_settings(*MOST_USED)
def batch(
    folder: Annotated[Path, typer.Argument(help="Folder of photos; folders in it are searched too.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the workspaces.")] = Path("out"),
    exclude: Annotated[
        list[str],
        typer.Option(help="Pattern of file names to leave out, e.g. '*.matte.png'; may be repeated."),
    ] = [],  # noqa: B006 - typer reads it, nobody changes it
    from_stage: From = None,
    until: Until = "export",
    force: Force = False,
    objects: Objects = "main",
    choices: Choices = None,
) -> None:
    """Make a mesh from every photo in a folder; finished ones are skipped, failed ones are listed.

    Several CUDA cards work at once, each on a photo of its own, unless --device names one.
    Exit code 0: all succeeded; 3: some failed; 2: all failed. OUT/batch.json keeps the summary.
    """
    from sv3d_pipe.cli.closing_tables import show_batch
    from sv3d_pipe.road.batch import run_batch, summarize
    from sv3d_pipe.road.report import make_reporter

    make = partial(_maker(objects), choices.config(), _seed(choices), choices.device)
    reporter, force_from = make_reporter(choices.quiet), "prep" if force else from_stage
    with at_work(out):
        items = run_batch(make, reporter, folder, out, tuple(exclude), until=until, force_from=force_from)
    if not choices.quiet:
        show_batch(items)
    if choices.json:
        typer.echo(json.dumps(summarize(items), indent=1))
    if any(item.error is not None for item in items):
        all_failed = all(item.status == "failed" for item in items)
        raise typer.Exit(WRONG_USE if all_failed else SOME_FAILED)


def take_views(views: list[str], choices: Choices) -> None:
    """Make ``--view``, as often as it was given, the setting that it stands for."""
    if views:
        choices.settings["prep.views"] = views_text(tuple(map(parse_view, views)))


def report(result, choices: Choices) -> None:
    """The closing table on stderr; on stdout the summary, or the path of the mesh or last stage."""
    from sv3d_pipe.cli.closing_tables import show_table

    if not choices.quiet:
        show_table(result)
    if choices.json:
        typer.echo(json.dumps(result.summary(), indent=1))
    else:
        last = result.stages[-1].record.stage
        typer.echo(result.mesh or Workspace(result.workspace).folder(last))


def report_scene(result, choices: Choices) -> None:
    """:func:`report` for several objects; without a scene the path is that of their folder."""
    from sv3d_pipe.cli.closing_tables import show_scene

    if not choices.quiet:
        show_scene(result)
    typer.echo(json.dumps(result.summary(), indent=1) if choices.json else result.mesh or result.workspace)


def _maker(objects: str) -> type:
    """What makes one mesh of a photo, or a scene of all objects in it."""
    if objects == "each":
        from sv3d_pipe.scenes import Image2Scene

        return Image2Scene
    from sv3d_pipe.pipeline import Image2Mesh

    return Image2Mesh


def _seed(choices: Choices) -> int:
    return SEED if choices.seed is None else choices.seed


def _one_photo(paths: list[Path]) -> Path:
    if len(paths) > 1:
        raise UserError(
            "Give one photo; for several, put them in a folder and use `img2mesh batch FOLDER -o OUT`."
        )
    path = paths[0]
    if path.is_dir() and (path / "run.json").exists():
        raise UserError(
            f"{path} is a workspace, not a photo; run one of its stages, "
            f"for example `img2mesh refine {path} --until export`."
        )
    if path.is_dir():
        from sv3d_pipe.capture.transforms import is_capture

        if is_capture(path):
            raise UserError(f"{path} is a capture, not a photo; use `img2mesh nerf {path} --until export`.")
        raise UserError(f"{path} is a folder; for all photos in it, use `img2mesh batch {path} -o out`.")
    require_file(path)
    return path
