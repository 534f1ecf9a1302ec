"""Options made from the settings' dataclasses, and what the command line said with them."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from sv3d_pipe.config import PRESETS, Config, load_toml
from sv3d_pipe.errors import UserError

SEED = 23


@dataclass(frozen=True)
class Choices:
    """What the command line said about settings, device and output.

    Attributes:
        settings: dotted name -> value from --config, --set and the single options, in that order.
        preset, seed: None if not given.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    preset: str | None = None
    seed: int | None = None
    device: str = "auto"
    json: bool = False
    quiet: bool = False

    def config(self) -> Config:
        """The settings on top of the preset (draft if none was given)."""
        return Config.preset(self.preset or "draft").replace(self.settings)


def _more(help: str, **options: Any) -> Any:
    return typer.Option(help=help, rich_help_panel="Settings", **options)


COMMON = {
    "preset": (str | None, None, _more(f"Start from {', '.join(PRESETS)}.")),
    "config": (Path | None, None, _more("TOML file of settings, as `img2mesh config` prints.")),
    "set": (list[str], [], _more("Any setting; may be repeated.", metavar="STAGE.NAME=VALUE")),
    "seed": (int | None, None, _more(f"Seed of every random number, {SEED} if not given.")),
    "device": (str, "auto", typer.Option(help="auto, cpu, cuda, cuda:N or mps.")),
    "json": (bool, False, typer.Option("--json", help="Print a summary as JSON on stdout.")),
    "quiet": (bool, False, typer.Option("--quiet", "-q", help="Show no progress and no table.")),
}


def with_settings(*names: str, common: tuple[str, ...] = tuple(COMMON)) -> Callable:
    """Decorator: gives a verb options for the settings ``names`` and the common ones.

    The verb's parameter ``choices`` receives all of them as :class:`Choices`.
    """

    def decorate(verb: Callable) -> Callable:
        own = [p for p in inspect.signature(verb, eval_str=True).parameters.values() if p.name != "choices"]
        options = {name.replace(".", "__"): _setting(name) for name in names}
        options |= {name: COMMON[name] for name in common}
        extra = [
            inspect.Parameter(
                name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, info]
            )
            for name, (kind, default, info) in options.items()
        ]

        def command(**given: Any) -> Any:
            mine = {parameter.name: given.pop(parameter.name) for parameter in own}
            return verb(**mine, choices=_read(given, names))

        parameters = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own] + extra
        command.__signature__ = inspect.Signature(parameters)
        command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        command.__name__, command.__doc__ = verb.__name__, verb.__doc__
        return command

    return decorate


def settings_of(stage: str) -> tuple[str, ...]:
    """The dotted names of a stage's settings."""
    return tuple(f"{stage}.{spec.name}" for spec in dataclasses.fields(getattr(Config(), stage)))


def _setting(name: str) -> tuple[Any, Any, Any]:
    """Type, default and option of a setting."""
    stage, key = name.split(".")
    settings = type(getattr(Config(), stage))
    spec = {f.name: f for f in dataclasses.fields(settings)}[key]
    kind = typing.get_type_hints(settings)[key]
    flag = f"--{key.replace('_', '-')}"
    declared = f"{flag}/--no-{key.replace('_', '-')}" if kind is bool else flag
    help = spec.metadata["help"] + (f" ({_defaults(name)})" if spec.default != "" else "")
    limits = (
        {"min": spec.metadata["at_least"], "max": spec.metadata["at_most"]} if kind in (int, float) else {}
    )
    option = typer.Option(declared, help=help, show_default=False, rich_help_panel="Settings", **limits)
    return kind | None, None, option


def _defaults(name: str) -> str:
    values = {preset: Config.preset(preset).flat()[name] for preset in PRESETS}
    words = {preset: _word(value) for preset, value in values.items()}
    if len(set(words.values())) == 1:
        return f"default {words['draft']}"
    return ", ".join(f"{preset} {word}" for preset, word in words.items())


def _word(value: Any) -> str:
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)


def _read(given: dict[str, Any], names: tuple[str, ...]) -> Choices:
    settings = load_toml(given["config"]) if given.get("config") else {}
    for assignment in given.get("set", ()):
        name, equals, value = assignment.partition("=")
        if not equals:
            raise UserError(f"--set takes STAGE.NAME=VALUE, for example nerf.steps=800, not {assignment!r}.")
        settings[name.strip()] = value.strip()
    single = {name: given[name.replace(".", "__")] for name in names}
    settings |= {name: value for name, value in single.items() if value is not None}
    rest = {name: given[name] for name in ("preset", "seed", "device", "json", "quiet") if name in given}
    return Choices(settings, **rest)
