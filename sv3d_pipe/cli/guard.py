"""The group of verbs: a bare path is ``run``; every error is one line on stderr and an exit code."""

from __future__ import annotations

import difflib
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from sv3d_pipe.errors import UserError, explain, is_foreseen, one_line

ClickException = typer.BadParameter.__mro__[2]  # typer brings its own copy of click, or uses click
WRONG_USE, CRASHED, INTERRUPTED = 2, 1, 130  # Typer's own code for Ctrl-C, too; SIGTERM's is 143


class Stopped(Exception):
    """Ctrl-C or SIGTERM; the message says how to continue."""


class Crash(Exception):
    """An unforeseen error whose traceback is already in a log."""


class Verbs(TyperGroup):
    """Typer's group, with ``img2mesh photo.png`` as ``img2mesh run photo.png`` and plain errors."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        own = {"--version", "--help", "-h"}
        if args and args[0] not in own and args[0] not in self.commands:
            close = difflib.get_close_matches(args[0], self.commands, 1)
            if close and not args[0].startswith("-") and not Path(args[0]).exists():
                raise UserError(f"There is no file {args[0]}; did you mean `img2mesh {close[0]}`?")
            args = ["run", *args]
        if (
            any(name in ("-o", "--out") and not value for name, value in zip(args, args[1:]))
            or "--out=" in args
        ):
            raise UserError("-o needs the name of a folder or file, not an empty one.")
        return super().parse_args(ctx, args)

    def main(self, args: Sequence[str] | None = None, *rest: Any, **options: Any) -> Any:
        args = list(sys.argv[1:] if args is None else args)
        debug = "--debug" in args or bool(os.environ.get("IMG2MESH_DEBUG"))
        options["standalone_mode"] = False
        with warnings.catch_warnings(), _signals() as came:
            if not debug:
                warnings.simplefilter("ignore")
            try:
                code = super().main([arg for arg in args if arg != "--debug"], *rest, **options)
                if code == INTERRUPTED:
                    raise Stopped("Stopped.")
            except (Exception, KeyboardInterrupt) as error:
                if debug:
                    traceback.print_exception(error)
                if came and not isinstance(error, Stopped):  # an import makes other errors of it
                    error = Stopped("Stopped. Run the same command again to continue.")
                code = _report(error)
        if came and code == INTERRUPTED:
            code = 128 + came[0]
        sys.exit(code if isinstance(code, int) else 0)


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Ctrl-C and SIGTERM as KeyboardInterrupt; the signals that came, whatever became of their exceptions."""
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread():  # signals belong to the main thread
        yield came
        return

    def note(number: int, _) -> None:
        came.append(number)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _report(error: BaseException) -> int:
    """Say what is wrong in one line on stderr; the exit code."""
    if isinstance(error, (Stopped, typer.Abort, KeyboardInterrupt)):
        typer.echo(str(error) or "Stopped.", err=True)
        return INTERRUPTED
    if isinstance(error, ClickException):
        if type(error).__name__ == "NoArgsIsHelpError":
            error.show()
        else:
            typer.echo(f"Error: {one_line(error.format_message())}", err=True)
        return WRONG_USE
    if isinstance(error, Crash):
        typer.echo(f"Error: {error}", err=True)
        return CRASHED
    typer.echo(f"Error: {explain(error, None)}", err=True)
    return WRONG_USE if is_foreseen(error) else CRASHED


@contextmanager
def at_work(folder: Path):
    """Around long work on ``folder``: Ctrl-C and SIGTERM say how to continue; a crash leaves its log there."""
    try:
        yield
    except KeyboardInterrupt:
        raise Stopped(
            f"Stopped. What is finished is kept in {folder}; run the same command again to continue."
        ) from None
    except Exception as error:
        if is_foreseen(error):
            raise
        raise Crash(explain(error, folder)) from error
