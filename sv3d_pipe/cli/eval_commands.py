"""The verbs of ``img2mesh eval``: mesh, recon, photo, orbit, frames."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from sv3d_pipe.cli.guard import WRONG_USE, at_work
from sv3d_pipe.cli.run_commands import SOME_FAILED
from sv3d_pipe.cli.signatures import SEED, Choices, with_settings
from sv3d_pipe.errors import UserError

app = typer.Typer(help="Measure meshes and pictures against the truth.", no_args_is_help=True)

Objects = Annotated[
    Path, typer.Argument(metavar="OBJECTS_DIR", help="Folder of meshes; folders in it are searched too.")
]
Limit = Annotated[
    int | None,
    typer.Option(
        min=1, help="Measure only this many objects, chosen at random by --seed.", show_default="all"
    ),
]
Ids = Annotated[
    list[str],
    typer.Option(metavar="GLOB", help="Only objects whose name matches, e.g. 'gso_*'; may be repeated."),
]
Size = Annotated[
    int | None, typer.Option(min=32, max=2048, help="Side of the rendered pictures.", show_default="256")
]
FrameSize = Annotated[
    int | None,
    typer.Option(min=32, max=2048, help="Side of the compared pictures.", show_default="the model's frames"),
]
Up = Annotated[
    Literal["y", "z"],
    typer.Option(help="The axis that points up in the files: y as in glTF, z as in Google's scans."),
]
Force = Annotated[bool, typer.Option("--force", help="Measure again even what was measured before.")]
Out = Annotated[Path, typer.Option("--out", "-o", help="Folder for the scores, tables and pictures.")]


@app.command("mesh")
@with_settings(common=("seed", "json", "quiet"))
def mesh(
    truth: Annotated[Path, typer.Argument(metavar="GT", help="The true mesh.")],
    pred: Annotated[Path, typer.Argument(metavar="PRED", help="The mesh to judge.")],
    out: Out = Path("out/eval/mesh"),
    choices: Choices = None,
) -> None:
    """Compare one mesh with another: chamfer distances, F-scores, IoU and normals, next to the noise floor."""
    from sv3d_pipe.evaluate.display import Display
    from sv3d_pipe.evaluate.pair import judge_pair, pair_table

    _check_packages()
    with at_work(out):
        document = judge_pair(truth, pred, _seed(choices), out, Display(choices.quiet))
    if not choices.quiet:
        pair_table(document).show()
    typer.echo(json.dumps(document, indent=1) if choices.json else out / "mesh.json")


@app.command("recon")
@with_settings()
def recon(
    objects: Objects,
    limit: Limit = None,
    ids: Ids = [],  # noqa: B006 - typer reads it, nobody changes it
    size: Size = None,
    up: Up = "y",
    force: Force = False,
    out: Out = Path("out/eval/recon"),
    choices: Choices = None,
) -> None:
    """Reconstruct objects from perfect views; compare nerf's, refine's and export's mesh with the truth."""
    _run("recon", _meshes(objects, limit, ids), size, up, force, out, choices)


@app.command("photo")
@with_settings()
def photo(
    objects: Objects,
    limit: Limit = None,
    ids: Ids = [],  # noqa: B006
    size: Size = None,
    up: Up = "y",
    tell_depth: Annotated[
        bool,
        typer.Option(
            "--tell-depth", help="Set export.depth to each object's true depth; the ellipsoid gets it too."
        ),
    ] = False,
    azimuths: Annotated[
        str,
        typer.Option(
            metavar="DEG,...",
            help="From where the photo is taken, one row for each: 0 shows what faces +z, 90 what faces +x.",
        ),
    ] = "0",
    views: Annotated[
        str | None,
        typer.Option(
            metavar="DEG,...",
            help="Further photos of each object, each in its own exposure: azimuths from the first one's.",
            show_default="none",
        ),
    ] = None,
    view_error: Annotated[
        float,
        typer.Option(
            min=0,
            max=45,
            metavar="DEG",
            help="Standard deviation of the true azimuths and elevations of --views from those that img2mesh is told.",
        ),
    ] = 0.0,
    force: Force = False,
    out: Out = Path("out/eval/photo"),
    choices: Choices = None,
) -> None:
    """Run all stages on one or more photos of each object; compare the mesh, and an ellipsoid, with the object."""
    from sv3d_pipe.evaluate.taken_photos import parse_degrees, subjects

    azimuths_deg = parse_degrees("--azimuths", azimuths)
    views_deg = () if views is None else parse_degrees("--views", views)
    if view_error and not views_deg:
        raise UserError("--view-error is about further photos; say with --views from where they are taken.")
    find = _meshes(objects, limit, ids)
    _run(
        "photo",
        lambda seed: subjects(find(seed), azimuths_deg),
        size,
        up,
        force,
        out,
        choices,
        tell_depth=tell_depth,
        views=views_deg,
        view_error_deg=view_error,
    )


@app.command("orbit")
@with_settings()
def orbit(
    objects: Objects,
    limit: Limit = None,
    ids: Ids = [],  # noqa: B006
    size: FrameSize = None,
    up: Up = "y",
    force: Force = False,
    out: Out = Path("out/eval/orbit"),
    choices: Choices = None,
) -> None:
    """Paint the orbit of each object; compare its novel views, the photo and an ellipsoid with the truth."""
    _run("orbit", _meshes(objects, limit, ids), size, up, force, out, choices)


@app.command("frames")
@with_settings("orbit.elevation_deg")
def frames(
    orbits: Annotated[
        Path,
        typer.Argument(
            metavar="ORBITS_DIR",
            help="Folder of static orbits on white or transparent, each an .mp4, a .gif or a folder of PNG frames; the "
            "last frame is the photo's view, and azimuth grows evenly, counterclockwise seen from above.",
        ),
    ],
    limit: Limit = None,
    ids: Ids = [],  # noqa: B006
    elevations: Annotated[
        Path | None,
        typer.Option(
            metavar="JSON",
            help='Elevations of single orbits in degrees, {"NAME": 5}. Those that it leaves out may have a NAME.json '
            'beside them, {"elevation_deg": 5}; the others have --elevation-deg.',
        ),
    ] = None,
    truth: Annotated[
        Path | None,
        typer.Option(
            metavar="MESH",
            help="The true mesh of all orbits, or a folder with a NAME.glb, .ply, ... for each. The result is turned "
            "about the up axis before it is compared, and then also fitted with ICP.",
        ),
    ] = None,
    up: Up = "y",
    force: Force = False,
    out: Out = Path("out/eval/frames"),
    choices: Choices = None,
) -> None:
    """Make meshes of painted orbits; judge them without truth: views left out and predicted, fringes, holes, floaters.

    Every orbit is run twice from nerf to export, the second time without the four frames that are predicted.
    """
    from sv3d_pipe.evaluate.orbit_files import find_orbits

    elevation_deg = choices.config().orbit.photo_elevation_deg
    _run(
        "frames",
        lambda seed: find_orbits(orbits, tuple(ids), limit, seed, elevation_deg, elevations, truth),
        None,
        up,
        force,
        out,
        choices,
    )


def _meshes(folder: Path, limit: int | None, ids: list[str]) -> Callable[[int], dict[str, Path]]:
    """The choice of objects as a function of the seed."""

    def find(seed: int) -> dict[str, Path]:
        from sv3d_pipe.evaluate.truth import find_objects

        return find_objects(folder, tuple(ids), limit, seed)

    return find


def _run(
    name: str,
    find: Callable[[int], dict[str, Any]],
    size: int | None,
    up: str,
    force: bool,
    out: Path,
    choices: Choices,
    **more: Any,
) -> None:
    """Run a suite; ``more`` are the fields of its :class:`Options` that other suites do not have."""
    from sv3d_pipe.device import resolve_device
    from sv3d_pipe.evaluate.display import Display
    from sv3d_pipe.evaluate.suite import Options, run_suite, tables

    _check_packages()
    suite = _suite(name)
    seed = _seed(choices)
    options = Options(choices.config(), size, seed, resolve_device(choices.device), up, force=force, **more)
    found = find(seed)
    with at_work(out):
        document = run_suite(suite, found, options, out, Display(choices.quiet))
    if not choices.quiet:
        for table in tables(suite, document, every_object=False):
            table.show()
        if document["failed"]:
            names = ", ".join(item["name"] for item in document["failed"])
            typer.echo(f"{len(document['failed'])} of {len(found)} objects failed: {names}", err=True)
    typer.echo(json.dumps(document, indent=1) if choices.json else out / f"{name}.json")
    if document["failed"]:
        raise typer.Exit(SOME_FAILED if document["rows"] else WRONG_USE)


def _suite(name: str):
    if name == "recon":
        from sv3d_pipe.evaluate.recon_suite import RECON as suite
    elif name == "photo":
        from sv3d_pipe.evaluate.photo_suite import PHOTO as suite
    elif name == "frames":
        from sv3d_pipe.evaluate.frames_suite import FRAMES as suite
    else:
        from sv3d_pipe.evaluate.orbit_suite import ORBIT as suite
    return suite


def _check_packages() -> None:
    if find_spec("torchmetrics") is None:
        raise UserError("`img2mesh eval` needs torchmetrics; install it with `pip install 'img2mesh[eval]'`.")


def _seed(choices: Choices) -> int:
    return SEED if choices.seed is None else choices.seed
