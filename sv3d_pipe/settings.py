"""One setting: a dataclass field with its default, help and range, and how text becomes its value."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Callable
from typing import Any, Literal

from sv3d_pipe.errors import UserError


def option(
    default: Any,
    help: str,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    words: tuple[str, ...] = (),
    numbers: bool = False,
    files: Callable[[str], str] | None = None,
) -> Any:
    """A config field: its default and its help; for numbers, the range it must lie in; for text that
    is a list with commas, the words it may hold, or that it holds numbers in the range or nothing. Of text that names files,
    ``files`` makes the paths in it absolute, and their content is part of a stage's key, not where they lie."""
    metadata = {
        "help": help, "at_least": at_least, "at_most": at_most, "words": words, "numbers": numbers, "files": files,
    }  # fmt: skip
    return dataclasses.field(default=default, metadata=metadata)


def read_value(config: Any, key: str, value: Any) -> Any:
    """``value`` as the type of the field ``key`` of a stage config, checked against its range."""
    spec = {f.name: f for f in dataclasses.fields(config)}[key]
    kind, may_be_none = plain_type(typing.get_type_hints(type(config))[key])
    if value is None and may_be_none:
        return None
    name = f"{type(config).__name__.removesuffix('Config').lower()}.{key}"
    if typing.get_origin(kind) is Literal:
        choices = typing.get_args(kind)
        # A switch that became a choice still takes what older workspaces and TOML files say.
        if "on" in choices and _text(value).lower() in ("true", "false"):
            return "on" if _text(value).lower() == "true" else "off"
        if value not in choices:
            raise UserError(f"{name} must be one of {', '.join(choices)}, not {_shown(value)}.")
        return value
    if kind is bool:
        return _read_bool(name, value)
    if spec.metadata["numbers"]:
        return _read_numbers(name, value, spec.metadata["at_least"], spec.metadata["at_most"])
    if kind is str and value == "" == spec.default:
        return value
    if kind is str:
        text, absolute = _read_text(name, value, spec.metadata["words"]), spec.metadata["files"]
        return absolute(text) if absolute and text != spec.default else text
    return _read_number(name, value, kind, spec.metadata["at_least"], spec.metadata["at_most"])


def plain_type(kind: Any) -> tuple[Any, bool]:
    """``float | None`` as float, and whether None is allowed."""
    kinds = typing.get_args(kind) if typing.get_origin(kind) is types.UnionType else (kind,)
    return kinds[0], type(None) in kinds


def _text(value: Any) -> str:
    return value if isinstance(value, str) else _shown(value)


def _shown(value: Any, longest: int = 60) -> str:
    """A value of any size as a sentence may quote it."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # more digits than Python prints
        return "an enormous value"
    return text if len(text) <= longest else f"{text[:longest]}…"


def _read_bool(name: str, value: Any) -> bool:
    word = _text(value).lower()
    if word not in ("true", "1", "yes", "on", "false", "0", "no", "off"):
        raise UserError(f"{name} must be true or false, not {_shown(value)}.")
    return word in ("true", "1", "yes", "on")


def _read_text(name: str, value: Any, words: tuple[str, ...]) -> str:
    if not isinstance(value, str) or not value.strip():
        raise UserError(f"{name} must be text that is not empty, not {_shown(value)}.")
    parts = [part.strip().lower().removeprefix(".") for part in value.split(",") if part.strip()]
    unknown = [part for part in parts if words and part not in words]
    if unknown or (words and not parts):
        wrong = unknown[0] if unknown else value
        raise UserError(
            f"{name} takes {', '.join(words)} (several separated by commas), not {_shown(wrong)}."
        )
    return value


def _read_numbers(name: str, value: Any, low: float | None, high: float | None) -> str:
    if not isinstance(value, str):
        raise UserError(f"{name} must be text with numbers separated by commas, not {_shown(value)}.")
    for part in value.split(",") if value.strip() else ():
        _read_number(name, part.strip(), float, low, high)
    return value.strip()


def _read_number(name: str, value: Any, kind: type, low: float | None, high: float | None) -> int | float:
    try:
        number = float(value)
        if isinstance(value, bool) or not math.isfinite(number) or (kind is int and number != int(number)):
            raise ValueError
    except (ValueError, TypeError, OverflowError):
        word = {int: "a whole number", float: "a number"}[kind]
        raise UserError(f"{name} must be {word}, not {_shown(value)}.") from None
    if (low is not None and number < low) or (high is not None and number > high):
        limits = (("at least", low), ("at most", high))
        bounds = " and ".join(f"{word} {bound}" for word, bound in limits if bound is not None)
        raise UserError(f"{name} must be {bounds}, not {_text(value)}.")
    return kind(number)
