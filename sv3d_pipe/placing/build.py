"""From the workspaces of a photo's objects to one scene file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sv3d_pipe.artifacts import Photo
from sv3d_pipe.mesh_formats import WRITTEN
from sv3d_pipe.meshes.gltf_cameras import Perspective
from sv3d_pipe.meshes.read import read_meshes
from sv3d_pipe.placing.arrange import Arrangement, arrange
from sv3d_pipe.placing.join_glb import Node, join
from sv3d_pipe.placing.photo_camera import PhotoCamera
from sv3d_pipe.placing.subject import Subject
from sv3d_pipe.road.workspace import Workspace

POOR = 0.8  # IoU of silhouettes below which a user is told


@dataclass(frozen=True)
class Scene:
    """A scene's file, its metrics (plain values, the one it is judged by first), and sentences for the user."""

    glb: bytes
    metrics: dict[str, Any]
    warnings: list[str]


def build(workspaces: Mapping[str, Path], camera: PhotoCamera, length: float) -> Scene:
    """Arrange the finished meshes of a photo's objects.

    Args:
        workspaces: of the objects, by the names of their nodes; prep and export, with a glb, are finished in each.
        length: of the scene's longest side.
    """
    subjects = [read_subject(name, root) for name, root in workspaces.items()]
    found = arrange(subjects, camera, length)
    nodes = [Node(name, _mesh(root), pose) for (name, root), pose in zip(workspaces.items(), found.poses)]
    view = Perspective(found.c2w, camera.yfov_deg, camera.width / camera.height)
    return Scene(join(nodes, view), _metrics(subjects, found, camera), _warnings(subjects, found, camera))


def read_subject(name: str, root: Path) -> Subject:
    """An object's mesh and cut-out from its workspace."""
    workspace = Workspace(root)
    meshes = read_meshes(_mesh(root))
    starts = np.cumsum([0] + [len(mesh.vertices) for mesh in meshes])
    faces = [np.asarray(mesh.faces, np.int64) + start for mesh, start in zip(meshes, starts)]
    vertices = np.concatenate([mesh.vertices for mesh in meshes]).astype(np.float32)
    alpha = Photo.load(workspace.folder("prep")).rgba[..., 3]
    crop = tuple(workspace.record("prep").metrics["crop"])
    return Subject(name, vertices, np.concatenate(faces), alpha, crop)


def _mesh(root: Path) -> Path:
    return Workspace(root).folder("export") / WRITTEN["glb"].file


def _metrics(subjects: list[Subject], found: Arrangement, camera: PhotoCamera) -> dict[str, Any]:
    places = {
        subject.name: {
            "silhouette_iou": round(iou, 4),
            "on_ground": pose.on_ground,
            "rotation": pose.quaternion,
            "scale": pose.scale,
            "position": pose.position,
        }
        for subject, pose, iou in zip(subjects, found.poses, found.ious)
    }
    view = {"fov_deg": round(camera.fov_deg, 3), "elevation_deg": camera.elevation_deg, "c2w": found.c2w}
    return {
        "silhouette_iou": round(found.iou, 4),
        "objects": places,
        "ground_y": found.ground_y,
        "camera": view,
    }


def _warnings(subjects: list[Subject], found: Arrangement, camera: PhotoCamera) -> list[str]:
    floating = [subject.name for subject, pose in zip(subjects, found.poses) if not pose.on_ground]
    poor = [f"{subject.name} ({iou:.2f})" for subject, iou in zip(subjects, found.ious) if iou < POOR]
    warnings = []
    if floating:
        warnings.append(
            f"Where {', '.join(floating)} touches the ground is not seen, so the distance is a guess: that of the"
            " object beside or below it, or else of the nearest one."
        )
    if poor:
        warnings.append(
            f"In the scene, {', '.join(poor)} covers its place in the photo badly: intersection over union below"
            f" {POOR}. Look at the object's own mesh, and give orbit.elevation_deg unless the photo was taken from"
            f" {camera.elevation_deg:g} degrees."
        )
    return warnings
