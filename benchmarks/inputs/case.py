"""One input, the command that gets it, and what must come of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Case:
    """An input and its promise.

    Attributes:
        kind: the table's section. name: what the input is, in words.
        arguments: of ``img2mesh``; ``{here}`` stands for the case's own folder, its working directory.
        make: writes the input into the folder.
        says: words that the one sentence of a refusal, or a warning of a success, must hold; "" for any.
        right: for inputs that must be taken: what is wrong with the result, or None. None for refusals.
        harm: for refusals of inputs that attack: what they did all the same, or None.
    """

    kind: str
    name: str
    arguments: tuple[str, ...]
    make: Callable[[Path], object]
    says: str = ""
    right: Callable[[Path], str | None] | None = None
    harm: Callable[[Path], str | None] = lambda here: None
