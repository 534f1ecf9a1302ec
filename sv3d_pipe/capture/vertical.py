"""Which way is up in a capture: the cameras' own upward axes, or what else tells when these contradict each other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SURE = 0.5  # length of a mean of unit vectors that says which way they point together
FLAT = 0.05  # spread of the cameras across their plane beside that in it, as variances
ABOVE = 0.1  # mean height of the cameras above the object, in mean distances, that says which side is up
UPRIGHT_DEG = 35.0  # a coordinate axis this near to the vertical is the vertical
Z_UP = np.array([0.0, 0.0, 1.0])


@dataclass(frozen=True)
class Vertical:
    """The upward direction of a capture.

    Attributes:
        up: [3] unit vector in the capture's coordinates.
        evidence: what it follows from, as a sentence's end; :data:`UPRIGHT` for most captures.
    """

    up: np.ndarray
    evidence: str


UPRIGHT = "from the cameras, which are held upright"
SIDEWAYS = "from the cameras, whose pictures lie on their side"
PLANE = "from the plane in which the cameras stand"
AXES = "z, as in most captures, since the cameras do not tell"


def find_vertical(
    c2w: np.ndarray,  # [N, 4, 4]
    center: np.ndarray,  # [3] of the object
) -> Vertical:
    """The capture's vertical; a coordinate axis if one is near.

    Cameras that go around an object have upward axes whose mean points up, and is as long as they agree. Pictures
    stored sideways have rightward axes that do. Where neither mean is long (cameras held every way, or looking
    straight down), the vertical is the normal of the plane in which they stand. Its sense is that on which
    they stand, or else that of the z axis.
    """
    above = (c2w[:, :3, 3] - center).mean(0)
    above /= max(np.linalg.norm(c2w[:, :3, 3] - center, axis=-1).mean(), 1e-12)
    means = c2w[:, :3, :2].mean(0)  # [3, 2] of the rightward and the upward axes
    right, up = means.T
    lengths = np.linalg.norm(means, axis=0)
    if lengths[1] >= max(SURE, lengths[0]):
        return Vertical(_snapped(up / lengths[1]), UPRIGHT)
    if lengths[0] >= SURE:
        return Vertical(_snapped(_toward(right / lengths[0], above)), SIDEWAYS)
    spread, axes = np.linalg.eigh(np.cov(c2w[:, :3, 3].T))
    if len(c2w) > 3 and spread[0] < FLAT * spread[1]:
        return Vertical(_snapped(_toward(axes[:, 0], above)), PLANE)
    return Vertical(Z_UP, AXES)


def _toward(axis: np.ndarray, above: np.ndarray) -> np.ndarray:
    """The axis or its opposite: that on whose side the cameras stand, else that which goes with z (or x + y)."""
    side = axis @ above if abs(axis @ above) > ABOVE else axis @ (0.1, 0.1, 1.0)
    return axis if side >= 0 else -axis


def _snapped(up: np.ndarray) -> np.ndarray:
    axis = int(np.abs(up).argmax())
    return np.sign(up[axis]) * np.eye(3)[axis] if abs(up[axis]) > np.cos(np.radians(UPRIGHT_DEG)) else up
