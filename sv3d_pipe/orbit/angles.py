"""The camera's path of the orbit stage: from the settings to one azimuth and elevation per frame."""

from __future__ import annotations

import numpy as np

from sv3d_pipe.cameras import orbit_angles, orbit_azimuths, sine_elevations
from sv3d_pipe.config import OrbitConfig
from sv3d_pipe.errors import UserError


def camera_angles(config: OrbitConfig, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Angles of the frames; lists in the settings replace what the kind of orbit says.

    Args:
        seed: of the dynamic orbit.
    Returns:
        azimuth_deg [T] in [0, 360), relative to the last frame, which is the photo's, and
        elevation_deg [T].
    Raises:
        UserError: lists of different lengths, of one frame, or that leave nothing for a dynamic orbit.
    """
    azimuths, elevations = _numbers(config.azimuths), _numbers(config.elevations)
    if config.kind == "dynamic":
        if len(azimuths) or len(elevations):
            raise UserError(
                "A dynamic orbit draws its own angles; leave out orbit.azimuths and orbit.elevations."
            )
        return orbit_angles("dynamic", config.photo_elevation_deg, seed=seed)
    if len(azimuths) and len(elevations) and len(azimuths) != len(elevations):
        raise UserError(
            f"orbit.azimuths has {len(azimuths)} values and orbit.elevations {len(elevations)}; give one per frame."
        )
    if 1 in (len(azimuths), len(elevations)):
        raise UserError(
            "An orbit needs at least two frames; give longer orbit.azimuths and orbit.elevations."
        )
    if len(azimuths):
        azimuth_deg = (azimuths - azimuths[-1]) % 360.0
    else:
        azimuth_deg = orbit_azimuths(len(elevations)) if len(elevations) else orbit_azimuths()
    if len(elevations):
        return azimuth_deg, elevations
    swing = config.amplitude_deg if config.kind == "sine" else 0.0
    return azimuth_deg, sine_elevations(azimuth_deg, config.photo_elevation_deg, swing)


def _numbers(text: str) -> np.ndarray:
    return np.array([float(part) for part in text.split(",") if part.strip()], np.float64)
