"""The command ``img2mesh``: parse, call, report."""

from __future__ import annotations

from typing import Annotated

import typer

import sv3d_pipe
from sv3d_pipe.cli import about_commands, eval_commands, model_commands, run_commands, stage_commands
from sv3d_pipe.cli.finetune_command import finetune
from sv3d_pipe.cli.finetune_depth_command import finetune_depth
from sv3d_pipe.cli.finetune_matte_command import finetune_matte
from sv3d_pipe.cli.guard import Verbs
from sv3d_pipe.cli.render_command import render

app = typer.Typer(
    cls=Verbs,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="One photo in, one textured mesh out: `img2mesh photo.png` makes out/photo/5-export/mesh.glb.",
    epilog="`img2mesh PATH` is short for `img2mesh run PATH`. --debug anywhere, or IMG2MESH_DEBUG=1, shows tracebacks.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"img2mesh {sv3d_pipe.__version__}")
        raise typer.Exit()


@app.callback()
def _group(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


MAIN, STAGE, TRAIN, MEASURE, ABOUT = "Photo to mesh", "One stage", "Training", "Measuring", "About"
app.command("run", rich_help_panel=MAIN)(run_commands.run)
app.command("batch", rich_help_panel=MAIN)(run_commands.batch)
for name in stage_commands.VERBS:
    app.command(name, rich_help_panel=STAGE)(stage_commands.VERBS[name])
app.command("render", rich_help_panel=TRAIN)(render)
app.command("finetune", rich_help_panel=TRAIN)(finetune)
app.command("finetune-depth", rich_help_panel=TRAIN)(finetune_depth)
app.command("finetune-matte", rich_help_panel=TRAIN)(finetune_matte)
app.add_typer(eval_commands.app, name="eval", rich_help_panel=MEASURE)
app.command("config", rich_help_panel=ABOUT)(about_commands.config)
app.command("doctor", rich_help_panel=ABOUT)(about_commands.doctor)
app.add_typer(model_commands.app, name="models", rich_help_panel=ABOUT)


def main() -> None:
    """The console script."""
    app(prog_name="img2mesh")
