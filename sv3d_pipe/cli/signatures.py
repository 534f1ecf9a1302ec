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

from sv3d_pipe.config import PRESETS, Config
from sv3d_pipe.config_files import load_toml
from sv3d_pipe.errors import UserError
from sv3d_pipe.settings import plain_type

SEED = 23
MOST_SEED = 2**63 - 1  # what PyTorch and NumPy both take


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
    "preset": (str | None, None, _more(f"Preset to start from: {', '.join(PRESETS)}; draft if not given.")),
    "config": (Path | None, None, _more("TOML file of settings, as printed by `img2mesh config`.")),
    "set": (list[str], [], _more("Any setting; may be repeated.", metavar="STAGE.NAME=VALUE")),
    "seed": (
        int | None,
        None,
        _more(f"Seed of all random numbers; {SEED} if not given.", min=0, max=MOST_SEED),
    ),
    "device": (str, "auto", typer.Option(help="auto, cpu, cuda, cuda:N or mps.")),
    "json": (bool, False, typer.Option("--json", help="Print a summary as JSON on stdout.")),
    "quiet": (bool, False, typer.Option("--quiet", "-q", help="Show no progress and no table.")),
}


def with_options(
    receiver: str, options: dict[str, tuple[Any, Any, Any]], read: Callable[[dict[str, Any]], Any]
) -> Callable:
    """Decorator: gives a verb more options than its own parameters.

    Args:
        receiver: the verb's parameter that gets what ``read`` makes of all these options' values.
        options: name -> type, default and ``typer.Option``.
    """

    def decorate(verb: Callable) -> Callable:
        own = [p for p in inspect.signature(verb, eval_str=True).parameters.values() if p.name != receiver]
        extra = [
            inspect.Parameter(
                name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, info]
            )
            for name, (kind, default, info) in options.items()
        ]

        def command(**given: Any) -> Any:
            mine = {parameter.name: given.pop(parameter.name) for parameter in own}
            return verb(**mine, **{receiver: read(given)})

        parameters = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own] + extra
        command.__signature__ = inspect.Signature(parameters)
        command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        command.__name__, command.__doc__ = verb.__name__, verb.__doc__
        return command

    return decorate


def with_settings(*names: str, common: tuple[str, ...] = tuple(COMMON)) -> Callable:
    """Decorator: gives a verb options for the settings ``names`` and the common ones.

    The verb's parameter ``choices`` receives all of them as :class:`Choices`.
    """
    options = {name.replace(".", "__"): _setting(name) for name in names}
    return with_options(
        "choices", options | {name: COMMON[name] for name in common}, lambda given: _read(given, names)
    )


def with_fields(receiver: str, settings: type, defaults: Callable[[str], str], panel: str) -> Callable:
    """Decorator: gives a verb an option per field of a dataclass; ``receiver`` gets the given ones, name -> value.

    Args:
        defaults: name of a field -> what its help says of the default.
    """
    kinds = typing.get_type_hints(settings)
    options = {
        spec.name: _field(spec, kinds[spec.name], defaults(spec.name), panel)
        for spec in dataclasses.fields(settings)
    }
    return with_options(
        receiver, options, lambda given: {name: value for name, value in given.items() if value is not None}
    )


def settings_of(stage: str) -> tuple[str, ...]:
    """The dotted names of a stage's settings."""
    return tuple(f"{stage}.{spec.name}" for spec in dataclasses.fields(getattr(Config(), stage)))


def _setting(name: str) -> tuple[Any, Any, Any]:
    """Type, default and option of a stage's setting."""
    stage, key = name.split(".")
    settings = type(getattr(Config(), stage))
    spec = {f.name: f for f in dataclasses.fields(settings)}[key]
    presets = {preset: Config.preset(preset).flat()[name] for preset in PRESETS}
    defaults = "" if spec.default in ("", None) else said_defaults(presets)
    return _field(spec, plain_type(typing.get_type_hints(settings)[key])[0], defaults, "Settings")


def _field(spec: dataclasses.Field, kind: Any, defaults: str, panel: str) -> tuple[Any, Any, Any]:
    """Type, default and option of a field made by :func:`sv3d_pipe.settings.option`."""
    flag = f"--{spec.name.replace('_', '-')}"
    declared = f"{flag}/--no-{flag[2:]}" if kind is bool else flag
    help = spec.metadata["help"] + (f" ({defaults})" if defaults else "")
    limits = (
        {"min": spec.metadata["at_least"], "max": spec.metadata["at_most"]} if kind in (int, float) else {}
    )
    option = typer.Option(declared, help=help, show_default=False, rich_help_panel=panel, **limits)
    return kind | None, None, option


def said_defaults(values: dict[str, Any]) -> str:
    """``default 5``, or where they differ ``draft 5, quality 9``; values by whose defaults they are."""
    words = {whose: _word(value) for whose, value in values.items()}
    if len(set(words.values())) == 1:
        return f"default {next(iter(words.values()))}"
    return ", ".join(f"{whose} {word}" for whose, word in words.items())


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
