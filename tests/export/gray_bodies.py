"""Shapes whose colors are still to be found."""

import numpy as np
import trimesh

from sv3d_pipe.artifacts import Mesh
from sv3d_pipe.render.objects import Object


def gray(obj: Object) -> Mesh:
    """The shape of an object as one closed gray mesh."""
    body = trimesh.Trimesh(obj.vertices, obj.faces)
    body.merge_vertices()
    rgb = np.full((len(body.vertices), 3), 0.5, np.float32)
    return Mesh(body.vertices.astype(np.float32), np.asarray(body.faces, np.int64), rgb)
