"""An object to be placed in a scene: its mesh, and what the photo shows of it; and where it was placed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sv3d_pipe.placing.photo_camera import Window

OPAQUE = 0.5  # share of the largest alpha above which a pixel is the object


@dataclass(frozen=True)
class Subject:
    """A mesh, and the cut-out that it was made from.

    Attributes:
        name: of its node.
        vertices: [V, 3] float32, +y up, +z towards the camera of the photo. faces: [F, 3] int64.
        alpha: [S, S] the prepared picture's.
        crop: left, top and side of the square that it shows, in pixels of the photo.
    """

    name: str
    vertices: np.ndarray
    faces: np.ndarray
    alpha: np.ndarray
    crop: tuple[float, float, float]

    @property
    def to_photo(self) -> np.ndarray:
        """[3, 3] from the prepared picture's pixel coordinates to the photo's."""
        left, top, side = self.crop
        scale = side / len(self.alpha)
        return np.array([[scale, 0, left], [0, scale, top], [0, 0, 1]])

    @property
    def middle(self) -> tuple[float, float]:
        """Pixel of the photo that the prepared picture's middle shows: there the mesh's camera looks."""
        left, top, side = self.crop
        return left + side / 2, top + side / 2

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom of the object in pixels of the photo."""
        solid = self.alpha > OPAQUE * self.alpha.max()
        columns, rows = np.flatnonzero(solid.any(0)), np.flatnonzero(solid.any(1))
        left, top, side = self.crop
        scale = side / len(self.alpha)
        return (
            left + scale * columns[0], top + scale * rows[0],
            left + scale * (columns[-1] + 1), top + scale * (rows[-1] + 1),
        )  # fmt: skip

    def mask(self, window: Window) -> np.ndarray:
        """[size, size] bool: the object as the photo shows it, in a window."""
        shown = window.shows(self.alpha, self.to_photo)
        solid = shown > OPAQUE * self.alpha.max()
        return solid if solid.any() else shown > 0  # what is thinner than a pixel of the window


@dataclass(frozen=True)
class Pose:
    """Where an object stands.

    Attributes:
        rotation: [3, 3] of the mesh. scale: of the mesh. position: [3] of its origin.
        on_ground: whether it was placed with its lowest point on the ground.
    """

    rotation: np.ndarray
    scale: float
    position: np.ndarray
    on_ground: bool = True

    def places(self, vertices: np.ndarray) -> np.ndarray:
        """[V, 3] float32 vertices of the mesh, in the scene."""
        turned = vertices.astype(np.float64) @ self.rotation.T
        return (self.scale * turned + self.position).astype(np.float32)

    @property
    def quaternion(self) -> list[float]:
        """The rotation as x, y, z, w: glTF's order."""
        from scipy.spatial.transform import Rotation

        return Rotation.from_matrix(self.rotation).as_quat().tolist()
