"""The readers of foreign files, each with small whole files to begin from."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import trimesh
from PIL import Image
from safetensors.torch import save as save_tensors

from sv3d_pipe.cameras import orbit
from sv3d_pipe.capture.lens import read_lens
from sv3d_pipe.capture.transforms import read_frames
from sv3d_pipe.config import Config
from sv3d_pipe.config_files import load_toml
from sv3d_pipe.errors import UserError
from sv3d_pipe.orbit.store.cache import safetensors_header
from sv3d_pipe.pictures import read_image
from sv3d_pipe.road.context import Checkpoint
from sv3d_pipe.road.records import StageRecord, Unusable, sealed

Seeds = list[tuple[Path, bytes]]


@dataclass(frozen=True)
class Reader:
    """A reader under test.

    Attributes:
        seeds: writes what whole files need into a folder; returns files and their whole contents.
        read: reads one file. refuses: the error by which it says that it will not.
    """

    seeds: Callable[[Path], Seeds]
    read: Callable[[Path], object]
    refuses: type[Exception] = UserError


def _pictures(folder: Path) -> Seeds:
    gradient = np.linspace(0, 255, 32 * 32 * 4).reshape(32, 32, 4).astype(np.uint8)
    found = []
    for name, mode in (("a.png", "RGBA"), ("b.png", "P"), ("c.jpg", "RGB"), ("d.webp", "RGBA"), ("e.gif", "P"),
                       ("f.tif", "RGB"), ("g.bmp", "RGB"), ("h.jpg", "CMYK"), ("i.ppm", "RGB"), ("j.png", "I;16")):  # fmt: skip
        if mode == "I;16":
            picture = Image.fromarray(gradient[..., 0].astype(np.uint16) * 257)
        else:
            picture = (
                Image.fromarray(gradient).convert("RGB").convert(mode)
                if mode != "RGBA"
                else Image.fromarray(gradient)
            )
        picture.save(folder / name)
        found.append((folder / name, (folder / name).read_bytes()))
    return found


def _transforms(folder: Path) -> Seeds:
    frames = []
    for index, c2w in enumerate(orbit([0, 90, 180, 270], 10.0, 3.0).c2w):
        Image.new("RGBA", (16, 16), (200, 0, 0, 255)).save(folder / f"{index}.png")
        frames.append({"file_path": f"{index}.png", "transform_matrix": [*c2w.tolist()[:3], [0, 0, 0, 1]]})
    lenses = (
        {"camera_angle_x": 0.7},
        {"fl_x": 20.0, "fl_y": 20.0, "cx": 8.0, "cy": 8.0, "w": 16, "h": 16, "k1": 0.01, "k2": 0.0, "p1": 0.0, "p2": 0.0, "camera_model": "OPENCV"},
        {"fl_x": 20.0, "cx": 8.0, "cy": 8.0, "w": 16, "h": 16, "k1": 0.01, "k2": 0.0, "k3": 0.0, "k4": 0.0, "camera_model": "OPENCV_FISHEYE"},
    )  # fmt: skip
    return [(folder / "transforms.json", json.dumps(lens | {"frames": frames}).encode()) for lens in lenses]


def _read_capture(path: Path) -> None:
    for frame in read_frames(path):
        read_lens(frame.optics, 16, 16, frame.image)


def _toml(folder: Path) -> Seeds:
    return [
        (folder / "my.toml", b'[prep]\nsize = 128\nfill = 0.8\nmatte = "auto"\n\n[nerf]\nsteps = 800\n'),
        (folder / "my.toml", b'[export]\nfaces = 1_000\nformats = ["glb"]\n[refine]\nlighting = true\n'),
    ]


def _meshes(folder: Path) -> Seeds:
    ball = trimesh.creation.icosphere(1, 0.5)
    textured = ball.copy()
    skin = Image.fromarray(np.linspace(0, 255, 8 * 8 * 3).reshape(8, 8, 3).astype(np.uint8))
    textured.visual = trimesh.visual.TextureVisuals(ball.vertices[:, :2] + 0.5, image=skin)
    colored = ball.copy()
    colored.visual = trimesh.visual.ColorVisuals(
        ball, vertex_colors=np.full((len(ball.vertices), 4), 99, np.uint8)
    )
    found = []
    for name, mesh, kind in (("a.ply", colored, "ply"), ("b.stl", ball, "stl"), ("c.stl", ball, "stl_ascii"),
                             ("d.obj", ball, "obj"), ("e.glb", textured, "glb"), ("f.off", ball, "off")):  # fmt: skip
        content = mesh.export(file_type=kind)
        content = content.encode() if isinstance(content, str) else content
        (folder / name).write_bytes(content)
        found.append((folder / name, content))
    return found


def _checkpoints(folder: Path) -> Seeds:
    path = folder / ".nerf-0.checkpoint"
    checkpoint = Checkpoint(path, every_s=-1.0)
    checkpoint.save(lambda: {"step": 3, "model": {"table": torch.arange(64.0)}, "progress": [1, None, "x"]})
    whole = path.read_bytes()
    body = io.BytesIO()
    torch.save({"table": torch.arange(8)}, body)
    return [(path, whole), (path, body.getvalue())]


def _records(folder: Path) -> Seeds:
    record = StageRecord(
        "prep", 1, "k", {}, {"size": 128}, 23, "cpu", {"torch": "2"}, 1.0, 2.0, {"a": 1}, ["w"]
    )
    return [
        (folder / "stage.json", record.text().encode()),
        (folder / "stage.json", sealed({"stage": "prep"}).encode()),
    ]


def _weights(folder: Path) -> Seeds:
    content = save_tensors(
        {"a": torch.arange(8.0), "b": torch.zeros(2, 3, dtype=torch.float16)}, {"format": "pt"}
    )
    return [(folder / "model.safetensors", content)]


def _read_mesh(path: Path) -> None:
    from sv3d_pipe.evaluate.truth import place

    place(path)


READERS = {
    "pictures": Reader(_pictures, lambda path: read_image(path, 64)),
    "transforms": Reader(_transforms, _read_capture),
    "settings": Reader(_toml, lambda path: Config().replace(load_toml(path))),
    "meshes": Reader(_meshes, _read_mesh),
    "checkpoints": Reader(_checkpoints, lambda path: Checkpoint(path).load()),
    "records": Reader(_records, StageRecord.read, Unusable),
    "weights": Reader(_weights, safetensors_header),
}
