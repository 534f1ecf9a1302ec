"""The capture stage: a folder of pictures with known cameras becomes the views for the later stages."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sv3d_pipe.artifacts import Views
from sv3d_pipe.capture.agreement import MOST_LEFT_OUT, contradicting
from sv3d_pipe.capture.placement import Placement, first_placement
from sv3d_pipe.capture.rectify import MARGIN, aimed_cameras, native_size, rectify, too_near
from sv3d_pipe.capture.shots import SOLID, Shot, read_shots
from sv3d_pipe.capture.transforms import FEWEST, read_frames
from sv3d_pipe.capture.vertical import UPRIGHT
from sv3d_pipe.errors import UserError
from sv3d_pipe.geometry.hull import Hull, carve, cell_centers
from sv3d_pipe.pictures import on_white
from sv3d_pipe.prep.white_orbit import cut_from_white
from sv3d_pipe.road.context import Context

SMALLEST, LARGEST = 64, 1024  # sides of the views
MOST_PIXELS = 24 * 2**20  # of all views together: 100 views of 501 x 501
LOOKING = 40  # pictures that decide where the object is
CELLS = 56  # of the hull's grid, per side
GROWTH = 1.6
MOST_ON_WHITE = 60  # pictures that are cut out of white together, at about a third of a second each
STRAY = 0.1  # share of the masks that may be wrong
AGREED = 0.6  # share of the masks' pixels that a common shape must explain
FRONT = np.array([0.0, 0.17, 0.98])  # from the object to the camera of a photo, 10 degrees above the front


def import_capture(path: Path, matte: str, context: Context) -> tuple[Views, dict[str, Any]]:
    """Views of a nerfstudio, instant-ngp or NeRF synthetic capture, in our world.

    The object is found from the masks and brought to the origin, upright, its longest side about 1; the
    pictures are resampled to square views aimed at it. The view nearest to the front comes last.

    Args:
        path: the folder, or its transforms file.
        matte: ``prep.matte``, for pictures that have neither alpha nor mask.
    Returns:
        the views, and the metrics: how many, their size, hull_covered (share of the masks' pixels that a
        common shape explains), where the masks came from, which pictures contradict the others and were left out,
        how it is known which way is up, and the placement.
    Raises:
        UserError: what is wrong with the capture, in one sentence.
    """
    shots = read_shots(read_frames(path), matte, context)
    placement, reach, hull = locate(shots)
    shots, left_out = _without_contradicting(shots, placement, reach, hull, context)
    if left_out:
        placement, reach, hull = locate(shots)
    if placement.vertical != UPRIGHT:
        context.say(f"The capture's vertical is taken {placement.vertical}.")
    near = too_near(shots, placement, reach)
    if near.any():
        shots = [shot for shot, dropped in zip(shots, near) if not dropped]
        context.warn(f"{near.sum()} pictures were taken too close to the object and were left out.")
    if len(shots) < FEWEST:
        raise UserError(
            "The cameras stand too close to the object or inside it; use pictures taken from around it."
        )
    shots = _front_last(shots, placement)
    size = view_size(shots, placement, reach)
    with context.bar("views", len(shots)) as bar:
        views = rectify(shots, placement, reach, size, lambda: bar.update(1))
    if len(shots) <= MOST_ON_WHITE and all(shot.on_white is not None and not shot.cut for shot in shots):
        with context.bar("cutting out of white", 1) as bar:
            pictures = on_white(rectify([shot.whole for shot in shots], placement, reach, size).rgba)
            views = replace(views, rgba=cut_from_white(pictures, views.cameras))
            bar.update(1)
    return views, {
        "views": len(shots),
        "size": size,
        "hull_covered": hull.covered,
        "masks": dict(Counter(shot.source for shot in shots)),
        "cut": sum(shot.cut for shot in shots),
        "too_near": int(near.sum()),
        "contradicting": left_out,
        "vertical": placement.vertical,
        "fov_deg": views.cameras.fov_deg,
        "front": shots[-1].name,
        "world_from_capture": views.to_world,
    }


def locate(shots: list[Shot]) -> tuple[Placement, float, Hull]:
    """Find the object as the visual hull of the masks.

    Returns:
        the placement, the radius of the ball around the origin that holds the hull, and the hull.
    Raises:
        UserError: the masks and cameras do not agree on any object.
    """
    chosen = [shots[i] for i in np.unique(np.linspace(0, len(shots) - 1, LOOKING).round().astype(int))]
    placement, reach = first_placement(chosen)
    for _ in range(4):
        if not _overflows(rectify(chosen, placement, reach, 64)):
            break
        placement = placement.moved(np.zeros(3), 1 / GROWTH)
    hull, box = _hull(chosen, placement, reach)
    for _ in range(2):
        placement, reach = _fitted(placement, hull, box, reach)
        hull, box = _hull(chosen, placement, reach)
    if hull.covered < AGREED:
        raise UserError(
            f"The pictures and cameras contradict each other: no shape explains more than {hull.covered:.0%} of the "
            "masks; transform_matrix must be camera-to-world with OpenGL axes (x right, y up, looking along -z)."
        )
    return *_fitted(placement, hull, box, reach), hull


def _without_contradicting(
    shots: list[Shot], placement: Placement, reach: float, hull: Hull, context: Context
) -> tuple[list[Shot], list[str]]:
    """The shots without those whose masks contradict most others, and the names of these."""
    wrong = contradicting(rectify(shots, placement, reach, 160), hull.occupied, MARGIN * reach)
    names = [shot.name for shot, left_out in zip(shots, wrong) if left_out]
    if not names:
        return shots, []
    which = (
        f"{len(names)} of {len(shots)} pictures ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
    )
    if len(names) > MOST_LEFT_OUT * len(shots) or len(shots) - len(names) < FEWEST:
        context.warn(
            f"The masks of {which} contradict the others; look at them, or the mesh will lack parts."
        )
        return shots, []
    context.warn(f"{which} were left out, because their masks contradict all others; look at these masks.")
    return [shot for shot, left_out in zip(shots, wrong) if not left_out], names


def view_size(shots: list[Shot], placement: Placement, reach: float) -> int:
    """Side of the views in pixels, even: as fine as the pictures, within what memory allows."""
    native = native_size(shots, aimed_cameras(shots, placement, reach))
    most = min(LARGEST, (MOST_PIXELS / len(shots)) ** 0.5)
    return 2 * round(min(max(native, SMALLEST), most) / 2)


def _hull(shots: list[Shot], placement: Placement, reach: float) -> tuple[Hull, np.ndarray]:
    """The hull in a ball of radius MARGIN * reach, and the object's box: [2, 3] low and high corner.

    Carving widens the masks by nearly a cell, so the object's box is that much smaller than the hull's.
    """
    radius = MARGIN * reach
    hull = carve(rectify(shots, placement, reach, 160), radius, CELLS)
    hull.occupied[np.linalg.norm(cell_centers(CELLS, radius), axis=-1).reshape([CELLS] * 3) > radius] = False
    if not hull.occupied.any():
        raise UserError(
            "The masks do not meet anywhere in space; transform_matrix must be camera-to-world with OpenGL axes "
            "(x right, y up, looking along -z)."
        )
    index = np.argwhere(hull.occupied)
    cell = 2 * radius / CELLS
    low, high = index.min(0), index.max(0) + 1
    narrower = np.minimum(1.0, (high - low) / 4)
    return hull, np.stack([low + narrower, high - narrower]) * cell - radius


def _fitted(placement: Placement, hull: Hull, box: np.ndarray, reach: float) -> tuple[Placement, float]:
    """The placement that centers the hull's box, its longest side 1; and the radius of the ball around it."""
    middle, longest = box.mean(0), float(np.ptp(box, 0).max())
    cell = 2 * MARGIN * reach / CELLS
    centers = cell_centers(CELLS, MARGIN * reach)[hull.occupied.ravel()]
    farthest = np.linalg.norm(centers - middle, axis=-1).max() + cell
    return placement.moved(middle, 1 / longest), float(farthest / longest)


def _overflows(views: Views) -> bool:
    """Whether the object reaches the frames' border in more than a few views: the ball is too small."""
    solid = views.rgba[..., 3] > SOLID
    touched = solid[:, [0, -1]].any((1, 2)) | solid[:, :, [0, -1]].any((1, 2))
    return bool(touched.mean() > STRAY)


def _front_last(shots: list[Shot], placement: Placement) -> list[Shot]:
    """The shots in their order, rotated so that the one nearest to the front, and not cut, comes last."""
    origins = placement.place(np.stack([shot.c2w for shot in shots]))[:, :3, 3]
    facing = origins @ FRONT / np.linalg.norm(origins, axis=-1)
    best = int(np.argmax(facing - 2.0 * np.array([shot.cut for shot in shots])))
    return shots[best + 1 :] + shots[: best + 1]
