"""The cameras of the photos in the coordinates of exported files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from sv3d_pipe.artifacts import Views
from sv3d_pipe.cameras import Cameras
from sv3d_pipe.export.asset import Asset


def named_cameras(views: Views) -> dict[str, Cameras]:
    """Name -> camera (N = 1) of every photo, in the world: ``photo``, and ``view-1``, ``view-2``, ... of further ones.

    None for a capture, whose frames are not of one photo.
    """
    if views.photo is None:
        return {}
    others = {f"view-{number}": camera for number, camera in enumerate(views.photo_cameras[:-1], 1)}
    return {"photo": views.photo_camera} | others


def in_file(camera: Cameras, scale: Sequence[float], center: Sequence[float]) -> Cameras:
    """A camera (N = 1) of the world in a file's coordinates: world = scale * file + center, axis by axis.

    Where the three scales are one, the picture is the same. A stretched mesh is seen from the point that the camera's
    own is stretched to, so exactly the same of it is visible; but its picture is the photo distorted by a homography,
    which no rigid camera undoes. This one looks at what is in the middle of the photo, and what is there keeps its
    area: where the photo was taken from the level of the object nothing is distorted, from above what is higher in
    the picture is drawn larger or smaller.
    """
    c2w = camera.c2w[0].astype(np.float64)
    axes = c2w[:3, :3] / np.asarray(scale)[:, None]  # columns: right, up, back, all stretched
    back = axes[:, 2] / np.linalg.norm(axes[:, 2])
    right = axes[:, 0] - axes[:, 0] @ back * back
    right /= np.linalg.norm(right)
    placed = np.eye(4)
    placed[:3, :3] = np.stack([right, np.cross(back, right), back], -1)
    placed[:3, 3] = (c2w[:3, 3] - np.asarray(center)) / np.asarray(scale)
    homography = placed[:3, :3].T @ axes  # from directions in the old camera's axes to those in the new one's
    zoom = np.sqrt(np.linalg.det(homography[:2, :2])) / homography[2, 2]  # of lengths in the middle
    fov = 2 * np.arctan(zoom * np.tan(np.radians(camera.fov_deg) / 2))
    return Cameras(placed[None].astype(np.float32), float(np.degrees(fov)))


def described(asset: Asset) -> dict[str, Any]:
    """An asset's cameras as plain values, by name.

    ``c2w`` [4][4], camera to file; ``fov_deg`` of the square picture; ``exact``, whether the picture is the photo's,
    which it is but for a stretched mesh.
    """
    exact = bool(np.allclose(asset.scale, asset.scale[0], rtol=1e-6))
    return {
        name: {"c2w": camera.c2w[0].tolist(), "fov_deg": round(camera.fov_deg, 4), "exact": exact}
        for name, camera in asset.cameras.items()
    }


def encode_cameras(asset: Asset) -> bytes:
    """The cameras and the upward axis of the files beside it, as JSON."""
    return (json.dumps({"up": asset.up, "cameras": described(asset)}, indent=1) + "\n").encode()
