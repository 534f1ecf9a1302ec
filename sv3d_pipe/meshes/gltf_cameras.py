"""Cameras in glTF documents: a node looks along its own -z with +y up, as our cameras do (glTF 2.0, section 3.10)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sv3d_pipe.cameras import Cameras

REACH = 100.0  # what is a hundred times nearer or farther than the object is still drawn


@dataclass(frozen=True)
class Perspective:
    """A pinhole camera whose axis goes through the middle of its picture.

    Attributes:
        c2w: [4, 4] camera to document, OpenGL axes.
        yfov_deg: field of view from bottom to top.
        aspect: width over height.
    """

    c2w: np.ndarray
    yfov_deg: float
    aspect: float = 1.0

    @classmethod
    def of(cls, cameras: Cameras) -> Perspective:
        """The one camera of N = 1."""
        if len(cameras) != 1:
            raise ValueError(f"a node holds one camera, got {len(cameras)}")
        return cls(cameras.c2w[0], cameras.fov_deg)


def add_cameras(document: dict[str, Any], cameras: Mapping[str, Perspective]) -> None:
    """A root node with a camera for each name, after the nodes that a document's only scene has.

    The nearest and farthest depth that is drawn go by the distance of the origin, around which the document's
    meshes are centered.
    """
    for name, camera in cameras.items():
        matrix = np.asarray(camera.c2w, np.float64)
        distance = float(np.linalg.norm(matrix[:3, 3]))
        lens = {
            "aspectRatio": float(camera.aspect),
            "yfov": float(np.radians(camera.yfov_deg)),
            "znear": distance / REACH,
            "zfar": distance * REACH,
        }
        entries, nodes = document.setdefault("cameras", []), document["nodes"]
        entries.append({"name": name, "type": "perspective", "perspective": lens})
        # glTF stores matrices column by column
        nodes.append({"name": name, "camera": len(entries) - 1, "matrix": matrix.T.ravel().tolist()})
        document["scenes"][0]["nodes"].append(len(nodes) - 1)
