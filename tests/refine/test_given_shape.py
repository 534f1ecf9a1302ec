"""Foreign meshes as starting shapes: placed where the views show the object, closed, or refused."""

import numpy as np
import pytest
import torch
import trimesh

from sv3d_pipe.artifacts import Mesh, Views
from sv3d_pipe.cameras import Cameras, orbit, orbit_angles
from sv3d_pipe.errors import UserError
from sv3d_pipe.geometry.raster import rasterize
from sv3d_pipe.refine.given_shape import close, is_closed, load_shape
from sv3d_pipe.refine.shape_placement import axis_turns
from sv3d_pipe.road.context import Context

LOW, HIGH = np.array([-0.5, -0.3, -0.15]), np.array([0.2, 0.3, 0.15])
NOSE = np.array([0.45, -0.15, 0.0])


def wedge() -> trimesh.Trimesh:
    """A box with a smaller one at its right, low: no turn or flip brings it onto itself."""
    box = trimesh.creation.box(HIGH - LOW)
    box.apply_translation((LOW + HIGH) / 2)
    nose = trimesh.creation.box((0.6, 0.2, 0.2))
    nose.apply_translation(NOSE - (0.25, 0, 0))
    return trimesh.util.concatenate([box.subdivide().subdivide(), nose.subdivide()])


def as_mesh(body: trimesh.Trimesh) -> Mesh:
    gray = np.full((len(body.vertices), 3), 0.5, np.float32)
    return Mesh(np.float32(body.vertices), np.int64(body.faces), gray)


SURFACE = as_mesh(wedge())  # what the field made of the object


@pytest.fixture(scope="module")
def views() -> Views:
    cameras = orbit(*orbit_angles("sine", 10.0, n_frames=8))
    to_world = np.diag([0.25, 0.25, 0.25, 1])
    to_world[:3, 3] = [1, 0, 0]  # capture = 4 (world - (1, 0, 0))
    return Views(picture(wedge(), cameras), cameras, to_world=to_world)


def picture(mesh: trimesh.Trimesh, cameras: Cameras) -> np.ndarray:
    """[N, 64, 64, 4] black."""
    raster = rasterize(
        torch.from_numpy(mesh.vertices).float(), torch.from_numpy(np.array(mesh.faces)), cameras, 256
    )
    alpha = torch.nn.functional.avg_pool2d(raster.covered.float()[:, None], 4)[:, 0, ..., None].numpy()
    return np.concatenate([0 * alpha.repeat(3, -1), alpha], -1)


def saved(mesh: trimesh.Trimesh, path):
    mesh.export(path)
    return path


def load(mesh: trimesh.Trimesh, views: Views, path, context: Context | None = None):
    return load_shape(saved(mesh, path), SURFACE, views, context or Context())


def box_of(mesh: Mesh) -> np.ndarray:
    return np.stack([mesh.vertices.min(0), mesh.vertices.max(0)])


def test_a_mesh_in_our_world_stays_where_it_is(views, tmp_path):
    mesh, metrics = load(wedge(), views, tmp_path / "a.ply")
    assert metrics["shape_placed"] == "world" and metrics["shape_iou"] > 0.97
    assert not metrics["shape_closed"]
    np.testing.assert_allclose(box_of(mesh), wedge().bounds, atol=1e-6)


def test_a_mesh_in_the_captures_coordinates_is_brought_into_the_world(views, tmp_path):
    captured = wedge()
    captured.vertices = 4 * (captured.vertices - [1, 0, 0])
    mesh, metrics = load(captured, views, tmp_path / "a.stl")
    assert metrics["shape_placed"] == "capture"
    np.testing.assert_allclose(box_of(mesh), wedge().bounds, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("y-up 90", 1e-3),
        ("y-up 180", 30),
        ("-y-up 0", 30),
        ("z-up 0", 1e3),
        ("-z-up 270", 0.1),
        ("x-up 90", 25.4),
    ],
)
def test_any_size_place_and_turn_of_the_axes_is_undone(views, tmp_path, name, size):
    moved, name = wedge(), f"fitted {name}"
    moved.vertices = size * (moved.vertices @ axis_turns()[name] + [5, 6, 7])  # the inverse of the rotation
    context = Context()
    mesh, metrics = load(moved, views, tmp_path / "a.obj", context)
    assert metrics["shape_placed"] == name and metrics["shape_iou"] > 0.97
    np.testing.assert_allclose(box_of(mesh), wedge().bounds, atol=0.02)
    assert not context.warnings


def test_any_other_turn_is_undone_too(views, tmp_path):
    moved = wedge()
    moved.apply_transform(trimesh.transformations.rotation_matrix(np.radians(52), [3, 1, -2]))
    mesh, metrics = load(moved, views, tmp_path / "a.ply")
    assert metrics["shape_iou"] > 0.95
    np.testing.assert_allclose(box_of(mesh), wedge().bounds, atol=0.02)


def test_the_turns_are_the_24_rotations_of_the_axes():
    turns = np.stack(list(axis_turns().values()))
    assert len(np.unique(turns, axis=0)) == 24 and (np.abs(turns).sum(1) == 1).all()
    np.testing.assert_allclose(np.linalg.det(turns), 1)
    np.testing.assert_array_equal(axis_turns()["fitted -z-up 0"] @ [0, 0, -1], [0, 1, 0])


def test_a_shape_that_fits_two_ways_and_one_that_fits_poorly_are_told_of(views, tmp_path):
    context = Context()
    box = trimesh.creation.box(HIGH - LOW)
    box.apply_translation([4, 0, 0])
    cameras = views.cameras
    alike = Views(picture(box_at_home := trimesh.creation.box(HIGH - LOW), cameras), cameras)
    load_shape(saved(box, tmp_path / "box.ply"), as_mesh(box_at_home), alike, context)
    assert "turned by 180 degrees" in context.warnings[0]
    context = Context()
    load(trimesh.creation.icosphere(2), views, tmp_path / "ball.ply", context)
    assert "only in part" in context.warnings[0]


def test_a_mesh_with_a_hole_is_closed(views, tmp_path):
    holed = wedge()
    holed.update_faces(np.arange(len(holed.faces)) != 7)
    mesh, metrics = load(holed, views, tmp_path / "a.ply")
    assert metrics["shape_closed"]
    assert is_closed(mesh.faces)
    np.testing.assert_allclose(box_of(mesh), wedge().bounds, atol=0.02)


def test_an_inside_out_mesh_is_turned(views, tmp_path):
    inverted = wedge()
    inverted.invert()
    mesh, _ = load(inverted, views, tmp_path / "a.ply")
    assert trimesh.Trimesh(mesh.vertices, mesh.faces, process=False).volume > 0


def test_the_seams_of_a_texture_are_no_holes(views, tmp_path):
    seamed = wedge()
    seamed.unmerge_vertices()
    _, metrics = load(seamed, views, tmp_path / "a.ply")
    assert not metrics["shape_closed"]


def test_closing_keeps_volume_and_colors():
    ball = trimesh.creation.icosphere(4, 0.4)
    ball = trimesh.Trimesh(ball.vertices, ball.faces[ball.triangles_center[:, 1] > -0.36])
    rgb = np.tile([1.0, 0, 0], (len(ball.vertices), 1)).astype(np.float32)
    closed = close(Mesh(ball.vertices.astype(np.float32), np.array(ball.faces, np.int64), rgb))
    # The cap below -0.36, h = 0.04 high, is cut off: pi h^2 (3 r - h) / 3.
    expected = 4 / 3 * np.pi * 0.4**3 - np.pi * 0.04**2 * (1.2 - 0.04) / 3
    assert trimesh.Trimesh(closed.vertices, closed.faces).volume == pytest.approx(expected, rel=0.02)
    np.testing.assert_array_equal(closed.rgb, np.tile([1, 0, 0], (len(closed.vertices), 1)))


def test_what_is_closed():
    box = np.array(trimesh.creation.box().faces)
    assert is_closed(box)
    assert not is_closed(box[1:])
    flipped = box.copy()
    flipped[0] = flipped[0, ::-1]
    assert not is_closed(flipped)


def test_a_sheet_and_a_stranger_are_refused(views, tmp_path):
    low, high = wedge().bounds
    corners = [[low[0], low[1], 0], [high[0], low[1], 0], [high[0], high[1], 0], [low[0], high[1], 0]]
    sheet = trimesh.Trimesh(corners, [[0, 1, 2], [0, 2, 3]])
    with pytest.raises(UserError, match="is flat and encloses nothing"):
        load(sheet, views, tmp_path / "sheet.ply")
    rod = trimesh.creation.box((0.02, 0.02, 3))
    with pytest.raises(UserError, match="does not look like the object"):
        load(rod, views, tmp_path / "rod.ply")
