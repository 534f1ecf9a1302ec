"""Captures of a known object, written as nerfstudio would: another lens, another place, another scale."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from sv3d_pipe.artifacts import Views
from sv3d_pipe.cameras import Cameras, orbit
from sv3d_pipe.pictures import save_png
from sv3d_pipe.render.draw import Light, render_views
from sv3d_pipe.render.objects import Object

CENTER, SCALE = np.array([0.5, -0.3, 1.0]), 3.0
Z_UP = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # our (x, y, z) to the capture's (x, -z, y)


@dataclass(frozen=True)
class Optics:
    """A pinhole's intrinsics in pixels."""

    width: int = 200
    height: int = 160
    focal: float = 420.0
    cx: float = 112.0
    cy: float = 70.0

    def fields(self) -> dict:
        return {
            "w": self.width, "h": self.height, "fl_x": self.focal, "fl_y": self.focal,
            "cx": self.cx, "cy": self.cy,
        }  # fmt: skip


OPTICS = Optics(100, 80, 210.0, 56.0, 35.0)  # of small pictures, for captures that are only read
COUNT = 10  # of them


def cameras_around(count: int, radius: float = 4.2) -> Cameras:
    """An uneven ring that rises and falls, from 15 degrees below to 45 above."""
    azimuth = np.arange(count) * 360 / count + 7 * np.sin(np.arange(count))
    return orbit(azimuth, 15 + 30 * np.sin(np.radians(2.1 * azimuth)), radius)


def shoot(obj: Object, cameras: Cameras, optics: Optics) -> np.ndarray:
    """[N, height, width, 4]: a window cut out of a square picture, so that cx and cy lie off its center."""
    side = 2 * int(max(optics.cx, optics.width - optics.cx, optics.cy, optics.height - optics.cy))
    fov_deg = float(np.degrees(2 * np.arctan(side / 2 / optics.focal)))
    square = render_views(obj, Cameras(cameras.c2w, fov_deg), side, Light((0.3, 0.8, 0.5), 0.6))
    x, y = side // 2 - int(optics.cx), side // 2 - int(optics.cy)
    return square[:, y : y + optics.height, x : x + optics.width]


def to_capture(points: np.ndarray) -> np.ndarray:
    """World points [P, 3] in the capture's coordinates."""
    return SCALE * points @ Z_UP.T + CENTER


def poses(cameras: Cameras) -> np.ndarray:
    """[N, 4, 4] the cameras in the capture's coordinates."""
    c2w = cameras.c2w.astype(float)
    c2w[:, :3, 3] = to_capture(c2w[:, :3, 3])
    c2w[:, :3, :3] = Z_UP @ c2w[:, :3, :3]
    return c2w


def write(folder: Path, pictures: np.ndarray, matrices: np.ndarray, fields: dict, name="images/{:04d}.png"):
    """A transforms.json and its pictures; returns the folder."""
    names = [name.format(n) for n in range(len(pictures))]
    for path, picture in zip(names, pictures):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        save_png(folder / path, picture)
    frames = [
        {"file_path": path, "transform_matrix": matrix.tolist()} for path, matrix in zip(names, matrices)
    ]
    (folder / "transforms.json").write_text(json.dumps(fields | {"frames": frames}))
    return folder


def edit(folder, change):
    """Change every frame of a capture: change(index, frame)."""
    path = folder / "transforms.json"
    document = json.loads(path.read_text())
    for index, frame in enumerate(document["frames"]):
        change(index, frame)
    path.write_text(json.dumps(document))
    return folder


def agreement(obj, views: Views) -> float:
    """Mask IoU of the views with pictures of the true object at its place, where they are seen."""
    world = to_capture(obj.vertices) @ views.to_world[:3, :3].T + views.to_world[:3, 3]
    truth = render_views(replace(obj, vertices=world.astype(np.float32)), views.cameras, views.size)
    seen = True if views.seen is None else views.seen
    a, b = truth[..., 3] * seen, views.rgba[..., 3] * seen
    return float(np.minimum(a, b).sum() / np.maximum(a, b).sum())


def opaque(folder, pictures, matrices, background):
    """The same capture as JPEGs on a background: background(index) is [h, w, 3]."""
    write(folder, pictures, matrices, OPTICS.fields())

    def change(index, frame):
        rgb, alpha = pictures[index][..., :3], pictures[index][..., 3:]
        frame["file_path"] = f"images/{index}.jpg"
        picture = rgb * alpha + background(index) * (1 - alpha)
        Image.fromarray((picture * 255).astype(np.uint8)).save(folder / frame["file_path"], quality=95)

    return edit(folder, change)


def busy(index):
    blobs = np.random.default_rng(index).random((8, 10, 3)).astype(np.float32)
    return np.clip(cv2.resize(blobs, (OPTICS.width, OPTICS.height)), 0, 1)
