"""What further photos of the object are good for: they say where its outline is, and take painted frames' places."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np

from sv3d_pipe.artifacts import OtherPhoto, Photo, Views
from sv3d_pipe.cameras import Cameras
from sv3d_pipe.geometry.hull import MASK_LEVEL, cell_centers, dilated, pixels_of
from sv3d_pipe.geometry.registration import Registration, register
from sv3d_pipe.pictures import resize_rgba
from sv3d_pipe.prep.one_against_all import filled
from sv3d_pipe.road.context import Context

NEAR_DEG = 12.0  # a painted frame so near to a photo tells nothing that the photo does not
GRID = 72  # cells per side in which outlines are compared
AGREE = 0.85  # share of the painted frames that must show a cell for it to be taken as solid
AS_LIKELY = 0.1  # of cells in front of and behind a pixel: how far below the best of them also count
CONTRADICTS = 0.15  # misfit of a view from which it is warned of


def locate(photo: Photo, elevation_deg: float) -> Registration:
    """Where the photo and the others, which stand before it, were taken from.

    Args:
        elevation_deg: of the photo, and of others that were not told theirs.
    """
    pictures = [*(other.rgba for other in photo.others), photo.rgba]
    azimuth = [*(other.azimuth_deg for other in photo.others), 0.0]
    told = [elevation_deg if other.elevation_deg is None else other.elevation_deg for other in photo.others]
    alphas = np.stack([rgba[..., 3] for rgba in pictures])
    return register(alphas, np.array(azimuth), np.array([*told, elevation_deg]))


def facts(others: tuple[OtherPhoto, ...], found: Registration, context: Context) -> list[dict[str, Any]]:
    """What was found of each further photo, for the stage's record; warns of those that contradict the rest."""
    told = []
    for other, change, misfit in zip(others, found.change, found.misfit):
        if misfit > CONTRADICTS:
            context.warn(
                f"The view {other.name} does not fit the other photos: {misfit:.0%} of its outline would have to be"
                " elsewhere; check its angle, its cut-out, and that it shows the same object."
            )
        azimuth, elevation = np.degrees(change[:2])
        told.append(
            {
                "view": other.name,
                "azimuth_change_deg": round(float(azimuth), 2),
                "elevation_change_deg": round(float(elevation), 2),
                "misfit": round(float(misfit), 4),
            }
        )
    return told


def with_photos(views: Views, photo: Photo, cameras: Cameras) -> Views:
    """Painted views, agreeing with the photos in outline, and the photos among them.

    Painted frames near a further photo give it their place. The last frames are smaller copies of the photos, the
    first photo's at the very end.

    Args:
        views: painted frames, the last one the photo.
        cameras: of the K photos, the first photo's last.
    """
    photos = np.stack([*(other.rgba for other in photo.others), photo.rgba])
    frames = views.rgba[:-1][~near(views.cameras[:-1], cameras[:-1])]
    kept = views.cameras[:-1][~near(views.cameras[:-1], cameras[:-1])]
    frames = agreeing(frames, kept, photos[..., 3], cameras, views.cameras.visible_radius)
    small = np.stack([resize_rgba(rgba, views.size) for rgba in photos])
    return replace(
        views,
        rgba=np.concatenate([frames, small]),
        cameras=kept.followed_by(cameras),
        photos=photos,
        photo_cameras=cameras,
    )


def near(cameras: Cameras, photos: Cameras) -> np.ndarray:
    """[N] bool: the cameras look from within NEAR_DEG of one of the photos'."""
    toward, known = (c.origins / np.linalg.norm(c.origins, axis=-1, keepdims=True) for c in (cameras, photos))
    return (toward @ known.T).max(1) > np.cos(np.radians(NEAR_DEG))


def agreeing(
    frames: np.ndarray,  # [N, S, S, 4]
    cameras: Cameras,
    alphas: np.ndarray,  # [K, P, P] of the photos
    photo_cameras: Cameras,
    radius: float,
) -> np.ndarray:  # [N, S, S, 4]
    """Painted frames without what the photos' outlines exclude, and with what these lack.

    Cells that all photos show can be solid. Of those, the ones that most frames show are; and where a photo then shows
    the object and none of them is, the cells that most frames show among all before and behind that pixel are added.
    """
    points = cell_centers(GRID, radius)
    cell = 2 * radius / GRID
    for alpha, camera in zip(alphas, photo_cameras):
        points = points[_shows(alpha, camera, points, cell)]
    likely = np.mean([_shows(f[..., 3], c, points, cell) for f, c in zip(frames, cameras)], 0)
    solid = likely >= AGREE
    added = np.zeros_like(solid)
    for alpha, camera in zip(alphas, photo_cameras):
        added |= _lacking(alpha, camera, points, likely, solid | added)
    out = frames.copy()
    for n, camera in enumerate(cameras):
        size = frames.shape[1]
        reach = _reach(camera, size, cell)
        allowed = _drawn(points[solid | added], camera, size, reach + 1)
        out[n, ..., 3] *= allowed
        missing = _drawn(points[added], camera, size, reach) & (out[n, ..., 3] < 0.5)
        if missing.any() and (out[n, ..., 3] >= 0.5).any():
            out[n] = filled(out[n], missing)
    return out


def _lacking(
    alpha: np.ndarray, camera: Cameras, points: np.ndarray, likely: np.ndarray, solid: np.ndarray
) -> np.ndarray:
    """[P] bool: the likeliest points where a photo [S, S] shows the object and none of the solid ones is."""
    small = cv2.resize(alpha.astype(np.float32), (GRID, GRID), interpolation=cv2.INTER_AREA) > MASK_LEVEL
    index, inside = pixels_of(points, camera, GRID)
    missing = (small & ~_drawn(points[solid], camera, GRID, 1)).ravel()
    asked = np.flatnonzero(inside & missing[index])
    best = np.zeros(GRID**2)
    np.maximum.at(best, index[asked], likely[asked])
    found = np.zeros(len(points), bool)
    found[asked[likely[asked] >= best[index[asked]] - AS_LIKELY]] = True
    return found


def _shows(alpha: np.ndarray, camera: Cameras, points: np.ndarray, cell: float) -> np.ndarray:
    """[P] bool: the picture's object is where the cells at these points are seen."""
    index, inside = pixels_of(points, camera, len(alpha))
    return inside & dilated(alpha > MASK_LEVEL, _reach(camera, len(alpha), cell)).ravel()[index]


def _drawn(points: np.ndarray, camera: Cameras, size: int, reach: int) -> np.ndarray:
    """[size, size] bool: pixels within reach of a point."""
    index, inside = pixels_of(points, camera, size)
    picture = np.zeros(size**2, bool)
    picture[index[inside]] = True
    return dilated(picture.reshape(size, size), reach)


def _reach(camera: Cameras, size: int, cell: float) -> int:
    """Pixels from the middle of a cell to its corners, at the origin's distance."""
    return int(np.ceil(0.5 * 3**0.5 * cell * camera.focal(size) / float(np.linalg.norm(camera.origins[0]))))
