"""Pictures of any lens and pose as views of our one camera model: square, one field of view, aimed at the origin.

Turning a camera about its own center and changing its lens only moves pixels, so every capture becomes
ordinary :class:`~sv3d_pipe.artifacts.Views` by resampling, and no later stage has to know of lenses.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from sv3d_pipe.artifacts import Views
from sv3d_pipe.cameras import Cameras
from sv3d_pipe.capture.placement import Placement, rotation_between
from sv3d_pipe.capture.shots import Shot

MARGIN = 1.04  # the seen ball beside the object's
NEAREST = (
    1.4  # camera distances below this many ball radii are too near: the field of view would pass 90 degrees
)


def too_near(shots: list[Shot], placement: Placement, reach: float) -> np.ndarray:
    """[N] bool: cameras that stand so near that they cannot see the ball of radius ``reach`` whole."""
    origins = placement.place(np.stack([shot.c2w for shot in shots]))[:, :3, 3]
    return np.linalg.norm(origins, axis=-1) < NEAREST * MARGIN * reach


def aimed_cameras(shots: list[Shot], placement: Placement, reach: float) -> Cameras:
    """World cameras at the shots' places, turned to the origin by the smallest rotation.

    Their common field of view is the one in which the nearest camera just sees the ball of radius ``reach``.
    """
    c2w = placement.place(np.stack([shot.c2w for shot in shots]))
    distance = np.linalg.norm(c2w[:, :3, 3], axis=-1)
    for matrix, far in zip(c2w, distance):
        matrix[:3, :3] = rotation_between(matrix[:3, 2], matrix[:3, 3] / far) @ matrix[:3, :3]
    half = np.arcsin(min(MARGIN * reach / distance.min(), 1 / NEAREST))
    return Cameras(c2w.astype(np.float32), float(np.degrees(2 * half)))


def native_size(shots: list[Shot], cameras: Cameras) -> float:
    """Side of the square views at which their pixels are as fine as the shots' own (median)."""
    focal = np.median([(shot.lens.fl_x * shot.lens.fl_y) ** 0.5 for shot in shots])
    return float(2 * focal * np.tan(np.radians(cameras.fov_deg) / 2))


def rectify(shots: list[Shot], placement: Placement, reach: float, size: int, on_view=lambda: None) -> Views:
    """The shots as views of the world.

    Args:
        reach: radius of the ball around the origin that the views show.
        on_view: called after each.
    Returns:
        views with ``seen`` where the border of a picture cuts the object, and ``to_world``.
    """
    cameras = aimed_cameras(shots, placement, reach)
    rgba = np.zeros((len(shots), size, size, 4), np.float32)
    seen = np.ones((len(shots), size, size), bool)
    for n, shot in enumerate(shots):
        # World rays of the view, in the axes of the camera that took the picture.
        rays = cameras[n].rays(size)[1].reshape(-1, 3) @ (placement.rotation @ shot.c2w[:3, :3])
        rgba[n], known = resample(_coarser(shot, cameras.focal(size)), rays, size)
        if shot.cut:
            seen[n] = known
        on_view()
    return Views(rgba, cameras, seen=None if seen.all() else seen, to_world=placement.to_world)


def resample(shot: Shot, rays: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """What a shot shows along rays [size * size, 3] in its camera's axes.

    Returns:
        straight-alpha [size, size, 4], transparent beside the picture; and [size, size] bool, true where
        the ray meets the picture and not just its border.
    """
    xy, inside = shot.lens.project(rays)
    inside = inside.reshape(size, size)
    at = (xy - 0.5 - (shot.left, shot.top)).astype(np.float32).reshape(size, size, 2)  # OpenCV: centers at 0
    at[~inside] = -10
    picture = np.pad(shot.rgba, ((2, 2), (2, 2), (0, 0)))
    _continue_over_border(picture, shot)
    found = cv2.remap(
        picture.astype(np.float32) / 255, at + 2, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_CONSTANT
    )
    alpha = np.clip(found[..., 3:], 0, 1)
    rgb = np.clip(found[..., :3], 0, alpha) / np.maximum(alpha, 1e-6)
    inside = cv2.erode(inside.astype(np.uint8), np.ones((3, 3), np.uint8), borderValue=1) > 0
    rgba = np.where(inside[..., None] & (alpha > 0.5 / 255), np.concatenate([rgb, alpha], -1), 0)
    return rgba, inside


def _continue_over_border(picture: np.ndarray, shot: Shot) -> None:
    """Repeat the outermost pixels of a cut object, so that interpolation does not mix them with nothing."""
    height, width = shot.rgba.shape[:2]
    if shot.left == 0:
        picture[:, :2] = picture[:, 2:3]
    if shot.left + width > shot.lens.width - 0.01:
        picture[:, -2:] = picture[:, -3:-2]
    if shot.top == 0:
        picture[:2] = picture[2:3]
    if shot.top + height > shot.lens.height - 0.01:
        picture[-2:] = picture[-3:-2]


def _coarser(shot: Shot, focal: float) -> Shot:
    """The shot shrunk to about the focal length at which it is looked up, so that fine detail does not flicker."""
    share = focal / (shot.lens.fl_x * shot.lens.fl_y) ** 0.5
    height, width = shot.rgba.shape[:2]
    smaller = (max(1, round(width * share)), max(1, round(height * share)))
    if share > 0.7:
        return shot
    x, y = smaller[0] / width, smaller[1] / height  # the part's own: its corners stay corners
    lens = shot.lens.scaled(shot.lens.width * x, shot.lens.height * y)
    rgba = cv2.resize(shot.rgba, smaller, interpolation=cv2.INTER_AREA)
    return replace(shot, lens=lens, rgba=rgba, left=shot.left * x, top=shot.top * y)
