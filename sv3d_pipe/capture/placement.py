"""Where the object of a capture is: the similarity that brings it into our world."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from sv3d_pipe.capture.shots import Shot
from sv3d_pipe.capture.vertical import UPRIGHT, find_vertical
from sv3d_pipe.errors import UserError

SPREAD = 1e-4  # least mean squared sine between the viewing rays' directions


@dataclass(frozen=True)
class Placement:
    """world = scale * rotation @ (capture - center).

    Attributes:
        rotation: [3, 3]; center: [3], in the capture's coordinates.
        vertical: how it is known which way is up.
    """

    rotation: np.ndarray
    center: np.ndarray
    scale: float
    vertical: str = UPRIGHT

    @property
    def to_world(self) -> np.ndarray:
        """[4, 4] the similarity as one matrix."""
        matrix = np.eye(4)
        matrix[:3, :3] = self.scale * self.rotation
        matrix[:3, 3] = -self.scale * self.rotation @ self.center
        return matrix

    def place(self, c2w: np.ndarray) -> np.ndarray:
        """[N, 4, 4] cameras of the capture in the world; their axes stay of unit length."""
        placed = np.array(c2w, np.float64)
        placed[:, :3, :3] = self.rotation @ placed[:, :3, :3]
        placed[:, :3, 3] = self.scale * (placed[:, :3, 3] - self.center) @ self.rotation.T
        return placed

    def moved(self, center: np.ndarray, factor: float) -> Placement:
        """The placement that puts the world point ``center`` at the origin and makes all ``factor`` times larger."""
        capture = self.center + self.rotation.T @ center / self.scale
        return replace(self, center=capture, scale=self.scale * factor)


def first_placement(shots: list[Shot]) -> tuple[Placement, float]:
    """A guess from the boxes of the masks: the point they look at, and how large they are there.

    Returns:
        the placement, and the radius of a ball around the origin that should hold the object (about 0.6).
    Raises:
        UserError: no picture shows an object, or the cameras do not look at a common point.
    """
    shown = [(shot, box) for shot in shots if (box := shot.box) is not None]
    if not shown:
        raise UserError("The masks of the pictures are empty; white (or opaque) must mark the object.")
    origins = np.stack([shot.c2w[:3, 3] for shot, _ in shown])
    corners = np.stack([_box_rays(shot, box) for shot, box in shown])  # [N, 5, 3]: the middle, then corners
    center = meeting_point(origins, corners[:, 0])
    toward = center - origins
    distance = np.linalg.norm(toward, axis=-1)
    ahead = np.einsum("ni,ni->n", toward, corners[:, 0]) > 0
    if ahead.mean() < 0.5:
        raise UserError(
            "The cameras look away from each other; transform_matrix must be camera-to-world with OpenGL axes "
            "(x right, y up, looking along -z)."
        )
    cosine = np.einsum("nki,ni->nk", corners[:, 1:], toward / np.maximum(distance, 1e-12)[:, None])
    reach = distance * np.sqrt(np.clip(1 - cosine.min(-1) ** 2, 0, 1))
    radius = float(np.quantile(reach[ahead], 0.9))
    vertical = find_vertical(np.stack([shot.c2w for shot in shots]), center)
    rotation = rotation_between(vertical.up, np.array([0.0, 1.0, 0.0]))
    return Placement(rotation, center, 0.5 / max(radius, 1e-12), vertical.evidence), 0.6


def meeting_point(origins: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """The point [3] nearest to all lines, by distance (not its square), so that stray lines count little.

    Iteratively reweighted least squares; each step solves sum w (I - d d^T) (x - o) = 0.

    Args:
        origins: [N, 3]. directions: [N, 3] unit.
    """
    across = np.eye(3) - directions[:, :, None] * directions[:, None]  # [N, 3, 3]
    if np.linalg.eigvalsh(across.mean(0))[0] < SPREAD:
        raise UserError(
            "The cameras all look along nearly the same line; take pictures from around the object."
        )
    weight = np.ones(len(origins))
    for _ in range(20):
        weighted = weight[:, None, None] * across
        point = np.linalg.solve(weighted.sum(0), np.einsum("nij,nj->i", weighted, origins))
        away = np.linalg.norm(np.einsum("nij,nj->ni", across, point - origins), axis=-1)
        weight = 1 / np.maximum(away, 1e-3 * np.linalg.norm(point - origins, axis=-1))
    return point


def rotation_between(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """[3, 3] the smallest rotation that turns one unit vector into another (Rodrigues)."""
    cosine = float(start @ end)
    if cosine < -1 + 1e-9:  # a half turn about any axis across
        across = np.eye(3)[int(np.abs(start).argmin())]
        across = across - (across @ start) * start
        across /= np.linalg.norm(across)
        return 2 * np.outer(across, across) - np.eye(3)
    x, y, z = np.cross(start, end)
    skew = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + skew + skew @ skew / (1 + cosine)


def capture_from_glb(to_world: np.ndarray, scale: Sequence[float], center: Sequence[float]) -> np.ndarray:
    """[4, 4] from the coordinates of an exported GLB (world = scale * GLB + center) to the capture's.

    Args:
        to_world: [4, 4] from the capture to the world.
        scale, center: [3], export's ``transform``.
    """
    world_from_glb = np.diag([*scale, 1.0])
    world_from_glb[:3, 3] = center
    return np.linalg.inv(to_world) @ world_from_glb


def _box_rays(shot: Shot, box: tuple[int, int, int, int]) -> np.ndarray:
    """[5, 3] unit rays in the capture's axes through the middle and the corners of a box."""
    left, top, right, bottom = box
    xy = [
        ((left + right) / 2, (top + bottom) / 2),
        (left, top),
        (right, top),
        (left, bottom),
        (right, bottom),
    ]
    return shot.lens.unproject(np.array(xy)) @ shot.c2w[:3, :3].T
