"""A placed scene drawn back over its photo: does every object cover what the photo shows of it?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sv3d_pipe.placing.photo_camera import PhotoCamera, Window
from sv3d_pipe.placing.subject import Pose, Subject

SIDE = 768  # pixels of the photo's longer side in the check


def silhouette_ious(
    subjects: Sequence[Subject], poses: Sequence[Pose], camera: PhotoCamera
) -> tuple[list[float], float]:
    """Intersection over union, within the photo, of what is drawn and what the photo shows.

    Returns:
        of every object, where it is not hidden by another one, with its mask; and of all together.
    """
    window = camera.square(SIDE)
    seen = drawn(subjects, poses, window)
    within = inside(camera, window)
    masks = [subject.mask(window) for subject in subjects]
    each = [iou((seen == k) & within, mask) for k, mask in enumerate(masks)]
    return each, iou((seen >= 0) & within, np.any(masks, axis=0))


def drawn(subjects: Sequence[Subject], poses: Sequence[Pose], window: Window) -> np.ndarray:
    """[size, size] int: the number of the object that each pixel of a window sees; -1 for none."""
    import torch

    from sv3d_pipe.geometry.raster import visible_faces

    vertices = np.concatenate([pose.places(subject.vertices) for subject, pose in zip(subjects, poses)])
    starts = np.cumsum([0] + [len(subject.vertices) for subject in subjects])
    faces = np.concatenate([subject.faces + start for subject, start in zip(subjects, starts)])
    owner = np.repeat(np.arange(len(subjects)), [len(subject.faces) for subject in subjects])
    ids = visible_faces(torch.from_numpy(vertices), torch.from_numpy(faces), window.cameras, window.size)
    return np.where(ids[0].numpy() >= 0, owner[ids[0].numpy()], -1)


def inside(camera: PhotoCamera, window: Window) -> np.ndarray:
    """[size, size] bool: the pixels of a window that the photo shows."""
    scale = np.diag([camera.width / 64, camera.height / 64, 1.0])
    return window.shows(np.ones((64, 64), np.float32), scale) > 0.5


def iou(first: np.ndarray, second: np.ndarray) -> float:
    """Intersection over union of two bool pictures; 0 where both are empty."""
    return float((first & second).sum() / max((first | second).sum(), 1))
