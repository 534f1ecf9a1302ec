"""More photos of the same object: which they are, and from where they were taken."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from sv3d_pipe.errors import UserError

SEPARATOR = ";"
NUMBER = r"[-+]?\d+(?:\.\d*)?"
ANGLES = re.compile(rf"(?P<path>.+)@(?P<azimuth>{NUMBER})(?:,(?P<elevation>{NUMBER}))?")
MOST_ELEVATION_DEG = 80.0


@dataclass(frozen=True)
class View:
    """Another photo of the object.

    Attributes:
        path: of the picture.
        azimuth_deg: how far its camera went around the object, to the right as seen from the first photo's camera: 90
            shows what is on the right in the first photo, 180 the back.
        elevation_deg: how high above the object's level its camera stood; None is the first photo's.
    """

    path: str | Path
    azimuth_deg: float
    elevation_deg: float | None = None

    def __str__(self) -> str:
        """What :func:`parse_view` reads."""
        elevation = "" if self.elevation_deg is None else f",{_degrees(self.elevation_deg)}"
        return f"{self.path}@{_degrees(self.azimuth_deg)}{elevation}"


def _degrees(angle: float) -> str:
    """To a millionth, without an exponent."""
    return f"{angle:.6f}".rstrip("0").rstrip(".")


def parse_view(text: str) -> View:
    """``PHOTO@AZIMUTH`` or ``PHOTO@AZIMUTH,ELEVATION``. Raises UserError if it is neither."""
    match = ANGLES.fullmatch(text.strip())
    if match is None:
        raise UserError(
            f"A view is PHOTO@AZIMUTH or PHOTO@AZIMUTH,ELEVATION in degrees, for example back.png@180, not {text!r}."
        )
    elevation = None if match["elevation"] is None else float(match["elevation"])
    if elevation is not None and abs(elevation) > MOST_ELEVATION_DEG:
        raise UserError(
            f"The elevation of a view must lie between -{MOST_ELEVATION_DEG:g} and {MOST_ELEVATION_DEG:g} degrees,"
            f" not {elevation:g}."
        )
    azimuth = float(match["azimuth"])
    if abs(azimuth) > 360:
        raise UserError(f"The azimuth of a view must lie between -360 and 360 degrees, not {azimuth:g}.")
    return View(match["path"], azimuth, elevation)


def parse_views(text: str) -> tuple[View, ...]:
    """The views of the setting ``prep.views``. Raises UserError as :func:`parse_view` does."""
    return tuple(parse_view(part) for part in text.split(SEPARATOR) if part.strip())


def views_text(views: tuple[View, ...]) -> str:
    """What :func:`parse_views` reads, with absolute paths, so that they are found from any folder later.

    Raises:
        UserError: a path cannot be told from what separates them.
    """
    for view in views:
        if SEPARATOR in str(Path(view.path).absolute()):
            raise UserError(f"The path of a view must not hold {SEPARATOR!r}; rename {view.path}.")
    return SEPARATOR.join(
        str(View(Path(view.path).absolute(), view.azimuth_deg, view.elevation_deg)) for view in views
    )


def absolute_views(text: str) -> str:
    """The setting with absolute paths. Raises UserError as :func:`parse_view` does."""
    return views_text(parse_views(text))


def with_their_views(photos: list[Path]) -> dict[Path, list[Path]]:
    """Each photo, and those of the pictures that are by their names views of it.

    ``mug@180.png`` and ``mug@90,20.jpg`` are views of ``mug.png`` in the same folder. Where there is no such photo, or
    several of that name, they are photos of their own.
    """
    named: dict[tuple[Path, str], list[Path]] = {}
    for photo in photos:
        named.setdefault((photo.parent, photo.stem), []).append(photo)
    found: dict[Path, list[Path]] = {}
    for photo in photos:
        match = ANGLES.fullmatch(photo.stem)
        first = named.get((photo.parent, match["path"]), []) if match else []
        if len(first) == 1:
            found.setdefault(first[0], []).append(photo)
        else:
            found.setdefault(photo, [])
    return found


def named_view(path: Path) -> View:
    """The view that a picture's name tells of, ``mug@90,20.jpg``. Raises UserError as :func:`parse_view` does."""
    told = parse_view(path.stem)
    return View(path, told.azimuth_deg, told.elevation_deg)
