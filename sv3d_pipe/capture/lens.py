"""The lens of a captured picture: from rays to pixels and back, with OpenCV's distortion models."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np

from sv3d_pipe.errors import UserError

PERSPECTIVE = ("PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "FULL_OPENCV")
FISHEYE = "OPENCV_FISHEYE"
LARGEST = 1e7  # that any field of a lens may be
BENT, SKEWED = 1e4, 10.0  # largest coefficients k and p; those of a rational model may be in the hundreds
FOCAL = (0.05, 1000.0)  # shortest and longest focal length, in sides of the picture
WIDEST_TAN = 6.0  # rays further than about 80 degrees from the viewing axis are never used


@dataclass(frozen=True)
class Lens:
    """Intrinsics of one picture, in its pixels; pixel centers lie at +0.5.

    Attributes:
        width, height: of the whole picture; fractional when it was shrunk with a part of it.
        fl_x, fl_y, cx, cy: focal lengths and principal point.
        distortion: OpenCV's (k1, k2, p1, p2, k3, k4, k5, k6), or (k1, k2, k3, k4) of a fisheye; empty
            for a plain pinhole.
        fisheye: which of the two models.
    """

    width: float
    height: float
    fl_x: float
    fl_y: float
    cx: float
    cy: float
    distortion: tuple[float, ...] = ()
    fisheye: bool = False

    def scaled(self, width: float, height: float) -> Lens:
        """The lens of the same picture resized to width x height."""
        x, y = width / self.width, height / self.height
        return replace(
            self, width=width, height=height, fl_x=self.fl_x * x, fl_y=self.fl_y * y,
            cx=self.cx * x, cy=self.cy * y,
        )  # fmt: skip

    def project(self, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rays [P, 3] in OpenGL camera axes (looking along -z) to pixels.

        Returns:
            xy [P, 2], y down, and whether the ray meets the picture [P] bool; xy means nothing where
            it does not.
        """
        depth = -rays[:, 2].astype(np.float64)
        ahead = depth > 1e-6
        flat = np.stack([rays[:, 0], -rays[:, 1]], -1) / np.where(ahead, depth, 1)[:, None]
        # Beyond the border a distortion polynomial may turn back into the picture.
        ahead &= np.einsum("pi,pi->p", flat, flat) <= self._farthest**2
        flat = self._distorted(np.where(ahead[:, None], flat, 0))
        xy = flat * (self.fl_x, self.fl_y) + (self.cx, self.cy)
        inside = ((xy >= 0) & (xy < (self.width, self.height))).all(-1)
        return xy, ahead & inside

    def unproject(self, xy: np.ndarray) -> np.ndarray:
        """Unit rays [P, 3] in OpenGL camera axes through pixel coordinates [P, 2]."""
        flat = self._flat(xy)
        rays = np.stack([flat[:, 0], -flat[:, 1], -np.ones(len(flat))], -1)
        return rays / np.linalg.norm(rays, axis=-1, keepdims=True)

    @cached_property
    def _farthest(self) -> float:
        """Largest tangent of the angle to the viewing axis that can matter.

        There the lens reaches the picture's farthest corner, or its distortion stops growing outward.
        """
        corners = np.array([(x, y) for x in (0, self.width) for y in (0, self.height)])
        corner = np.linalg.norm((corners - (self.cx, self.cy)) / (self.fl_x, self.fl_y), axis=-1).max()
        tangent = np.linspace(0, WIDEST_TAN, 4001)
        bent = np.linalg.norm(self._distorted(np.stack([tangent, 0 * tangent], -1)), axis=-1)
        ends = (np.diff(bent) <= 0) | (bent[1:] > 1.05 * corner)
        return float(tangent[1:][ends][0]) if ends.any() else WIDEST_TAN

    def _flat(self, xy: np.ndarray) -> np.ndarray:
        """Undistorted coordinates [P, 2] on the plane at distance 1, y down.

        They mean little for pixels that no ray reaches through this lens.
        """
        flat = (np.asarray(xy, np.float64) - (self.cx, self.cy)) / (self.fl_x, self.fl_y)
        if not self.distortion:
            return flat
        points, identity = flat[:, None], np.eye(3)
        if self.fisheye:
            return cv2.fisheye.undistortPoints(points, identity, np.array(self.distortion))[:, 0]
        found = cv2.undistortPoints(points, identity, np.array(self.distortion))[:, 0]
        for _ in range(20):  # OpenCV stops after five steps of the same iteration
            found = np.clip(found + flat - self._distorted(found), -WIDEST_TAN, WIDEST_TAN)
        return found

    def _distorted(self, flat: np.ndarray) -> np.ndarray:
        """Where the lens puts points [P, 2] of the plane at distance 1."""
        if not self.distortion:
            return flat
        if self.fisheye:
            return cv2.fisheye.distortPoints(flat[:, None], np.eye(3), np.array(self.distortion))[:, 0]
        points = np.concatenate([flat, np.ones((len(flat), 1))], -1)
        zero = np.zeros(3)
        return cv2.projectPoints(points, zero, zero, np.eye(3), np.array(self.distortion))[0][:, 0]


def read_lens(values: dict, width: int, height: int, name: Path) -> Lens:
    """The lens of a picture from the fields of a ``transforms.json``.

    Args:
        values: the document's fields with the frame's own on top.
        width, height: of the picture file; if the fields w and h differ from them, the intrinsics are
            scaled (nerfstudio's downscaled pictures).
        name: of the picture, for messages.
    Raises:
        UserError: no focal length, a size of another shape, or a lens that is not supported.
    """
    said_width, said_height = _number(values, "w", name) or width, _number(values, "h", name) or height
    if min(said_width, said_height) < 1:
        raise UserError(f"w and h of {name} must be at least 1, not {said_width:g} and {said_height:g}.")
    x, y = width / said_width, height / said_height
    if abs(x / y - 1) > 0.02:
        raise UserError(
            f"{name} has {width} x {height} pixels, but its transforms say {said_width:g} x {said_height:g}; "
            "correct w and h."
        )
    fl_x = _focal(values, "x", said_width, name)
    fl_y = _focal(values, "y", said_height, name)
    if fl_x is None and fl_y is None:
        raise UserError(
            f"The transforms give no focal length for {name}; they need fl_x (in pixels) or camera_angle_x "
            "(in radians)."
        )
    cx, cy = _number(values, "cx", name), _number(values, "cy", name)
    if abs(cx or 0) > 10 * said_width or abs(cy or 0) > 10 * said_height:
        raise UserError(f"cx and cy of {name} lie far outside of the picture; they must be in pixels.")
    distortion, fisheye = _distortion(values, name)
    lens = Lens(
        said_width, said_height, fl_x or fl_y, fl_y or fl_x,
        said_width / 2 if cx is None else cx, said_height / 2 if cy is None else cy, distortion, fisheye,
    )  # fmt: skip
    return lens.scaled(width, height)


def _focal(values: dict, axis: str, side: float, name: Path) -> float | None:
    """Focal length in pixels along an axis: the field fl_x (fl_y), or from camera_angle_x (camera_angle_y)."""
    focal = _number(values, f"fl_{axis}", name)
    if focal is None:
        angle = _number(values, f"camera_angle_{axis}", name)
        if angle is None:
            return None
        if not 0 < angle < math.pi:
            raise UserError(
                f"camera_angle_{axis} of {name} must lie between 0 and pi radians, not {angle:g}."
            )
        focal = 0.5 * side / math.tan(angle / 2)
    if focal <= 0:
        raise UserError(f"fl_{axis} of {name} must be above 0, not {focal:g}.")
    if not FOCAL[0] <= focal / side <= FOCAL[1]:
        raise UserError(
            f"fl_{axis} of {name} is {focal:g} pixels in a picture of {side:g}, which no lens has; it must be in pixels."
        )
    return focal


def _distortion(values: dict, name: Path) -> tuple[tuple[float, ...], bool]:
    """OpenCV's coefficients, and whether they are a fisheye's."""
    model = str(values.get("camera_model") or "OPENCV").upper()
    fisheye = model == FISHEYE or bool(values.get("is_fisheye"))
    if not fisheye and model not in PERSPECTIVE:
        raise UserError(
            f"camera_model {model} of {name} is not supported; undistort the pictures to a pinhole camera first."
        )
    wanted = ("k1", "k2", "k3", "k4") if fisheye else ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6")
    found = tuple(_number(values, key, name) or 0.0 for key in wanted)
    if any(abs(value) > (BENT if key[0] == "k" else SKEWED) for key, value in zip(wanted, found)):
        raise UserError(
            f"The distortion of {name} is so large that its picture could not be used; correct it."
        )
    if not fisheye and model != "FULL_OPENCV" and any(found[5:]):
        raise UserError(
            f"k4, k5 and k6 of {name} are supported only with camera_model FULL_OPENCV or a fisheye; undistort "
            "the pictures first."
        )
    return (found if fisheye or any(found) else ()), fisheye


def _number(values: dict, key: str, name: Path) -> float | None:
    value = values.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= LARGEST:
        raise UserError(f"{key} of {name} must be a number of at most {LARGEST:g}, not {str(value)[:40]}.")
    return float(value)
