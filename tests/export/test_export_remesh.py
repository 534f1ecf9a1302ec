import numpy as np
import pytest
import trimesh

from sv3d_pipe.artifacts import Mesh
from sv3d_pipe.errors import UserError
from sv3d_pipe.export.clean import clean
from sv3d_pipe.export.remesh import equal_triangles
from sv3d_pipe.export.watertight import is_solid


def colored(body: trimesh.Trimesh) -> Mesh:
    vertices = np.asarray(body.vertices, np.float32)
    return Mesh(vertices, np.asarray(body.faces, np.int64), np.clip(vertices + 0.5, 0, 1))


def edge_spread(mesh: Mesh) -> float:
    """Standard deviation of the edges' lengths over their mean."""
    length = mesh.to_trimesh().edges_unique_length
    return float(length.std() / length.mean())


def test_triangles_become_equal_and_the_surface_stays():
    pytest.importorskip("pynanoinstantmeshes", reason="pynanoinstantmeshes is not installed")
    ring = colored(trimesh.creation.torus(0.35, 0.15, 200, 20))  # long thin triangles
    mesh, report = clean(ring, 2000, remesh=True)
    assert 1700 <= report["faces"] <= 2000
    assert is_solid(mesh)
    assert edge_spread(ring) > 0.4 and edge_spread(mesh) < 0.15
    radius = np.hypot(np.hypot(mesh.vertices[:, 0], mesh.vertices[:, 1]) - 0.35, mesh.vertices[:, 2])
    assert radius == pytest.approx(0.15, abs=0.01)
    assert np.abs(mesh.rgb - (mesh.vertices + 0.5)).max() < 0.03
    assert np.array_equal(equal_triangles(ring, 2000).vertices, equal_triangles(ring, 2000).vertices)


def test_a_missing_remesher_is_said_in_one_sentence(monkeypatch):
    monkeypatch.setattr("sv3d_pipe.export.remesh.find_spec", lambda name: None)
    with pytest.raises(UserError, match="needs Instant Meshes; install it with"):
        equal_triangles(colored(trimesh.creation.icosphere()), 100)


def test_a_crash_of_the_remesher_is_a_sentence_too(monkeypatch):
    pytest.importorskip("pynanoinstantmeshes", reason="pynanoinstantmeshes is not installed")
    nothing = Mesh(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int64), np.zeros((0, 3), np.float32))
    with pytest.raises(UserError, match="export it without --remesh"):
        equal_triangles(nothing, 100)
