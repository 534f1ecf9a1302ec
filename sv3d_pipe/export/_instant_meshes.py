"""A process of its own for Instant Meshes, which writes to stdout and ends its process when it fails.

``python -m sv3d_pipe.export._instant_meshes FOLDER VERTICES`` reads vertices.npy and faces.npy there and
writes new_vertices.npy and new_faces.npy.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

SIXFOLD, TRIANGLES = 6, 3  # symmetries of the orientation and the position field that give triangles


def main(folder: Path, vertices: int) -> None:
    import pynanoinstantmeshes

    new_vertices, new_faces = pynanoinstantmeshes.remesh(
        np.load(folder / "vertices.npy"),
        np.load(folder / "faces.npy"),
        vertices,
        rosy=SIXFOLD,
        posy=TRIANGLES,
        smooth_iter=2,
        deterministic=True,
    )
    np.save(folder / "new_vertices.npy", new_vertices)
    np.save(folder / "new_faces.npy", new_faces)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
