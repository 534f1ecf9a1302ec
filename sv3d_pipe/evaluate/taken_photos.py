"""Photos of objects with known shape as people take them: from any side, and several that do not quite agree.

The first photo of an object is exact. A further one is taken near where the road is told that it was, and with an
exposure and a white balance of its own. How large the object is in it tells nothing: prep frames each photo anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sv3d_pipe.cameras import orbit
from sv3d_pipe.errors import UserError
from sv3d_pipe.render.draw import render_views
from sv3d_pipe.render.objects import Object
from sv3d_pipe.road.sources import content_sha256

# Standard deviations of logarithms, chosen to be what two photos of one thing may differ by: the exposure's is about a
# third of a stop, since the values of pictures go with the light to the power 1 / 2.2.
GAIN, TINT = 0.1, 0.03
MOST_ELEVATION_DEG = 89.0  # as on orbits


@dataclass(frozen=True)
class Subject:
    """An object, and the side from which the first photo of it is taken: 0 shows what faces +z, 90 what faces +x."""

    path: Path
    azimuth_deg: float = 0.0

    def content(self) -> Any:
        """What a row depends on, as a plain JSON value."""
        sha256 = content_sha256(self.path)
        return [sha256, self.azimuth_deg] if self.azimuth_deg else sha256


def subjects(objects: dict[str, Path], azimuths_deg: Sequence[float]) -> dict[str, Subject]:
    """Every object from every azimuth: ``chair`` from 0, ``chair@30`` from 30 degrees. Raises UserError if two names agree."""
    found: dict[str, Subject] = {}
    for object_name, path in objects.items():
        for azimuth_deg in azimuths_deg:
            name = f"{object_name}@{azimuth_deg:g}" if azimuth_deg else object_name
            if name in found:
                raise UserError(
                    f"Two rows would be named {name}; rename the object, or leave out an azimuth."
                )
            found[name] = Subject(path, azimuth_deg)
    return found


def parse_degrees(option: str, text: str) -> tuple[float, ...]:
    """The different angles in ``30,-45``. Raises UserError if there is anything else in it, or nothing."""
    try:
        angles = tuple(float(part) + 0.0 for part in text.split(","))  # + 0: there is no -0
    except ValueError:
        angles = ()
    if not angles or not all(abs(angle) <= 360 for angle in angles):
        raise UserError(
            f"{option} takes degrees from -360 to 360 separated by commas, for example 90,180, not {text!r}."
        )
    return tuple(dict.fromkeys(angles))


@dataclass(frozen=True)
class TakenPhoto:
    """A further photo.

    Attributes:
        rgba: [S, S, 4]. azimuth_deg: what the road is told.
        error_deg: what is to be added to that, and to the first photo's elevation, for the true angles.
        gain: what red, green and blue were multiplied by.
    """

    rgba: np.ndarray
    azimuth_deg: float
    error_deg: tuple[float, float]
    gain: tuple[float, float, float]

    def row(self) -> dict[str, Any]:
        """All but the picture, as plain JSON values."""
        return {
            "azimuth_deg": self.azimuth_deg,
            "error_deg": list(self.error_deg),
            "gain": list(self.gain),
        }


def take_photo(
    obj: Object,
    azimuth_deg: float,
    elevation_deg: float,
    error_deg: float,
    size: int,
    seed: int,
    name: str,
) -> TakenPhoto:
    """A further photo [size, size, 4]; the same one for the same seed, name and azimuth.

    Exposure and white balance do not depend on ``error_deg``, and a larger one turns the camera further the same way.

    Args:
        elevation_deg: of the first photo. error_deg: standard deviation of the true azimuth and elevation.
    """
    rng = np.random.default_rng([seed, *f"{name}@{azimuth_deg:g}".encode()])
    gain = np.exp(rng.normal(0, GAIN) + rng.normal(0, TINT, 3))
    error = error_deg * rng.normal(size=2)
    elevation = np.clip(elevation_deg + error[1], -MOST_ELEVATION_DEG, MOST_ELEVATION_DEG)
    camera = orbit([azimuth_deg + error[0]], elevation)
    rgba = render_views(obj, camera, size, supersample=2)[0]
    rgb = np.clip(rgba[..., :3] * gain, 0, 1)
    rgba = np.concatenate([rgb, rgba[..., 3:]], -1).astype(np.float32)
    return TakenPhoto(rgba, azimuth_deg, tuple(error.tolist()), tuple(gain.tolist()))
