"""The verbs that only report: config and doctor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from sv3d_pipe.cli.signatures import Choices, with_settings
from sv3d_pipe.config import Config
from sv3d_pipe.config_files import to_toml
from sv3d_pipe.errors import UserError
from sv3d_pipe.road.sources import begun

Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]


@with_settings(common=("preset", "config", "set", "json"))
def config(
    workspace: Annotated[
        Path | None,
        typer.Argument(help="Print the settings of this workspace's last run.", show_default=False),
    ] = None,
    choices: Choices = None,
) -> None:
    """Print the effective settings as TOML, each with its help; --config reads such a file."""
    if workspace is not None and choices.preset:
        raise UserError("Give a workspace or --preset, not both.")
    settings = choices.config()
    if workspace is not None:
        run = begun(workspace)
        if run is None:
            raise UserError(f"{workspace} is not a workspace; give a folder made by `img2mesh run`.")
        settings = Config().replace(run["config"]).replace(choices.settings)
    typer.echo(json.dumps(settings.flat(), indent=1) if choices.json else to_toml(settings), nl=choices.json)


def doctor(
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder whose disk is checked for free space.")
    ] = Path("out"),
    as_json: Json = False,
) -> None:
    """Report what is installed, what this machine has and which implementation of each stage and operation will run.

    The exit code is 1 if anything needed to turn a photo into a mesh is missing.
    """
    from sv3d_pipe.doctor import examine

    found = examine(out)
    if as_json:
        typer.echo(json.dumps(found, indent=1))
    else:
        for section in ("machine", "packages", "stages", "operations", "plans", "models", "more"):
            typer.echo(f"{section}")
            for name, text in found[section].items():
                typer.echo(f"  {name:<24}{text}")
        typer.echo("\n".join(f"Problem: {line}" for line in found["problems"]) or "No problems found.")
    if found["problems"]:
        raise typer.Exit(1)
