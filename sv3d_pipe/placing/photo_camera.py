"""The camera of a whole photo above the ground that its objects stand on, and windows onto parts of the picture."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from sv3d_pipe.cameras import FOV_DEG, Cameras, orbit

FILM_MM = float(np.hypot(36, 24))  # diagonal of the film that focal lengths "in 35 mm film" refer to
FOCAL_MM = (8.0, 800.0)  # of lenses that exist; EXIF may hold anything
WIDER = 1.4  # a window's side over the longer side of what it shows


@dataclass(frozen=True)
class PhotoCamera:
    """A pinhole at (0, 1, 0), one unit above the ground y = 0, that looks along -z and down.

    Its axis goes through the middle of the photo. Pixel coordinates have their origin at the upper left corner of
    the photo, and pixel centers lie at +0.5.

    Attributes:
        width, height: of the photo in pixels.
        focal: focal length in pixels.
        elevation_deg: how far the axis points below the horizon.
    """

    width: int
    height: int
    focal: float
    elevation_deg: float

    @classmethod
    def of(
        cls, width: int, height: int, elevation_deg: float, focal_35mm: float | None = None
    ) -> PhotoCamera:
        """The camera of an upright photo.

        Args:
            focal_35mm: focal length for film of 36 x 24 mm with the same diagonal; where it is not known, or no
                lens has it, 33.8 degrees across the longer side are assumed, SV3D's field of view.
        """
        if focal_35mm is not None and FOCAL_MM[0] <= focal_35mm <= FOCAL_MM[1]:
            focal = focal_35mm / FILM_MM * float(np.hypot(width, height))
        else:
            focal = max(width, height) / 2 / float(np.tan(np.radians(FOV_DEG) / 2))
        return cls(width, height, focal, elevation_deg)

    @cached_property
    def c2w(self) -> np.ndarray:
        """[4, 4] float32 camera to world, in OpenGL's axes."""
        c2w = orbit([0.0], self.elevation_deg).c2w[0].copy()
        c2w[:3, 3] = (0, 1, 0)
        return c2w

    @property
    def fov_deg(self) -> float:
        """Field of view across the longer side."""
        return float(2 * np.degrees(np.arctan(max(self.width, self.height) / 2 / self.focal)))

    @property
    def yfov_deg(self) -> float:
        """Field of view from bottom to top."""
        return float(2 * np.degrees(np.arctan(self.height / 2 / self.focal)))

    def direction(self, x: float, y: float) -> np.ndarray:
        """[3] unit vector in the world towards a pixel coordinate."""
        local = np.array([x - self.width / 2, self.height / 2 - y, -self.focal])
        world = self.c2w[:3, :3].astype(np.float64) @ local
        return world / np.linalg.norm(world)

    def elevation_of(self, x: float, y: float) -> float:
        """Degrees from which what is seen at a pixel coordinate is looked at, positive from above."""
        return float(-np.degrees(np.arcsin(self.direction(x, y)[1])))

    def facing(self, x: float, y: float) -> np.ndarray:
        """[3, 3] rotation of a mesh, made from what is around a pixel coordinate, to how the photo shows it.

        Its front, +z, is turned to this camera. And it is rolled back: uprights beside the middle of a photo that looks
        down lean outwards, and so does a mesh that was made from a part of the photo as it is.
        """
        ahead = self.direction(x, y)
        axis = np.cross(-self.c2w[:3, 2], ahead)  # of the shortest turn from the middle of the photo
        cosine = -self.c2w[:3, 2] @ ahead
        cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
        shortest = np.eye(3) + cross + cross @ cross / (1 + cosine)
        return shortest @ self.c2w[:3, :3] @ _upright(ahead).T @ about_y(_bearing_deg(ahead))

    def square(self, size: int) -> Window:
        """The whole photo in the middle of a square of size x size pixels."""
        scale = size / max(self.width, self.height)
        shift = (size - scale * self.width) / 2, (size - scale * self.height) / 2
        to_pixels = np.array([[scale, 0, shift[0]], [0, scale, shift[1]], [0, 0, 1]])
        return Window(Cameras(self.c2w[None], self.fov_deg), size, to_pixels)

    def window(self, box: tuple[float, float, float, float], size: int) -> Window:
        """What a camera in the same place sees that is turned upright towards a box of the photo.

        Args:
            box: left, top, right, bottom in pixels of the photo. size: side of the window in pixels.
        """
        left, top, right, bottom = box
        c2w = self.c2w.copy()
        c2w[:3, :3] = _upright(self.direction((left + right) / 2, (top + bottom) / 2))
        corners = np.stack(
            [self.direction(x, y) for x in (left, right) for y in (top, bottom)]
        )  # [4, 3], never behind: a photo's field of view is below 180 degrees
        local = corners @ c2w[:3, :3]
        reach = WIDER * np.abs(local[:, :2] / -local[:, 2:]).max()
        cameras = Cameras(c2w[None], float(2 * np.degrees(np.arctan(reach))))
        turn = c2w[:3, :3].astype(np.float64).T @ self.c2w[:3, :3]
        own = np.array([[self.focal, 0, self.width / 2], [0, -self.focal, self.height / 2], [0, 0, 1]])
        focal = cameras.focal(size)
        theirs = np.array([[focal, 0, size / 2], [0, -focal, size / 2], [0, 0, 1]])
        flip = np.diag([1.0, 1.0, -1.0])  # of the axis that points back, for depths in front of the camera
        return Window(cameras, size, theirs @ flip @ turn @ flip @ np.linalg.inv(own))


def about_y(turn_deg: float) -> np.ndarray:
    """[3, 3] rotation about +y, counter-clockwise seen from above."""
    cosine, sine = np.cos(np.radians(turn_deg)), np.sin(np.radians(turn_deg))
    return np.array([[cosine, 0, sine], [0, 1, 0], [-sine, 0, cosine]])


def _bearing_deg(ahead: np.ndarray) -> float:
    """The turn about +y of what faces a camera that looks along a direction."""
    return float(np.degrees(np.arctan2(-ahead[0], -ahead[2])))


def _upright(ahead: np.ndarray) -> np.ndarray:
    """[3, 3] axes (right, up, back) of an upright camera that looks along a direction."""
    return (
        orbit([_bearing_deg(ahead)], float(np.degrees(np.arcsin(-ahead[1]))))
        .c2w[0, :3, :3]
        .astype(np.float64)
    )


@dataclass(frozen=True)
class Window:
    """A square picture of a part of the photo, or of all of it, seen from where the photo was taken.

    Attributes:
        cameras: its camera, N = 1. size: side in pixels.
        from_photo: [3, 3] homography from the photo's pixel coordinates to the window's.
    """

    cameras: Cameras
    size: int
    from_photo: np.ndarray

    def shows(self, picture: np.ndarray, to_photo: np.ndarray) -> np.ndarray:
        """[size, size] float32: a picture [h, w] of a part of the photo, as it is seen here; 0 elsewhere.

        Args:
            to_photo: [3, 3] from the picture's pixel coordinates to the photo's.
        """
        centers = np.array(
            [[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]]
        )  # OpenCV counts from the first pixel's center
        matrix = np.linalg.inv(centers) @ self.from_photo @ to_photo @ centers
        return cv2.warpPerspective(picture.astype(np.float32), matrix, (self.size, self.size))
