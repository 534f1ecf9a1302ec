"""Settings as TOML files: read, and written with their help."""

from __future__ import annotations

import dataclasses
import json
import sys
import typing
from pathlib import Path
from typing import Any, Literal

from sv3d_pipe.config import Config
from sv3d_pipe.errors import UserError, one_line
from sv3d_pipe.inputs import read_text

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def load_toml(path: Path) -> dict[str, Any]:
    """Dotted settings from a TOML file with one table per stage. Raises UserError if unreadable."""
    if not path.exists():
        raise UserError(f"Cannot read the config file {path}: there is no such file.")
    try:
        document = tomllib.loads(read_text(path))
    except RecursionError:
        raise UserError(f"The config file {path} is nested too deeply.") from None
    except ValueError as error:  # bad TOML, or a number of thousands of digits
        raise UserError(f"The config file {path} is not valid TOML: {one_line(str(error), 100)}.") from None
    flat = {}
    for stage, table in document.items():
        if not isinstance(table, dict):
            raise UserError(f"In {path}, {stage!r} must be a table such as [nerf].")
        flat.update({f"{stage}.{key}": value for key, value in table.items()})
    return flat


def to_toml(config: Config) -> str:
    """The settings as TOML that :func:`load_toml` reads, each with its help as a comment."""
    tables = []
    for stage in dataclasses.fields(config):
        settings = getattr(config, stage.name)
        lines = [f"# {type(settings).__doc__}", f"[{stage.name}]"]
        for spec in dataclasses.fields(settings):
            value = getattr(settings, spec.name)
            said = (
                f"# {spec.name} = "
                if value is None
                else f"{spec.name} = {json.dumps(value, ensure_ascii=False)}"
            )
            lines += [f"# {_help(spec, settings)}", said]
        tables.append("\n".join(lines))
    return "\n\n".join(tables) + "\n"


def _help(spec: dataclasses.Field, settings: Any) -> str:
    kind = typing.get_type_hints(type(settings))[spec.name]
    choices = typing.get_args(kind) if typing.get_origin(kind) is Literal else ()
    return spec.metadata["help"] + (f" One of {', '.join(choices)}." if choices else "")
