import numpy as np
import pytest
import torch
import trimesh

from sv3d_pipe.cameras import orbit
from sv3d_pipe.geometry import _raster_boxes
from sv3d_pipe.geometry.raster import Raster, interpolate, rasterize, rasterize_reference


def lumpy_ball(subdivisions: int):
    ball = trimesh.creation.icosphere(subdivisions=subdivisions, radius=0.5)
    rng = np.random.default_rng(0)
    vertices = torch.tensor(ball.vertices + rng.normal(0, 0.02, ball.vertices.shape), dtype=torch.float32)
    return vertices, torch.tensor(ball.faces)


def soup(triangles: int, spread: float, side: float):
    """Triangles anywhere, facing anywhere."""
    rng = np.random.default_rng(1)
    corners = spread * rng.uniform(-1, 1, (triangles, 1, 3)) + side * rng.normal(0, 1, (triangles, 3, 3))
    return torch.tensor(corners.reshape(-1, 3), dtype=torch.float32), torch.arange(3 * triangles).view(-1, 3)


def by_boxes(vertices, faces, cameras, size) -> Raster:
    """The z-buffer for GPUs, of the corners that numba's is given."""
    xy, depth = (torch.from_numpy(a.astype(np.float32)) for a in cameras.project(vertices.numpy(), size))
    return Raster(*_raster_boxes.zbuffer(xy, depth, faces, size))


FAST = {"numba": rasterize, "boxes": by_boxes}
CAMERAS = orbit([0.0, 100.0, 250.0], [0.0, 30.0, -40.0])
SCENES = {
    "a few faces": (*lumpy_ball(0), 16),
    "lumpy": (*lumpy_ball(1), 33),
    "lumpier": (*lumpy_ball(2), 40),
    "small": (*soup(900, 0.5, 0.03), 48),
    "between pixel centers": (*soup(2000, 0.5, 0.002), 48),
    "through all of the picture and the camera": (*soup(200, 1.0, 3.0), 48),
}


@pytest.mark.parametrize("name", FAST)
@pytest.mark.parametrize("scene", SCENES)
def test_fast_and_reference_agree(name, scene):
    vertices, faces, size = SCENES[scene]
    fast, slow = (f(vertices, faces, CAMERAS, size) for f in (FAST[name], rasterize_reference))
    assert fast.covered.any()
    same = fast.face_ids == slow.face_ids
    assert same.float().mean() > 0.999  # a pixel on an edge may go either way
    torch.testing.assert_close(fast.barycentrics[same], slow.barycentrics[same], atol=1e-5, rtol=0)
    torch.testing.assert_close(fast.depth[same], slow.depth[same], atol=1e-5, rtol=0)


@pytest.mark.parametrize("scene", SCENES)
def test_boxes_are_numbas_to_the_last_bit_where_they_see_the_same_triangle(scene):
    vertices, faces, size = SCENES[scene]
    boxes, numba = (f(vertices, faces, CAMERAS, size) for f in (by_boxes, rasterize))
    same = boxes.face_ids == numba.face_ids
    assert (~same).sum() <= 1 and torch.equal(boxes.covered, numba.covered)
    assert torch.equal(boxes.barycentrics[same], numba.barycentrics[same])
    assert torch.equal(boxes.depth[same], numba.depth[same])


def test_of_two_triangles_in_one_place_boxes_show_the_first():
    """Numba compares a depth in float64 with one that was rounded: it shows either."""
    vertices, faces = lumpy_ball(1)
    once, twice = (by_boxes(vertices, f, CAMERAS, 33) for f in (faces, torch.cat([faces, faces])))
    assert torch.equal(twice.face_ids, once.face_ids)


def test_nothing_shows_through_where_faces_meet_at_pixel_centers():
    """The square's diagonal goes through 32 of them."""
    vertices = torch.tensor([[-0.5, -0.5, 0], [0.5, -0.5, 0], [0.5, 0.5, 0], [-0.5, 0.5, 0]]) * 0.97
    raster = by_boxes(vertices, torch.tensor([[0, 1, 2], [0, 2, 3]]), CAMERAS[0], 64)
    rows, columns = raster.covered[0].nonzero().T
    assert raster.covered.sum() == (rows.max() - rows.min() + 1) * (columns.max() - columns.min() + 1)


@pytest.mark.parametrize("candidates", [1, 97, 4096])
def test_boxes_are_compared_in_parts_of_any_size(monkeypatch, candidates):
    vertices, faces = soup(12, 0.5, 0.4)
    whole = by_boxes(vertices, faces, CAMERAS, 9)
    monkeypatch.setattr(_raster_boxes, "CANDIDATES", candidates)
    monkeypatch.setattr(_raster_boxes, "PIXELS", 100)
    parts = by_boxes(vertices, faces, CAMERAS, 9)
    for field in ("face_ids", "barycentrics", "depth"):
        assert torch.equal(getattr(parts, field), getattr(whole, field))


def test_a_mesh_without_faces_and_one_outside_the_picture_show_nothing():
    vertices, faces = lumpy_ball(0)
    for fast in FAST.values():
        for raster in (
            fast(vertices, faces[:0], CAMERAS, 8),
            fast(vertices + torch.tensor([0, 50.0, 0]), faces, CAMERAS, 8),
        ):
            assert raster.face_ids.shape == (3, 8, 8) and not raster.covered.any()
            assert raster.barycentrics.abs().max() == 0 and torch.isinf(raster.depth).all()


def test_interpolated_positions_lie_on_the_pixel_rays():
    vertices, faces = lumpy_ball(2)
    cameras = orbit([30.0], 10.0)
    raster = rasterize(vertices, faces, cameras, 32)
    points = interpolate(vertices, faces, raster)[raster.covered].numpy()
    xy, depth = cameras.project(points, 32)
    rows, columns = np.nonzero(raster.covered[0].numpy())
    np.testing.assert_allclose(xy[0], np.stack([columns, rows], -1) + 0.5, atol=1e-3)
    np.testing.assert_allclose(depth[0], raster.depth[raster.covered].numpy(), atol=1e-4)


def test_the_nearer_triangle_wins_and_the_one_behind_the_camera_is_not_drawn():
    corners = torch.tensor([[-1.0, -1, 0], [1, -1, 0], [0, 1, 0]])
    vertices = torch.cat([corners, corners + torch.tensor([0, 0, 0.5]), corners + torch.tensor([0, 0, 3.0])])
    faces = torch.arange(9).view(3, 3)
    raster = rasterize(vertices, faces, orbit([0.0], 0.0, radius=2.0), 9)
    assert raster.face_ids[0, 4, 4] == 1
    assert raster.depth[0, 4, 4] == pytest.approx(1.5, abs=1e-5)
    assert 2 not in raster.face_ids


def test_interpolate_passes_gradients_to_attributes():
    vertices, faces = lumpy_ball(1)
    raster = rasterize(vertices, faces, orbit([0.0], 0.0), 16)
    attributes = torch.rand(len(vertices), 2, requires_grad=True)
    interpolate(attributes, faces, raster).sum().backward()
    # Barycentrics sum to one, so every covered pixel adds one to each channel in total.
    torch.testing.assert_close(
        attributes.grad.sum(0), raster.covered.sum().float().expand(2), rtol=1e-4, atol=1e-2
    )
