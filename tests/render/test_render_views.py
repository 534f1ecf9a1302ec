from dataclasses import replace

import numpy as np
import pytest
import torch
import trimesh

from sv3d_pipe.cameras import orbit
from sv3d_pipe.dataset.invented.toys import procedural
from sv3d_pipe.errors import UserError
from sv3d_pipe.geometry.raster import rasterize
from sv3d_pipe.pictures import to_linear, to_srgb
from sv3d_pipe.render.draw import Light, nearest_texels, render_views
from sv3d_pipe.render.lighting import Studio, corner_normals
from sv3d_pipe.render.objects import from_trimesh, load_object


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


def plain_numpy_views(obj, cameras, size, supersample):
    """Unlit pictures as written down: nearest texels of all sub-pixels, averaged premultiplied."""
    raster = rasterize(
        torch.from_numpy(obj.vertices), torch.from_numpy(obj.faces), cameras, size * supersample
    )
    covered = raster.covered.numpy()
    corner_uv = obj.corner_uv[raster.face_ids.numpy()[covered]]
    uv = (corner_uv * raster.barycentrics.numpy()[covered][..., None]).sum(1)
    sheet = np.zeros((*covered.shape, 4), np.float32)
    sheet[covered, :3] = nearest_texels(obj.texture, uv)
    sheet[covered, 3] = 1
    small = sheet.reshape(len(cameras), size, supersample, size, supersample, 4).mean((2, 4))
    small[..., :3] /= np.maximum(small[..., 3:], 1e-6)
    return small


@pytest.mark.parametrize(("size", "supersample"), [(64, 3), (50, 2), (33, 1)])
def test_the_kernel_draws_exactly_what_plain_numpy_draws(size, supersample):
    rng = np.random.default_rng(0)
    obj = procedural(3)
    uv = rng.uniform(-1.5, 2.5, obj.corner_uv.shape).astype(np.float32)  # wraps around, several times
    obj = replace(obj, corner_uv=uv, texture=rng.random((37, 53, 3), np.float32))
    cameras = orbit([0.0, 100.0, 200.0], 20.0, obj.camera_radius())
    expected = plain_numpy_views(obj, cameras, size, supersample)
    np.testing.assert_array_equal(render_views(obj, cameras, size, supersample=supersample), expected)


def test_views_drawn_one_by_one_are_those_drawn_together(monkeypatch):
    obj, cameras = procedural(2), orbit([0.0, 120.0, 240.0], 10.0, 3.0)
    together = render_views(obj, cameras, 40)
    monkeypatch.setattr("sv3d_pipe.render.draw.SUBPIXELS_AT_ONCE", 1)
    np.testing.assert_array_equal(render_views(obj, cameras, 40), together)


def test_light_from_the_right_brightens_the_right_face_only(colored_cube):
    light = Light((1.0, 0.0, 0.0), 0.5)
    cameras = orbit([90.0, 0.0], 0.0, colored_cube.camera_radius())
    lit = render_views(colored_cube, cameras, 33, light)
    assert lit[0, 16, 16, 0] == pytest.approx(1.0, abs=1e-3)  # red, n.l = 1: 0.5 + 0.5
    assert lit[1, 16, 16, 2] == pytest.approx(0.5, abs=1e-3)  # blue, n.l = 0: ambient only


def studio(lamp, sky=(0.0, 0.0, 0.0), floor=(0.0, 0.0, 0.0), gloss=(0.0, 1.0)) -> Studio:
    return Studio(np.float32([lamp]), np.float32([floor, sky]), gloss)


def middle(obj, light, azimuth=0.0, elevation=0.0):
    """Linear color in the middle of the picture."""
    return to_linear(render_views(obj, orbit([azimuth], elevation, 3.0), 33, light)[0, 16, 16, :3])


def test_a_lamp_lights_by_the_cosine_in_linear_light(colored_cube):
    front = np.array([0.0, 0, 1])  # blue (0, 0, 1)
    at_60 = np.array([np.sin(np.pi / 3), 0, np.cos(np.pi / 3)])
    for direction, expected in ((front, 0.8), (at_60, 0.4), (-front, 0.0)):
        got = middle(colored_cube, studio([*direction, 0.5, 0.6, 0.8]))
        np.testing.assert_allclose(got, [0, 0, expected], atol=1e-3)


def test_the_sky_lights_what_looks_up_and_the_floor_what_looks_down(colored_cube):
    dark = [0, 1, 0, 0, 0, 0]
    light = studio(dark, sky=(0.0, 0.8, 0.4), floor=(0.2, 0.2, 0.2))
    np.testing.assert_allclose(
        middle(colored_cube, light, elevation=89.0), [0, 0.8, 0], atol=1e-3
    )  # green top
    np.testing.assert_allclose(
        middle(colored_cube, light, elevation=-89.0), [0.2, 0, 0.2], atol=1e-3
    )  # magenta
    np.testing.assert_allclose(middle(colored_cube, light), [0, 0, 0.3], atol=1e-3)  # blue side: half of each


def test_highlights_sit_where_the_half_vector_meets_the_normal(colored_cube):
    """Lamp at 60 degrees, eye on the normal: the half vector leans 30 degrees; cos 30 to the 4th is 9/16."""
    lamp = [np.sin(np.pi / 3), 0, np.cos(np.pi / 3), 1, 1, 1]
    got = middle(colored_cube, studio(lamp, gloss=(0.4, 4.0)))
    np.testing.assert_allclose(got, [0.225, 0.225, 0.5 + 0.225], atol=2e-3)


def test_normals_are_smooth_below_the_crease_and_sharp_above():
    cube = trimesh.creation.box((1, 1, 1))
    vertices = cube.vertices.astype(np.float32)
    np.testing.assert_allclose(
        corner_normals(vertices, cube.faces), np.repeat(cube.face_normals[:, None], 3, 1), atol=1e-6
    )
    ball = trimesh.creation.icosphere(subdivisions=3)
    vertices = ball.vertices.astype(np.float32)
    radial = vertices[ball.faces]
    assert np.abs(corner_normals(vertices, ball.faces) - radial).max() < 0.02
    loose = radial.reshape(-1, 3)  # every triangle with vertices of its own, as at seams of a texture
    split = corner_normals(loose, np.arange(len(loose)).reshape(-1, 3))
    np.testing.assert_allclose(split, corner_normals(vertices, ball.faces), atol=1e-6)


def test_a_surface_without_a_closed_side_is_lit_on_the_side_that_is_seen():
    square = trimesh.Trimesh([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]], [[0, 1, 2], [0, 2, 3]])
    square.visual = trimesh.visual.ColorVisuals(square, face_colors=np.full((2, 4), 255, np.uint8))
    behind = studio([0, 0, -1, 0.7, 0.7, 0.7])
    assert middle(from_trimesh(square), behind, azimuth=180.0)[0] == pytest.approx(0.7, abs=1e-3)
    assert middle(from_trimesh(square), behind, azimuth=0.0)[0] == pytest.approx(0, abs=1e-3)


def test_srgb_and_back():
    values = np.linspace(0, 1, 101, dtype=np.float32)
    np.testing.assert_allclose(to_srgb(to_linear(values)), values, atol=1e-6)
    assert to_linear(np.float32(0.5)) == pytest.approx(0.21404, abs=1e-5)


def test_random_studios_are_never_dark_and_differ():
    levels = []
    for seed in range(200):
        light = Studio.random(np.random.default_rng(seed))
        assert np.isfinite(light.lamps).all() and light.lamps[0, 1] > 0
        levels.append(float((light.ambient.mean(0) + light.lamps[0, 3:]).mean()))
    assert 0.5 < min(levels) < 0.85 and 1.0 < max(levels) < 1.4


def test_a_file_that_is_no_mesh_is_a_user_error(tmp_path):
    path = tmp_path / "mesh.glb"
    path.write_text("not a mesh")
    with pytest.raises(UserError, match="mesh.glb"):
        load_object(path)
