"""More photos of the same object: which they are, and from where they were taken."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from sv3d_pipe.errors import UserError
from sv3d_pipe.picture_kinds import SUFFIXES

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
        elevation = "" if self.elevation_deg is None else f",{self.elevation_deg:g}"
        return f"{self.path}@{self.azimuth_deg:g}{elevation}"


def parse_view(text: str) -> View:
    """``PHOTO@AZIMUTH`` or ``PHOTO@AZIMUTH,ELEVATION``. Raises UserError if it is neither."""
    match = ANGLES.fullmatch(text.strip())
    if match is None:
        raise UserError(
            f"A view is PHOTO@AZIMUTH or PHOTO@AZIMUTH,ELEVATION in degrees, for example back.png@180, not {text!r}."
        )
    if SEPARATOR in match["path"]:
        raise UserError(f"The name of a view must not hold {SEPARATOR!r}; rename {match['path']}.")
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
    """What :func:`parse_views` reads, with absolute paths, so that they are found from any folder later."""
    return SEPARATOR.join(
        str(View(Path(view.path).absolute(), view.azimuth_deg, view.elevation_deg)) for view in views
    )


def views_beside(photo: Path) -> tuple[View, ...]:
    """The views that lie beside a photo, by their names: ``mug@180.png`` and ``mug@90,20.jpg`` beside ``mug.png``."""
    files = [path for path in sorted(photo.parent.glob("*@*")) if is_view_of(path, photo)]
    told = [parse_view(path.stem) for path in files]
    return tuple(View(path, view.azimuth_deg, view.elevation_deg) for path, view in zip(files, told))


def without_views(photos: list[Path]) -> list[Path]:
    """Those that are not by their names views of another one of them."""
    known = {(photo.parent, photo.stem) for photo in photos}
    matches = [ANGLES.fullmatch(photo.stem) for photo in photos]
    return [
        photo
        for photo, match in zip(photos, matches)
        if match is None or (photo.parent, match["path"]) not in known
    ]


def is_view_of(path: Path, photo: Path) -> bool:
    """Whether a picture is by its name a view of a photo in the same folder."""
    match = ANGLES.fullmatch(path.stem)
    named = match is not None and match["path"] == photo.stem
    return named and path.parent == photo.parent and path.suffix.lower() in SUFFIXES
