import numpy as np
import pytest
import trimesh

from sv3d_pipe.artifacts import Mesh, Views
from sv3d_pipe.cameras import orbit, orbit_angles
from sv3d_pipe.export.bake import bake, spread
from sv3d_pipe.export.projection import Surface, look, occlusion_distance, project, ready_picture
from sv3d_pipe.export.sampling import sample_texture
from sv3d_pipe.export.textured_views import render_textured
from sv3d_pipe.export.unwrap import Texels, texels, unwrap
from sv3d_pipe.export.vertex_diffusion import diffuse
from sv3d_pipe.geometry.meshes import vertex_normals

SIZE = 256


def gray(body: trimesh.Trimesh) -> Mesh:
    rgb = np.full((len(body.vertices), 3), 0.5, np.float32)
    return Mesh(body.vertices.astype(np.float32), np.asarray(body.faces, np.int64), rgb)


def position_rgb(points: np.ndarray) -> np.ndarray:
    return (0.5 + 0.4 * np.sin(6 * points)).astype(np.float32)


@pytest.fixture(scope="module")
def torus() -> Mesh:
    return gray(trimesh.creation.torus(0.35, 0.14, 48, 24))


@pytest.fixture(scope="module")
def ball():
    """A ball, its texels, and frames that show its position colors."""
    mesh = gray(trimesh.creation.icosphere(subdivisions=4, radius=0.5))
    surface = texels(mesh, unwrap(mesh, SIZE), SIZE)
    return mesh, surface, views_of(mesh, 128)


def paint_points(mesh: Mesh, cut, surface: Texels) -> np.ndarray:
    """A texture whose every texel is its point's position color."""
    texture = np.zeros((SIZE, SIZE, 3), np.float32)
    filled = np.zeros((SIZE, SIZE), bool)
    texture[surface.rows, surface.columns] = position_rgb(surface.interpolate(mesh.vertices))
    filled[surface.rows, surface.columns] = True
    return spread(texture, filled)


def test_texels_and_coordinates_agree_on_a_torus(torus):
    cut = unwrap(torus, SIZE)
    assert np.array_equal(cut.source[cut.faces], torus.faces)
    texture = paint_points(torus, cut, texels(torus, cut, SIZE))
    weights = np.random.default_rng(1).dirichlet(np.ones(3), len(torus.faces)).astype(np.float32)
    uv = np.einsum("fk,fkc->fc", weights, cut.uv[cut.faces])
    points = np.einsum("fk,fkc->fc", weights, torus.vertices[torus.faces])
    error = np.abs(sample_texture(texture, uv) - position_rgb(points))
    assert np.median(error) < 0.01
    assert error.max() < 0.12  # a texel is 1/100 of the torus; colors change by 2.4 per unit


def test_charts_do_not_overlap(torus):
    cut = unwrap(torus, SIZE)
    surface = texels(torus, cut, SIZE)
    a, b, c = (cut.uv[cut.faces[:, i]] * SIZE for i in range(3))
    u, v = b - a, c - a
    area = np.abs(u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]).sum() / 2
    assert len(surface.rows) == pytest.approx(area, rel=0.02)  # overlapping charts would hide texels


def test_bilinear_sampling_by_hand():
    texture = np.array([[[0.0], [1.0]], [[2.0], [3.0]]], np.float32).repeat(3, 2)  # row 0 is v = 1
    uv = np.array([[0.25, 0.75], [0.75, 0.75], [0.25, 0.25], [0.5, 0.5], [0.5, 0.75], [0, 1]], np.float32)
    assert np.allclose(sample_texture(texture, uv)[:, 0], [0, 1, 2, 1.5, 0.5, 0], atol=1e-5)


def test_vertex_normals_point_outward_on_a_ball():
    body = trimesh.creation.icosphere(subdivisions=3)
    assert (vertex_normals(body.vertices, body.faces) * body.vertices).sum(-1).min() > 0.999


def test_spread_takes_the_nearest_texel():
    texture, filled = np.zeros((5, 7, 3), np.float32), np.zeros((5, 7), bool)
    texture[2, 0], texture[2, 6] = 0.25, 0.75
    filled[2, [0, 6]] = True
    full = spread(texture, filled)
    assert np.all(full[:, :3] == 0.25) and np.all(full[:, 4:] == 0.75)


def test_diffusion_is_linear_between_two_ends_of_a_strip():
    x = np.arange(6)
    faces = np.concatenate([np.stack([2 * x[:-1], 2 * x[:-1] + 1, 2 * x[1:]], -1),
                            np.stack([2 * x[1:], 2 * x[:-1] + 1, 2 * x[1:] + 1], -1)])  # fmt: skip
    weight = np.zeros(12)
    weight[[0, 1, 10, 11]] = 1e6
    values = np.zeros((12, 1))
    values[[10, 11]] = 5
    spreaded = diffuse(faces, values, weight)[:, 0]
    assert np.all(np.diff(spreaded[::2]) > 0.5)
    assert spreaded[0] == pytest.approx(0, abs=1e-3) and spreaded[11] == pytest.approx(5, abs=1e-3)
    assert np.all(diffuse(faces, values, np.zeros(12)) == 0)


def test_background_color_never_enters_a_picture():
    rgba = np.zeros((32, 32, 4), np.float32)
    rgba[..., 1] = 1  # green behind
    rgba[8:24, 8:24] = (1, 0, 0, 1)
    rgba[8, 8:24] = (0.5, 0.5, 0, 0.5)  # a mixed border
    assert np.all(ready_picture(rgba).rgb == (1, 0, 0))
    assert ready_picture(np.zeros((8, 8, 4), np.float32)) is None


def test_occlusion_edges_are_steps_between_surfaces_only():
    depth = np.full((100, 100), np.inf, np.float32)
    depth[20:80, 20:80] = 2.0
    assert np.all(occlusion_distance(depth) == 1)
    depth[20:80, 50:80] = 1.5
    distance = occlusion_distance(depth)
    assert distance[50, 50] == 0
    assert distance[50, 30] == pytest.approx(0.19, abs=0.015)


def test_hidden_and_averted_points_are_not_seen():
    front = trimesh.creation.box((0.3, 0.3, 0.02)).apply_translation((0, 0, 0.3))
    back = trimesh.creation.box((0.6, 0.6, 0.02))
    mesh = gray(trimesh.util.concatenate([front, back]))
    normal = np.array([[0, 0, 1]] * 3 + [[0, 0, -1]], np.float32)
    points = np.array([[0, 0, 0.31], [0, 0, 0.01], [0.27, 0, 0.01], [0.27, 0, -0.01]], np.float32)
    picture = ready_picture(np.ones((64, 64, 4), np.float32))
    camera = orbit([0.0], 0.0)
    index, rgb, trust = project(look(picture, camera, mesh), Surface(points, normal, normal), (0.1, 0.4))
    assert index.tolist() == [0, 2]
    assert np.allclose(trust, 1) and np.allclose(rgb, 1)


def test_a_side_that_turns_away_is_not_painted_round_the_crease():
    mesh = gray(trimesh.creation.box((0.6, 0.6, 0.6)))
    point = np.array([[0.3, 0, 0.299]], np.float32)
    smooth, flat = np.float32([[0.7071, 0, 0.7071]]), np.float32([[1, 0, 0]])
    picture = ready_picture(np.ones((64, 64, 4), np.float32))

    def seen(azimuth):
        view = look(picture, orbit([azimuth], 0.0), mesh)
        return len(project(view, Surface(point, smooth, flat), (0.1, 0.4))[0])

    assert seen(0.0) == 0
    assert seen(45.0) == 1


def views_of(mesh: Mesh, size: int) -> Views:
    """Frames whose colors are the positions, rendered through a texture."""
    cut = unwrap(mesh, SIZE)
    texture = paint_points(mesh, cut, texels(mesh, cut, SIZE))
    cameras = orbit(*orbit_angles("sine", 10.0))
    return Views(
        render_textured(mesh.vertices[cut.source], cut.faces, cut.uv, texture, cameras, size), cameras
    )


def test_baked_colors_are_the_surface_s_own(ball):
    mesh, surface, views = ball
    paint = bake(mesh, surface, views, SIZE)
    points = surface.interpolate(mesh.vertices)
    baked = paint.texture[surface.rows, surface.columns] / 255
    error = np.abs(baked - position_rgb(points)).mean(-1)
    low = np.abs(points[:, 1]) < 0.35  # within reach of the orbit
    assert error[low].mean() < 0.015
    assert np.quantile(error[low], 0.99) < 0.06
    assert paint.photo_coverage == 0 and paint.seen_coverage > 0.85


def test_the_photo_wins_where_it_sees_and_fades_smoothly(ball):
    mesh, surface, views = ball
    green = np.broadcast_to(np.float32((0.2, 0.6, 0.2)), (*views.rgba.shape[:3], 3))
    frames = np.concatenate([green, views.rgba[..., 3:]], -1)
    striped = np.concatenate([green[-1] * 0 + (0.25, 0.6, 0.2), views.rgba[-1, ..., 3:]], -1)
    stripe = np.arange(128) // 4 % 2 == 0
    striped[:, stripe, 0] = 0.15  # same mean, so that only the pattern tells photo from frames
    paint = bake(mesh, surface, Views(frames, views.cameras, striped.astype(np.float32)[None]), SIZE)
    points = surface.interpolate(mesh.vertices)
    baked = paint.texture[surface.rows, surface.columns] / 255
    toward = views.cameras.origins[-1] / 2
    facing = points @ toward / 0.5
    assert baked[facing > 0.7, 0].std() > 0.04
    assert baked[facing < -0.1, 0].std() < 0.01
    assert 0.15 < paint.photo_coverage < 0.5


def test_frames_take_the_photo_s_exposure(ball):
    mesh, surface, views = ball
    dark = np.concatenate([views.rgba[..., :3] * 0 + 0.4, views.rgba[..., 3:]], -1)
    bright = np.concatenate([dark[-1, ..., :3] + 0.1, dark[-1, ..., 3:]], -1)
    paint = bake(mesh, surface, Views(dark, views.cameras, bright[None]), SIZE)
    assert np.abs(paint.texture / 255.0 - 0.5).max() < 0.02


def test_frames_of_different_tints_leave_no_seams(ball):
    """Every other frame is darker: the texture is as the photo, where it does not see too."""
    mesh, surface, views = ball
    gray = np.concatenate([views.rgba[..., :3] * 0 + 0.6, views.rgba[..., 3:]], -1)
    photo = gray[-1].copy()
    gray[::2, ..., :3] -= np.float32((0.2, 0.1, 0))
    paint = bake(mesh, surface, Views(gray, views.cameras, photo[None]), SIZE)
    low = np.abs(surface.interpolate(mesh.vertices)[:, 1]) < 0.35
    baked = paint.texture[surface.rows, surface.columns][low] / 255
    assert np.abs(baked - 0.6).max() < 0.03


def test_unseen_texels_take_the_color_around_them(ball):
    mesh, surface, _ = ball
    cameras = orbit(np.arange(8) * 45.0, 0.0)
    rgba = np.zeros((8, 64, 64, 4), np.float32)
    rgba[:] = (0.8, 0.3, 0.1, 1)
    paint = bake(mesh, surface, Views(rgba, cameras), SIZE)
    assert paint.seen_coverage < 0.99
    assert np.abs(paint.texture.astype(float) - np.array([0.8, 0.3, 0.1]) * 255).max() < 4


def test_the_flat_camera_draws_charts_exactly():
    """A triangle that covers the lower left half of the texture covers just those texel centers."""
    mesh = Mesh(np.eye(3, dtype=np.float32), np.array([[0, 1, 2]]), np.zeros((3, 3), np.float32))

    class Cut:
        uv = np.array([[0, 0], [1, 0], [0, 0.999]], np.float32)
        faces = np.array([[0, 1, 2]])

    surface = texels(mesh, Cut, 16)
    assert len(surface.rows) == 16 * 15 // 2
    first = np.flatnonzero((surface.rows == 15) & (surface.columns == 0))[0]
    assert np.allclose(surface.weights[first], (1 - 1 / 16 - 0.00003, 1 / 32, 1 / 32), atol=1e-3)
