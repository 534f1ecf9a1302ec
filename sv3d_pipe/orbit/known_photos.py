"""What further photos of the object are good for: they say where its outline is, and take painted frames' places."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np

from sv3d_pipe.artifacts import FurtherPhoto, Photo, Views
from sv3d_pipe.cameras import Cameras
from sv3d_pipe.geometry.common_shape import CommonShape
from sv3d_pipe.geometry.outlines import Outline
from sv3d_pipe.geometry.registration import Registration, register
from sv3d_pipe.pictures import resize_rgba
from sv3d_pipe.prep.one_against_all import filled
from sv3d_pipe.road.context import Context

NEAR_DEG = 12.0  # a painted frame so near to a photo tells nothing that the photo does not
LOOSE = 0.25  # cells outside of the common shape from which a painted frame's pixel is none of the object's
# Misfit and strain of a view above which it is warned of: no trial with photos of one object, half of them taken 5
# degrees off, came above .014 and 2.83 (72, twelve objects of the training families).
CONTRADICTS, STRAINED = 0.04, 3.0
ROOM = 0.48  # of a frame's side: how far from its middle an object may reach


def locate(photo: Photo, elevation_deg: float) -> Registration:
    """From where further photos, and last the first one, were taken, and where in their frames they are seen.

    Args:
        elevation_deg: of the first photo, and of those that were not told theirs.
    """
    pictures = [*(other.rgba for other in photo.further), photo.rgba]
    azimuth_deg = [*(other.azimuth_deg for other in photo.further), 0.0]
    alphas = np.stack([rgba[..., 3] for rgba in pictures])
    return register(
        alphas, np.array(azimuth_deg), np.array([*_elevations(photo, elevation_deg), elevation_deg])
    )


def taken_from(photo: Photo, elevation_deg: float, found: Registration) -> Photo:
    """The photo with the azimuths and elevations of further ones that were found; arguments as of :func:`locate`."""
    turns = np.degrees(found.turn[:-1, :2])
    further = [
        replace(other, azimuth_deg=other.azimuth_deg + around, elevation_deg=elevation + up)
        for other, elevation, (around, up) in zip(photo.further, _elevations(photo, elevation_deg), turns)
    ]
    return replace(photo, further=tuple(further))


def _elevations(photo: Photo, elevation_deg: float) -> list[float]:
    """What was told of further photos, or the first one's."""
    return [elevation_deg if other.elevation_deg is None else other.elevation_deg for other in photo.further]


def facts(further: tuple[FurtherPhoto, ...], found: Registration, context: Context) -> list[dict[str, Any]]:
    """What was found of each further photo, for the stage's record; warns of those that contradict the rest."""
    told = []
    for other, turn, scale, misfit, strain in zip(
        further, found.turn, found.scale, found.misfit, found.strain
    ):
        azimuth, elevation = np.degrees(turn[:2])
        if misfit > CONTRADICTS or strain > STRAINED:
            context.warn(
                f"The view {other.name} does not fit the other photos: even turned by {azimuth:.0f} degrees around and"
                f" {elevation:.0f} degrees up, {misfit:.0%} of its outline would have to be elsewhere; check its angle,"
                " its cut-out, and that it shows the same object."
            )
        told.append(
            {
                "view": other.name,
                "azimuth_change_deg": round(float(azimuth), 2),
                "elevation_change_deg": round(float(elevation), 2),
                "scale": round(float(scale), 4),
                "misfit": round(float(misfit), 4),
            }
        )
    return told


def with_photos(views: Views, photo: Photo, found: Registration) -> Views:
    """Painted views, agreeing with the photos in outline, and the photos among them.

    Painted frames near a further photo give it their place. The last frames are smaller copies of the photos, the
    first photo's at the very end. Where an object is too long for the frames from some side, all see more around it.

    Args:
        views: painted frames, the last one the photo.
    """
    pictures = [*(other.rgba for other in photo.further), photo.rgba]
    reach = max(_reach(rgba[..., 3], *place) for rgba, *place in zip(pictures, found.scale, found.shift))
    more = max(1.0, reach / ROOM)  # as much as the frames must see
    photos = np.stack(
        [_placed(rgba, *place, more) for rgba, *place in zip(pictures, found.scale, found.shift)]
    )
    fov_deg = np.degrees(2 * np.arctan(more * np.tan(np.radians(views.cameras.fov_deg) / 2)))
    wide = Cameras(found.cameras.c2w, float(fov_deg))

    kept = ~near(views.cameras[:-1], found.cameras[:-1])
    cameras = Cameras(views.cameras.c2w[:-1][kept], float(fov_deg))
    frames = np.stack([_padded(frame, more) for frame in views.rgba[:-1][kept]])
    known = _padded(np.ones((*views.rgba.shape[1:3], 1), bool), more)[..., 0]
    frames = agreeing(frames, cameras, known, photos[..., 3], wide)
    small = np.stack([resize_rgba(rgba, frames.shape[1]) for rgba in photos])
    seen = np.concatenate([np.tile(known, (len(frames), 1, 1)), np.ones(small.shape[:3], bool)])
    return replace(
        views,
        rgba=np.concatenate([frames, small]),
        cameras=cameras.followed_by(wide),
        seen=None if seen.all() else seen,
        photos=photos,
        photo_cameras=wide,
    )


def near(cameras: Cameras, photos: Cameras) -> np.ndarray:
    """[N] bool: the cameras look from within NEAR_DEG of one of the photos'."""
    toward, known = (c.origins / np.linalg.norm(c.origins, axis=-1, keepdims=True) for c in (cameras, photos))
    return (toward @ known.T).max(1) > np.cos(np.radians(NEAR_DEG))


def agreeing(
    frames: np.ndarray,  # [N, S, S, 4]
    cameras: Cameras,
    known: np.ndarray,  # [S, S] bool: what the frames know
    alphas: np.ndarray,  # [K, P, P] of the photos
    photo_cameras: Cameras,
) -> np.ndarray:  # [N, S, S, 4]
    """Painted frames without what the photos' outlines exclude, and with what these lack, in the colors around."""
    radius = photo_cameras[-1].visible_radius
    outlines = [[Outline.of(alpha) for alpha in many] for many in (frames[..., 3], alphas)]
    shape = CommonShape.of(outlines[0], cameras, outlines[1], photo_cameras, radius)
    out = frames.copy()
    for n, camera in enumerate(cameras):
        inside = shape.seen(camera, frames.shape[1])
        out[n, ..., 3] *= inside > -LOOSE
        missing = known & (inside > 0) & (out[n, ..., 3] < 0.5)
        if missing.any() and (out[n, ..., 3] >= 0.5).any():
            out[n] = filled(out[n], missing)
    return out


def _reach(alpha: np.ndarray, scale: float, shift: np.ndarray) -> float:
    """How far from its frame's middle a photo's object reaches, as a share of the side."""
    rows, columns = (np.flatnonzero((alpha > 0.5).any(axis)) for axis in (1, 0))
    ends = [
        scale * ((edge[[0, -1]] + (0, 1)) / len(alpha) - 0.5) + by for edge, by in zip((columns, rows), shift)
    ]
    return float(np.abs(np.concatenate(ends)).max())


def _placed(rgba: np.ndarray, scale: float, shift: np.ndarray, more: float) -> np.ndarray:
    """A picture [S, S, 4] brought into its frame, of which ``more`` times as much is seen."""
    size = len(rgba)
    factor = scale / more
    if factor == 1 and not np.any(shift):
        return rgba
    premultiplied = np.concatenate([rgba[..., :3] * rgba[..., 3:], rgba[..., 3:]], -1)
    if factor < 1:  # first to its size, so that no pixel is skipped
        small = max(1, round(factor * size))
        premultiplied = cv2.resize(premultiplied, (small, small), interpolation=cv2.INTER_AREA)
    step = factor * size / len(premultiplied)
    to = size / 2 + np.asarray(shift) * size / more - 0.5
    middle = len(premultiplied) / 2 - 0.5
    matrix = np.array([[step, 0, to[0] - step * middle], [0, step, to[1] - step * middle]])
    moved = cv2.warpAffine(premultiplied, matrix, (size, size), flags=cv2.INTER_LINEAR)
    alpha = moved[..., 3:]
    rgb = np.where(alpha > 1 / 510, moved[..., :3] / np.maximum(alpha, 1 / 510), 0)
    return np.clip(np.concatenate([rgb, np.where(alpha > 1 / 510, alpha, 0)], -1), 0, 1).astype(np.float32)


def _padded(picture: np.ndarray, more: float) -> np.ndarray:
    """A picture [S, S, C] with a border of zeros, so that it is ``more`` times as wide."""
    margin = round((more - 1) / 2 * len(picture))
    return np.pad(picture, ((margin, margin), (margin, margin), (0, 0)))
