"""The winding number: known solids, and the fast sum against the exact one."""

import numpy as np
import pytest
import trimesh

from sv3d_pipe.geometry.winding import winding_number, winding_number_reference


@pytest.mark.parametrize("wind", [winding_number, winding_number_reference])
def test_known_values(wind):
    cube = trimesh.creation.box((1, 1, 1))
    points = np.array([[0.0, 0, 0], [0.4, 0.4, -0.4], [0.7, 0, 0], [0, 5, 0]])
    np.testing.assert_allclose(wind(points, cube.vertices, cube.faces), [1, 1, 0, 0], atol=1e-3)
    np.testing.assert_allclose(wind(points, cube.vertices, cube.faces[:, ::-1]), [-1, -1, 0, 0], atol=1e-3)
    # Without one of its six sides the cube covers 5/6 of the directions from its center.
    five = cube.faces[cube.face_normals[:, 1] > -0.5]
    assert wind(points[:1], cube.vertices, five)[0] == pytest.approx(5 / 6)


@pytest.mark.parametrize(
    "mesh",
    [
        trimesh.creation.torus(0.4, 0.15),
        trimesh.creation.icosphere(subdivisions=4),
        trimesh.creation.cone(0.3, 1),
    ],
    ids=["torus", "sphere", "cone"],
)
@pytest.mark.parametrize("holes", [False, True])
def test_fast_matches_reference(mesh, holes):
    faces = mesh.faces[np.arange(len(mesh.faces)) % 7 > 0] if holes else mesh.faces
    points = np.random.default_rng(0).uniform(-1, 1, (200, 3))
    fast, exact = (f(points, mesh.vertices, faces) for f in (winding_number, winding_number_reference))
    np.testing.assert_allclose(fast, exact, atol=0.01)
