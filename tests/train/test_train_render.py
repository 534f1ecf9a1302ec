import numpy as np
import pytest
import trimesh

from sv3d_pipe.cameras import orbit
from sv3d_pipe.errors import UserError
from sv3d_pipe.train.render import Light, from_trimesh, load_object, render_views
from sv3d_pipe.train.shapes import procedural


def test_objects_are_centered_and_of_unit_size():
    box = trimesh.creation.box((4, 2, 1))
    box.apply_translation((7, 8, 9))
    obj = from_trimesh(box)
    np.testing.assert_allclose(obj.vertices.max(0), [0.5, 0.25, 0.125])
    np.testing.assert_allclose(obj.vertices.min(0), [-0.5, -0.25, -0.125])


def test_nothing_is_clipped_from_the_camera_radius():
    for seed in range(3):
        obj = procedural(seed)
        views = render_views(obj, orbit(np.arange(0, 360, 60.0), 20.0, obj.camera_radius()), 128)
        border = np.concatenate([views[:, 0], views[:, -1], views[:, :, 0], views[:, :, -1]], 1)
        assert border[..., 3].max() == 0


def test_same_seed_same_object():
    a, b, c = procedural(5), procedural(5), procedural(6)
    np.testing.assert_array_equal(a.vertices, b.vertices)
    np.testing.assert_array_equal(a.texture, b.texture)
    assert len(a.vertices) != len(c.vertices) or not np.allclose(a.vertices, c.vertices)


def test_light_from_the_right_brightens_the_right_face_only(colored_cube):
    light = Light((1.0, 0.0, 0.0), 0.5)
    cameras = orbit([90.0, 0.0], 0.0, colored_cube.camera_radius())
    lit = render_views(colored_cube, cameras, 33, light)
    assert lit[0, 16, 16, 0] == pytest.approx(1.0, abs=1e-3)  # red, n.l = 1: 0.5 + 0.5
    assert lit[1, 16, 16, 2] == pytest.approx(0.5, abs=1e-3)  # blue, n.l = 0: ambient only


def test_a_file_that_is_no_mesh_is_a_user_error(tmp_path):
    path = tmp_path / "mesh.glb"
    path.write_text("not a mesh")
    with pytest.raises(UserError, match="mesh.glb"):
        load_object(path)
