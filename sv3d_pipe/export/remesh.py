"""Triangles of equal size: isotropic remeshing by Instant Meshes (Jakob et al. 2015), the extra ``remesh``."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from sv3d_pipe.artifacts import Mesh
from sv3d_pipe.errors import UserError

SPARE = 0.97  # aim a little below the face count wanted: the result varies by a few percent


def require_remesher() -> None:
    """Raise UserError if Instant Meshes (the extra ``remesh``) is not installed."""
    if find_spec("pynanoinstantmeshes") is None:
        raise UserError("Remeshing needs Instant Meshes; install it with `pip install pynanoinstantmeshes`.")


def equal_triangles(mesh: Mesh, faces: int) -> Mesh:
    """The surface in triangles of nearly equal size, about ``faces`` of them. Vertices are gray.

    The same mesh gives the same result. A closed mesh may come back with a few small holes.
    Raises UserError where the library is missing or fails.
    """
    require_remesher()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "vertices.npy", mesh.vertices.astype(np.float32))
        np.save(folder / "faces.npy", mesh.faces.astype(np.uint32))
        vertices = max(int(SPARE * faces / 2), 4)  # closed surfaces have half as many vertices as faces
        worker = [sys.executable, "-m", "sv3d_pipe.export._instant_meshes", name, str(vertices)]
        ended = subprocess.run(worker, capture_output=True, text=True)
        if ended.returncode != 0 or not (folder / "new_faces.npy").exists():
            raise UserError("Instant Meshes failed on this mesh; export it without --remesh.")
        points = np.load(folder / "new_vertices.npy").astype(np.float32)
        triangles = np.load(folder / "new_faces.npy").astype(np.int64)
    return Mesh(points, triangles, np.full((len(points), 3), 0.5, np.float32))
