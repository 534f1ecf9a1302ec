"""Where the objects of a photo stand: depth from where they touch the ground, size and place from their outlines.

A photo does not say how far away a thing is and how large, only their ratio. The ground does: the lower in the
picture a thing touches it, the nearer it is. So a mesh is stood on the ground and moved and scaled until it covers
its outline. What touches no ground in sight (it hangs, lies on another object, or its foot is hidden) is put as
far away as the object that it meets, or else the nearest one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from sv3d_pipe.placing.check import inside
from sv3d_pipe.placing.photo_camera import PhotoCamera, Window
from sv3d_pipe.placing.subject import Pose, Subject

SIDE = 192  # pixels of the window in which an object is fitted
FARTHEST = 10.0  # times the distance of the nearest foot; a foot farther off is none
LEAST_DROP = 0.01  # of a direction towards the ground; one degree below the horizon has 0.017
NOWHERE = 4.0  # distance, in heights of the camera, if nothing touches the ground
FOOT = 0.1  # of an object's height: what is so low may be its foot
BESIDE = 4  # pixels of a window below a foot where another object would hide it
HIDDEN = 0.5  # share of a foot below which another object begins, that is then not seen
ROUNDS = 160  # drawings per object


@dataclass(frozen=True)
class Sight:
    """What the photo says of one object's place.

    Attributes:
        window: onto it. mask: [SIDE, SIDE] bool.
        known: [SIDE, SIDE] bool, False outside of the photo and where another object may hide this one.
        foot: distance along the ground of its lowest point, in heights of the camera; None if that is not seen.
        meets: the number of the object that hides its foot or lies below it; None if there is none.
    """

    window: Window
    mask: np.ndarray
    known: np.ndarray
    foot: float | None
    meets: int | None


def place(subjects: Sequence[Subject], camera: PhotoCamera) -> list[Pose]:
    """A pose for every object of a photo, in the world of its camera."""
    sights = [_look(number, subjects, camera) for number in range(len(subjects))]
    nearest = min((sight.foot for sight in sights if sight.foot is not None), default=None)
    poses: dict[int, Pose] = {}
    for number, sight in enumerate(sights):
        if sight.foot is not None and sight.foot <= FARTHEST * nearest:
            poses[number] = _on_ground(subjects[number], sight, camera)
    away = {
        number: float(np.linalg.norm(pose.position - camera.c2w[:3, 3])) for number, pose in poses.items()
    }
    for number, sight in enumerate(sights):
        if number not in poses:
            distance = away.get(sight.meets, min(away.values(), default=NOWHERE))
            poses[number] = _at_distance(subjects[number], sight, camera, distance)
    return [poses[number] for number in range(len(subjects))]


def _look(number: int, subjects: Sequence[Subject], camera: PhotoCamera) -> Sight:
    window = camera.window(subjects[number].box, SIDE)
    masks = np.stack([subject.mask(window) for subject in subjects])  # [objects, SIDE, SIDE]
    mask = masks[number]
    known = inside(camera, window) & (mask | ~np.delete(masks, number, 0).any(0))
    rows, columns = np.nonzero(mask)
    bottom = rows.max()
    feet = np.unique(columns)
    lowest = np.array([rows[columns == column].max() for column in feet])
    low = lowest >= bottom - FOOT * np.ptp(rows)
    below = np.minimum(lowest[low] + BESIDE, SIDE - 1)
    hiding = masks[:, below, feet[low]].mean(1)
    hiding[number] = 0
    meets = int(np.argmax(hiding)) if hiding.max() > HIDDEN else None
    ray = window.cameras.c2w[0, :3, :3] @ _local(window, columns[rows == bottom].mean() + 0.5, bottom + 1.0)
    drop = -ray[1] / np.linalg.norm(ray)
    foot = float(np.hypot(ray[0], ray[2]) / -ray[1]) if drop > LEAST_DROP and meets is None else None
    return Sight(window, mask, known, foot, meets)


def _local(window: Window, x: float, y: float) -> np.ndarray:
    """[3] direction, in the camera's axes, towards a pixel coordinate of a window."""
    return np.array([x - window.size / 2, window.size / 2 - y, -window.cameras.focal(window.size)])


def _on_ground(subject: Subject, sight: Sight, camera: PhotoCamera) -> Pose:
    """The pose whose drawing fits the outline best, with the lowest point on the ground.

    Its three numbers are the bearing, the logarithm of the distance along the ground, and that of scale over
    distance: of these the outline shows the place from left to right, the foot's height and the size.
    """
    turn = camera.facing(*subject.middle)
    low = (subject.vertices @ turn[1]).min()

    def pose(numbers: np.ndarray) -> Pose:
        bearing, distance = numbers[0], np.exp(numbers[1])
        scale = distance * np.exp(numbers[2])
        position = np.array([distance * np.sin(bearing), -low * scale, -distance * np.cos(bearing)])
        return Pose(turn, float(scale), position)

    size = _apparent_size(subject, sight)
    depth = np.ptp(subject.vertices[:, 2]) / 2
    distance = sight.foot / max(
        1 - depth * size, 0.2
    )  # the foot is the front's; the mesh's origin lies behind
    start = np.array([_bearing(sight), np.log(distance), np.log(size)])
    steps = np.array([0.02 * size, 0.02 * size * (distance + 1 / distance), 0.03])
    return _fitted(subject, sight, pose, start, steps)


def _at_distance(subject: Subject, sight: Sight, camera: PhotoCamera, distance: float) -> Pose:
    """The pose at a given distance from the camera whose drawing fits the outline best."""
    turn = camera.facing(*subject.middle)

    def pose(numbers: np.ndarray) -> Pose:
        bearing, drop, size = numbers
        direction = np.array([np.sin(bearing) * np.cos(drop), -np.sin(drop), -np.cos(bearing) * np.cos(drop)])
        position = camera.c2w[:3, 3] + distance * direction
        return Pose(turn, float(distance * np.exp(size)), position, on_ground=False)

    size = _apparent_size(subject, sight)
    forward = -sight.window.cameras.c2w[0, :3, 2]
    start = np.array([_bearing(sight), -np.arcsin(forward[1]), np.log(size)])
    return _fitted(subject, sight, pose, start, np.array([0.02 * size, 0.02 * size, 0.03]))


def _bearing(sight: Sight) -> float:
    """Radians to the right of the photo's axis at which the window looks."""
    back = sight.window.cameras.c2w[0, :3, 2]
    return float(np.arctan2(-back[0], back[2]))


def _apparent_size(subject: Subject, sight: Sight) -> float:
    """The mesh's scale at distance 1, by the longer side of its outline."""
    rows, columns = np.nonzero(sight.mask)
    seen = np.array([np.ptp(columns) + 1, np.ptp(rows) + 1]) / sight.window.cameras.focal(SIDE)
    own = np.ptp(subject.vertices[:, :2], axis=0)
    longer = int(np.argmax(seen))
    return float(seen[longer] / max(own[longer], 1e-3))


def _fitted(
    subject: Subject, sight: Sight, pose: Callable[[np.ndarray], Pose], start: np.ndarray, steps: np.ndarray
) -> Pose:
    """The pose whose drawing fits best: first its box, by least squares, then its silhouette, by a simplex."""
    import torch
    from scipy.optimize import least_squares, minimize

    from sv3d_pipe.geometry.raster import visible_faces

    rows, columns = np.nonzero(sight.mask)
    wanted = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
    window, faces = sight.window, torch.from_numpy(subject.faces)

    def box_errors(numbers: np.ndarray) -> np.ndarray:
        xy, _ = window.cameras.project(pose(numbers).places(subject.vertices), SIDE)
        return np.concatenate([xy[0].min(0), xy[0].max(0)]) - wanted

    def disagreement(numbers: np.ndarray) -> float:
        vertices = torch.from_numpy(pose(numbers).places(subject.vertices))
        seen = visible_faces(vertices, faces, window.cameras, SIDE)[0].numpy() >= 0
        either = ((seen | sight.mask) & sight.known).sum()
        return 1 - float((seen & sight.mask & sight.known).sum() / max(either, 1))

    boxed = least_squares(box_errors, start, x_scale=steps, diff_step=1e-3, max_nfev=30).x
    first = min((start, boxed), key=disagreement)
    simplex = np.concatenate([first[None], first + np.diag(steps)])
    options = {"initial_simplex": simplex, "maxfev": ROUNDS, "xatol": 1e-5, "fatol": 1e-5}
    return pose(minimize(disagreement, first, method="Nelder-Mead", options=options).x)
