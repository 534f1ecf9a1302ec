"""What several tests need: the optional shared data set, and toy objects whose truth is known."""

import multiprocessing
import os
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:  # workers share the processors: one thread each
    for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"

import numpy as np
import pytest

import sv3d_pipe  # noqa: F401  (sets the OpenMP wait policy before torch is imported)


def pytest_xdist_auto_num_workers() -> int:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(usable or 1, 8)  # each takes a gigabyte or two


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder of reference meshes, photos and golden numbers; tests that need it skip without it."""
    default = Path(__file__).resolve().parents[2] / "shared"
    folder = Path(os.environ.get("IMG2MESH_SHARED", default))
    if not folder.is_dir():
        pytest.skip("the shared reference data is not here (set IMG2MESH_SHARED)")
    return folder


@pytest.fixture(scope="session")
def colored_cube():
    """A cube of side 1 whose faces are red (+x), cyan (-x), green (+y), magenta (-y), blue (+z), yellow (-z)."""
    import trimesh

    from sv3d_pipe.render.objects import from_trimesh

    cube = trimesh.creation.box((1, 1, 1)).subdivide().subdivide()
    axis = np.abs(cube.face_normals).argmax(1)
    positive = cube.face_normals[np.arange(len(axis)), axis] > 0
    colors = np.where(positive[:, None], np.eye(3)[axis], 1 - np.eye(3)[axis])
    cube.visual = trimesh.visual.ColorVisuals(cube, face_colors=(colors * 255).astype(np.uint8))
    return from_trimesh(cube)


@pytest.fixture
def forked(monkeypatch):
    """Lets the process that a batch works in know what a test has put in the place of the real stages."""
    monkeypatch.setattr("sv3d_pipe.road.workers.SPAWN", multiprocessing.get_context("fork"))
    monkeypatch.setattr("sv3d_pipe.pipeline.refuse_forks", lambda: None)  # such stages need no threads
