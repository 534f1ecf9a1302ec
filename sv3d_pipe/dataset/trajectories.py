"""Where the cameras of a data set stand: the orbits SV3D was trained on, and their distance.

SV3D paper (arXiv 2403.12008), section 3 and appendix: static orbits at -5 to 30 degrees of elevation,
dynamic ones whose elevation rises and falls, cameras as near as each object allows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sv3d_pipe.cameras import FOV_DEG, Cameras, orbit, orbit_angles
from sv3d_pipe.geometry.extent import relative_depth
from sv3d_pipe.render.objects import Object

PHOTO_ELEVATION_DEG = (-5.0, 30.0)  # of photos
RANDOM_ELEVATION_DEG = (-30.0, 50.0)  # what a sine of amplitude 30 around a photo at 0..20 needs
SQUARE_AZIMUTH_DEG = (0.0, 0.0, 0.0, 90.0, 180.0, 270.0)  # of square photos: the front half the time
SQUARE_SHARE = 0.6  # of an orbit "photos" is exactly square
ASIDE_DEG = 20.0  # standard deviation of its other views around a square one
FILL = 0.95  # of half the frame is reached by the object in the view where it looks largest
DIGITS = 4  # angles and distances are rounded before use, so that what is written is what was rendered


@dataclass(frozen=True)
class Trajectory:
    """Camera angles of one object in degrees, both [n] float64; azimuths in [0, 360)."""

    azimuth_deg: np.ndarray
    elevation_deg: np.ndarray

    def cameras(self, radius: float) -> Cameras:
        return orbit(self.azimuth_deg, self.elevation_deg, radius)


def draw_trajectory(kind: str, n_views: int, rng: np.random.Generator) -> Trajectory:
    """A random orbit; what differs between two draws of a kind is its start, its height, its shape.

    Args:
        kind: "static", "sine" (amplitude 30 degrees) and "dynamic" end at the photo, whose azimuth may be
            any and whose elevation is drawn from PHOTO_ELEVATION_DEG. "random" has no order: azimuths
            spread evenly with jitter, elevations drawn one by one from RANDOM_ELEVATION_DEG. "photos" are
            as people take them, from an ordinary height, square to the object (SQUARE_SHARE) or from more aside.
    """
    if kind == "random":
        azimuth = (np.arange(n_views) + rng.uniform(-0.5, 0.5, n_views)) * (360 / n_views)
        elevation = rng.uniform(*RANDOM_ELEVATION_DEG, n_views)
    elif kind == "photos":
        aside = np.where(rng.random(n_views) < SQUARE_SHARE, 0.0, rng.normal(0, ASIDE_DEG, n_views))
        azimuth = rng.choice(SQUARE_AZIMUTH_DEG, n_views) + aside
        elevation = rng.uniform(*PHOTO_ELEVATION_DEG, n_views)
    else:
        start, photo_elevation = rng.uniform(0, 360), rng.uniform(*PHOTO_ELEVATION_DEG)
        shape = int(rng.integers(2**31))
        azimuth, elevation = orbit_angles(kind, photo_elevation, n_frames=n_views, seed=shape)
        azimuth = azimuth + start
    return Trajectory(np.round(azimuth % 360, DIGITS) % 360, np.round(elevation, DIGITS))


def draw_photos(count: int, rng: np.random.Generator) -> Trajectory:
    """Where ``count`` photos of an object are taken from: an orbit "photos", but the last third from any side."""
    shots = draw_trajectory("photos", count, rng)
    anywhere = rng.uniform(0, 360, count)
    aside = np.arange(count) >= count - count // 3
    return Trajectory(
        np.where(aside, np.round(anywhere, DIGITS) % 360, shots.azimuth_deg), shots.elevation_deg
    )


def depths(obj: Object, azimuth_deg: np.ndarray) -> np.ndarray:
    """How deep the object is as seen from each azimuth [n]: its extent along the level line of sight over the
    larger of those across and upright (:func:`sv3d_pipe.geometry.extent.relative_depth`), [n] float64."""
    points = obj.vertices[np.unique(obj.faces)].astype(np.float64)  # [V, 3]
    found = []
    for azimuth in np.radians(azimuth_deg):
        along = points[:, [0, 2]] @ (np.sin(azimuth), np.cos(azimuth))
        across = points[:, [0, 2]] @ (np.cos(azimuth), -np.sin(azimuth))
        found.append(relative_depth(np.column_stack([across, points[:, 1], along])))
    return np.round(found, DIGITS)


def sphere_radius(obj: Object) -> float:
    """The distance from which the object's bounding sphere fills the frame, whatever the view."""
    return round(float(obj.camera_radius()), DIGITS)


def content_radius(
    obj: Object, trajectory: Trajectory, fov_deg: float = FOV_DEG, fill: float = FILL
) -> float:
    """The smallest distance from which no view of the trajectory cuts the object.

    A point (x, y, z) in camera axes turned around the origin is seen at x / (d - z) of the focal length
    from distance d; it stays within ``fill`` of the half frame t = tan(fov / 2) while
    d >= z + max(|x|, |y|) / (fill t). The largest right side over points and views is the distance.
    """
    reach = fill * np.tan(np.radians(fov_deg) / 2)
    points = obj.vertices[np.unique(obj.faces)].astype(np.float64)  # [V, 3]
    nearest = 0.0
    for rotation in trajectory.cameras(1.0).c2w[:, :3, :3].astype(np.float64):
        x, y, z = ((points * rotation[:, i]).sum(1) for i in range(3))
        nearest = max(nearest, float((z + np.maximum(abs(x), abs(y)) / reach).max()))
    return round(nearest, DIGITS)
