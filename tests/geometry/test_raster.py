import numpy as np
import pytest
import torch
import trimesh

from sv3d_pipe.cameras import orbit
from sv3d_pipe.geometry.raster import interpolate, rasterize, rasterize_reference


def lumpy_ball(subdivisions: int):
    ball = trimesh.creation.icosphere(subdivisions=subdivisions, radius=0.5)
    rng = np.random.default_rng(0)
    vertices = torch.tensor(ball.vertices + rng.normal(0, 0.02, ball.vertices.shape), dtype=torch.float32)
    return vertices, torch.tensor(ball.faces)


@pytest.mark.parametrize(("subdivisions", "size"), [(0, 16), (1, 33), (2, 40)])
def test_fast_and_reference_agree(subdivisions, size):
    vertices, faces = lumpy_ball(subdivisions)
    cameras = orbit([0.0, 100.0, 250.0], [0.0, 30.0, -40.0])
    fast, slow = (f(vertices, faces, cameras, size) for f in (rasterize, rasterize_reference))
    assert fast.covered.any()
    assert (fast.face_ids == slow.face_ids).float().mean() > 0.999  # a pixel on an edge may go either way
    same = fast.face_ids == slow.face_ids
    torch.testing.assert_close(fast.barycentrics[same], slow.barycentrics[same], atol=1e-5, rtol=0)
    torch.testing.assert_close(fast.depth[same], slow.depth[same], atol=1e-5, rtol=0)


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
