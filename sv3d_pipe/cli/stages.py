"""One verb per stage, on a workspace, with the stage's settings as options."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from sv3d_pipe.cli.guard import at_work
from sv3d_pipe.cli.options import SEED, Choices, settings_of, with_settings
from sv3d_pipe.cli.road import StageName, report
from sv3d_pipe.config import Config
from sv3d_pipe.errors import UserError
from sv3d_pipe.workspace import STAGES, Workspace

Until = Annotated[
    StageName | None,
    typer.Option(help="Go on to this stage; without it only this one is run.", show_default=False),
]
Force = Annotated[bool, typer.Option("--force", help="Run again even what is finished.")]
REMEMBERS = "Settings that are not given stay as in the workspace's last run."


def _stage_verb(stage: str) -> Callable:
    @with_settings(*settings_of(stage))
    def verb(
        workspace: Annotated[Path, typer.Argument(help="Folder made by `img2mesh run` or `img2mesh prep`.")],
        until: Until = None,
        force: Force = False,
        choices: Choices = None,
    ) -> None:
        run = Workspace(workspace).read_run()
        if run is None:
            raise UserError(
                f"{workspace} is not a workspace; make one with `img2mesh prep photo.png -o {workspace}`."
            )
        _run_from(stage, Path(run["photo"]), workspace, until, force, choices)

    verb.__doc__ = f"{getattr(Config(), stage).__doc__}\n\n{REMEMBERS}"
    return verb


@with_settings(*settings_of("prep"))
def prep(
    photo: Annotated[Path, typer.Argument(help="The photo, or a workspace to prepare its photo again.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Workspace of this photo.", show_default="out/<photo's name>"),
    ] = None,
    until: Until = None,
    force: Force = False,
    choices: Choices = None,
) -> None:
    from sv3d_pipe.naming import workspace_for

    run = Workspace(photo).read_run()
    if run is not None:
        out, photo = out or photo, Path(run["photo"])
    _run_from("prep", photo, out or workspace_for(photo, Path("out")), until, force, choices)


prep.__doc__ = f"{Config().prep.__doc__}\n\n{REMEMBERS}"
VERBS = {"prep": prep} | {stage: _stage_verb(stage) for stage in STAGES[1:]}


def _run_from(stage: str, photo: Path, root: Path, until: str | None, force: bool, choices: Choices) -> None:
    from sv3d_pipe.pipeline import Image2Mesh
    from sv3d_pipe.progress import make_reporter

    run = Workspace(root).read_run()
    config = _settings(stage, run, choices)
    seed = choices.seed if choices.seed is not None else (run or {}).get("seed", SEED)
    reporter = make_reporter(choices.quiet)
    image2mesh = Image2Mesh(config, seed, choices.device, reporter)
    last = until or stage
    with at_work(root):
        result = image2mesh(photo, root, stage, last, stage if force else None)
    report(result, choices)
    if last != "export":
        reporter.say(f"Go on with `img2mesh {STAGES[STAGES.index(last) + 1]} {root}`.")


def _settings(stage: str, run: dict | None, choices: Choices) -> Config:
    """The given settings on top of the last run's. Those of earlier stages cannot be changed here."""
    given = choices.config()
    if run is None:
        return given
    known = Config().flat()
    last = Config().replace({name: value for name, value in run["config"].items() if name in known})
    earlier = STAGES[: STAGES.index(stage)]
    late = [name for name in choices.settings if name.partition(".")[0] in earlier]
    if late:
        other = late[0].partition(".")[0]
        raise UserError(
            f"{late[0]} belongs to an earlier stage; change it with `img2mesh {other} WORKSPACE --until {stage}`."
        )
    base = given if choices.preset else last.replace(choices.settings)
    return dataclasses.replace(base, **{name: getattr(last, name) for name in earlier})
