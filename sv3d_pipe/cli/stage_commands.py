"""One verb per stage, on a workspace, with the stage's settings as options."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sv3d_pipe.cli.guard import at_work
from sv3d_pipe.cli.run_commands import StageName, Views, report, take_views
from sv3d_pipe.cli.signatures import SEED, Choices, settings_of, with_settings
from sv3d_pipe.config import Config
from sv3d_pipe.errors import UserError
from sv3d_pipe.road.workspace import STAGES, Workspace

if TYPE_CHECKING:
    from sv3d_pipe.road.run import Route

Until = Annotated[
    StageName | None,
    typer.Option(help="Continue up to this stage; without it, only this one runs.", show_default=False),
]
Force = Annotated[bool, typer.Option("--force", help="Run again, even if it is finished.")]
REMEMBERS = "Settings that are not given stay as in the workspace's last run."


def _stage_verb(stage: str) -> Callable:
    @with_settings(*settings_of(stage))
    def verb(
        workspace: Annotated[Path, typer.Argument(help="Folder made by `img2mesh run` or `img2mesh prep`.")],
        until: Until = None,
        force: Force = False,
        choices: Choices = None,
    ) -> None:
        begun = _begun(workspace)
        if begun is None:
            raise UserError(
                f"{workspace} is not a workspace; make one with `img2mesh prep photo.png -o {workspace}`."
            )
        _run_from(stage, begun, until or stage, force, choices)

    verb.__doc__ = f"{getattr(Config(), stage).__doc__}\n\n{REMEMBERS}"
    return verb


@with_settings(*(name for name in settings_of("prep") if name != "prep.views"))
def prep(
    photo: Annotated[Path, typer.Argument(help="The photo, or a workspace to prepare its photo again.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Workspace of this photo.", show_default="out/<photo's name>"),
    ] = None,
    until: Until = None,
    force: Force = False,
    view: Views = [],  # noqa: B006 - typer reads it, nobody changes it
    choices: Choices = None,
) -> None:
    from sv3d_pipe.pipeline import PHOTO_ROUTE

    take_views(view, choices)
    work = _begun(photo)
    if work is None:
        work = Work(PHOTO_ROUTE, photo, out)
    elif "prep" not in work.route.names:
        raise UserError(
            f"{photo} was made from a {work.route.kind.word}, which needs no prep; use `img2mesh nerf {photo}`."
        )
    elif out is not None:
        work = dataclasses.replace(work, root=out)
    _run_from("prep", work, until or "prep", force, choices)


prep.__doc__ = f"{Config().prep.__doc__}\n\n{REMEMBERS}"


@with_settings(*settings_of("nerf"))
def nerf(
    workspace: Annotated[
        Path,
        typer.Argument(
            help="A workspace, or a capture: a folder with the transforms.json of nerfstudio or instant-ngp."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Workspace of a capture.", show_default="out/<capture's name>"),
    ] = None,
    until: Until = None,
    force: Force = False,
    choices: Choices = None,
) -> None:
    from sv3d_pipe.capture.transforms import is_capture
    from sv3d_pipe.pipeline import CAPTURE_ROUTE

    begun = _begun(workspace)
    if begun is not None:
        if out is not None:
            raise UserError(f"{workspace} is a workspace, so its results stay in it; leave out -o.")
        return _run_from("nerf", begun, until or "nerf", force, choices)
    if not workspace.exists():
        raise UserError(f"There is no file or folder {workspace}; check the path.")
    if not is_capture(workspace):
        raise UserError(
            f"{workspace} is neither a workspace nor a capture with a transforms.json; "
            f"make a workspace with `img2mesh prep photo.png -o {workspace}`."
        )
    work = Work(CAPTURE_ROUTE, workspace, out)
    _run_from(CAPTURE_ROUTE.names[0], work, until or "nerf", force, choices)


nerf.__doc__ = f"{Config().nerf.__doc__}\n\n{REMEMBERS}"
VERBS = {"prep": prep, "orbit": _stage_verb("orbit"), "nerf": nerf} | {
    stage: _stage_verb(stage) for stage in ("refine", "export")
}


@dataclass(frozen=True)
class Work:
    """A source, the route it takes, and its workspace; None is the one that belongs to the source."""

    route: Route
    source: Path
    root: Path | None


def _begun(workspace: Path) -> Work | None:
    """What a workspace was made from; None if it is none."""
    from sv3d_pipe.pipeline import route_of
    from sv3d_pipe.road.sources import begun

    run = begun(workspace)
    if run is None:
        return None
    route = route_of(run, workspace)
    return Work(route, Path(run[route.kind.word]), workspace)


def _run_from(start: str, work: Work, until: str, force: bool, choices: Choices) -> None:
    from sv3d_pipe.pipeline import Image2Mesh
    from sv3d_pipe.road.report import make_reporter
    from sv3d_pipe.road.sources import workspace_for

    Image2Mesh(choices.config(), device=choices.device).check(start, until)
    root = work.root or workspace_for(work.source, Path("out"), work.route.kind)
    run = Workspace(root).read_run()
    config = _settings(start, work, run, choices)
    seed = choices.seed if choices.seed is not None else (run or {}).get("seed", SEED)
    reporter = make_reporter(choices.quiet)
    image2mesh = Image2Mesh(config, seed, choices.device, reporter)
    with at_work(root):
        result = image2mesh.go(work.route, work.source, root, start, until, start if force else None)
    report(result, choices)
    names = work.route.names
    if until != names[-1]:
        reporter.say(f"Continue with `img2mesh {names[names.index(until) + 1]} {root}`.")


def _settings(start: str, work: Work, run: dict | None, choices: Choices) -> Config:
    """The given settings on top of the last run's. Those of earlier stages cannot be changed here."""
    given = choices.config()
    if run is None:
        return given
    known = Config().flat()
    last = Config().replace({name: value for name, value in run["config"].items() if name in known})
    earlier = [] if start == work.route.names[0] else list(STAGES[: STAGES.index(start)])
    late = [name for name in choices.settings if name.partition(".")[0] in earlier]
    if late:
        other = late[0].partition(".")[0]
        # Settings of a stage that the route does not have, such as a capture's matte, act at its beginning.
        verb = f"{other} WORKSPACE" if other in work.route.names else f"nerf {work.source} -o WORKSPACE"
        raise UserError(
            f"{late[0]} belongs to an earlier stage; change it with `img2mesh {verb} --until {start}`."
        )
    base = given if choices.preset else last.replace(choices.settings)
    return dataclasses.replace(base, **{name: getattr(last, name) for name in earlier})
