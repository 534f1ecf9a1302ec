"""Meshes of one photo's objects, arranged as the photo shows them: a scene of normal size, and how well it fits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from sv3d_pipe.geometry.extent import unit_box
from sv3d_pipe.placing.check import silhouette_ious
from sv3d_pipe.placing.fit import place
from sv3d_pipe.placing.photo_camera import PhotoCamera
from sv3d_pipe.placing.subject import Pose, Subject


@dataclass(frozen=True)
class Arrangement:
    """Where everything is in the scene: +y up, +z towards the camera, centered, its longest side as asked for.

    Attributes:
        poses: of the objects.
        ground_y: height of the ground, if any object was placed on it.
        c2w: [4, 4] the photo's camera, in OpenGL's axes.
        ious: of each object's silhouette, as the photo's camera sees the scene, with its cut-out. iou: of all together.
    """

    poses: list[Pose]
    ground_y: float | None
    c2w: np.ndarray
    ious: list[float]
    iou: float


def arrange(subjects: Sequence[Subject], camera: PhotoCamera, length: float = 1.0) -> Arrangement:
    """Place the objects, check them against the photo, and scale the scene.

    Args:
        length: of the longest side of the scene's box.
    """
    poses = place(subjects, camera)
    ious, together = silhouette_ious(subjects, poses, camera)
    points = np.concatenate([pose.places(subject.vertices) for subject, pose in zip(subjects, poses)])
    _, size, center = unit_box(points)
    factor = length / size
    c2w = camera.c2w.astype(np.float64).copy()
    c2w[:3, 3] = (c2w[:3, 3] - center) * factor
    ground = -float(center[1]) * factor if any(pose.on_ground for pose in poses) else None
    moved = [
        replace(pose, scale=pose.scale * factor, position=(pose.position - center) * factor) for pose in poses
    ]
    return Arrangement(moved, ground, c2w, ious, together)
