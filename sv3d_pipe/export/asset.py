"""The finished asset: a textured mesh and the files that are written from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from sv3d_pipe.cameras import Cameras


@dataclass(frozen=True)
class Asset:
    """A textured mesh, its bounding box centered. Made with +y up, +z front and longest side 1.

    Attributes:
        vertices: [V, 3] float32; vertices on chart borders occur once per chart.
        faces: [F, 3] int64, counter-clockwise from outside.
        uv: [V, 2] float32, v up.
        texture: [R, R, 3] uint8, sRGB; row 0 is v = 1.
        source: [V] int64, the number of the uncut mesh's vertex that each vertex is a copy of.
        scale, center: back to the world of the cameras, axis by axis: world = scale * vertices + center (+y up);
            scale's last number is smaller or larger than the others where the mesh was stretched.
        cameras: name -> a photo's camera, N = 1, in the coordinates of the vertices.
        up: "y", or "z" once :func:`placed` has turned it; +z is then up and -y front.
        documents: file name -> content, everything that :meth:`save` writes.
    """

    vertices: np.ndarray
    faces: np.ndarray
    uv: np.ndarray
    texture: np.ndarray
    source: np.ndarray
    scale: tuple[float, float, float] = (1.0, 1.0, 1.0)
    center: tuple[float, float, float] = (0.0, 0.0, 0.0)
    cameras: Mapping[str, Cameras] = field(default_factory=dict)
    up: str = "y"
    documents: Mapping[str, bytes] = field(default_factory=dict, repr=False)

    def save(self, folder: Path) -> None:
        """Write all files into a folder that exists."""
        for name, content in self.documents.items():
            (folder / name).write_bytes(content)

    def files(self, folder: Path) -> list[Path]:
        """The files that :meth:`save` writes there, the mesh first."""
        return [folder / name for name in self.documents]

    @property
    def world(self) -> np.ndarray:
        """[V, 3] float32 vertices in the world of the cameras."""
        return (self.vertices * self.scale + np.asarray(self.center)).astype(np.float32)

    def welded(self) -> tuple[np.ndarray, np.ndarray]:
        """Vertices and faces of the uncut mesh."""
        vertices = np.zeros((self.source.max() + 1, 3), np.float32)
        vertices[self.source] = self.vertices
        return vertices, self.source[self.faces]


def placed(asset: Asset, up: str, length: float) -> Asset:
    """The asset as a file wants it: its longest side ``length``, and turned if z is to be up.

    Turning is by 90 degrees about x: (x, y, z) becomes (x, -z, y). The cameras move along.
    """
    vertices = asset.vertices * np.float32(length)
    turn = np.eye(4, dtype=np.float32)
    if up == "z":
        vertices = np.stack([vertices[:, 0], -vertices[:, 2], vertices[:, 1]], -1)
        turn[1:3, 1:3] = [[0, -1], [1, 0]]
    return replace(
        asset,
        vertices=vertices,
        scale=tuple(s / length for s in asset.scale),
        cameras={name: _moved(camera, turn, length) for name, camera in asset.cameras.items()},
        up=up,
    )


def _moved(camera: Cameras, turn: np.ndarray, length: float) -> Cameras:
    """Cameras turned about the origin by [4, 4], and ``length`` times farther from it."""
    c2w = turn @ camera.c2w
    c2w[:, :3, 3] *= length
    return Cameras(c2w, camera.fov_deg)
