"""Small changes of cameras: about the object, and about themselves."""

from __future__ import annotations

import numpy as np

from sv3d_pipe.cameras import Cameras

POSE = 6  # numbers of a change


def moved(cameras: Cameras, change: np.ndarray) -> Cameras:
    """Cameras turned about the origin, then about themselves.

    Args:
        change: [N, 6] added azimuth and elevation, clockwise turn of the picture (radians), log of the factor of the
            distance, and how far the picture moves to the right and down, as shares of its side.
    """
    azimuth, elevation, roll, distance, pan, tilt = np.asarray(change, np.float64).T
    focal = cameras.focal(1)
    pan, tilt = np.arctan(pan / focal), np.arctan(tilt / focal)
    c2w = cameras.c2w.astype(np.float64)
    x, y, z = np.eye(3)
    about = _rotation(np.tile(y, (len(c2w), 1)), azimuth) @ _rotation(c2w[:, :3, 0], -elevation)
    own = _rotation(z, roll) @ _rotation(y, pan) @ _rotation(x, tilt)
    c2w[:, :3, 3] = np.einsum("nij,nj->ni", about, c2w[:, :3, 3]) * np.exp(distance)[:, None]
    c2w[:, :3, :3] = about @ c2w[:, :3, :3] @ own
    return Cameras(c2w.astype(np.float32), cameras.fov_deg)


def _rotation(axis: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """[N, 3, 3] right-handed turns by angle [N] about unit axes [3] or [N, 3] (Rodrigues)."""
    x, y, z = np.broadcast_to(axis, (len(angle), 3)).T
    zero = np.zeros_like(x)
    cross = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(-1, 3, 3)
    s, c = np.sin(angle)[:, None, None], 1 - np.cos(angle)[:, None, None]
    return np.eye(3) + s * cross + c * cross @ cross
