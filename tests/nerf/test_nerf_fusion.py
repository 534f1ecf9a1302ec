import numpy as np
import pytest
import torch
import trimesh

from sv3d_pipe.errors import UserError
from sv3d_pipe.nerf.field import RadianceField
from sv3d_pipe.nerf.fusion import (
    Box,
    clean,
    extract,
    fuse_depths,
    render_depths,
    sphere_cameras,
    triangulate,
)
from sv3d_pipe.nerf.occupancy import OccupancyGrid
from sv3d_pipe.road.context import Context

RADIUS, BALL = 0.6, 0.35


def _ball_depths(size: int) -> tuple[np.ndarray, object]:
    """Exact depths along the viewing axis of a ball at the origin."""
    cameras = sphere_cameras(49, RADIUS)
    origins, directions = cameras.rays(size)
    b = (origins[:, None, None] * directions).sum(-1)
    inside = b**2 - ((origins**2).sum(-1)[:, None, None] - BALL**2)
    t = -b - np.sqrt(np.maximum(inside, 0))
    along = -(directions * cameras.c2w[:, None, None, :3, 2]).sum(-1)
    return np.where(inside > 0, t * along, np.inf).astype(np.float32), cameras


def test_fused_depths_of_a_ball_give_the_ball():
    box = Box(np.full(3, -RADIUS, np.float32), 2 * RADIUS / 48, (48, 48, 48))
    sdf, metrics = clean(fuse_depths(*_ball_depths(96), box))
    vertices, faces = triangulate(sdf, box)
    error = np.abs(np.linalg.norm(vertices, axis=-1) - BALL)
    assert error.max() < box.cell
    assert error.mean() < 0.35 * box.cell
    mesh = trimesh.Trimesh(vertices, faces, process=False)
    assert mesh.is_watertight
    assert mesh.volume == pytest.approx(4 / 3 * np.pi * BALL**3, rel=0.05)  # positive: faces outward
    assert metrics == {"components": 1, "components_dropped": 0, "dropped_share": 0.0}


def test_depth_pictures_of_a_dense_ball():
    box = Box(np.full(3, -RADIUS, np.float32), 2 * RADIUS / 64, (64, 64, 64))
    axis = (np.arange(64) + 0.5) * box.cell - RADIUS
    distance = np.sqrt((np.stack(np.meshgrid(axis, axis, axis)) ** 2).sum(0))
    density = np.where(distance < BALL, 400.0, 0.0).astype(np.float32)
    depth, cameras = render_depths(density, box, RADIUS)
    exact, _ = _ball_depths(depth.shape[1])
    both = np.isfinite(depth) & np.isfinite(exact)
    assert both.sum() > 0.95 * np.isfinite(exact).sum()
    assert np.median(np.abs(depth[both] - exact[both])) < box.cell
    assert np.isfinite(depth[~np.isfinite(exact)]).mean() < 0.02


def test_crumbs_are_dropped_and_cavities_filled():
    z, y, x = np.meshgrid(*[np.arange(30)] * 3, indexing="ij")
    shell = np.abs(np.sqrt((x - 12) ** 2 + (y - 12) ** 2 + (z - 12) ** 2) - 7) - 2
    kernel = np.sqrt((x - 12) ** 2 + (y - 12) ** 2 + (z - 12) ** 2) - 2  # floats inside the shell
    crumb = np.sqrt((x - 26) ** 2 + (y - 26) ** 2 + (z - 26) ** 2) - 0.5
    sdf, metrics = clean(np.minimum(np.minimum(shell, kernel), crumb).astype(np.float32))
    assert metrics["components"] == 1 and metrics["components_dropped"] == 1
    vertices, faces = triangulate(sdf, Box(np.zeros(3, np.float32), 1.0, sdf.shape))
    mesh = trimesh.Trimesh(vertices - 12.5, faces, process=False)
    assert mesh.body_count == 1
    np.testing.assert_allclose(np.linalg.norm(mesh.vertices, axis=-1), 9, atol=0.2)


def test_the_end_of_a_thin_part_that_broke_off_stays():
    z, y, x = np.meshgrid(*[np.arange(30)] * 3, indexing="ij")
    ball = np.sqrt((x - 12) ** 2 + (y - 12) ** 2 + (z - 12) ** 2) - 9
    end = np.sqrt((x - 26) ** 2 + (y - 26) ** 2 + (z - 26) ** 2) - 1.5  # half a percent of the ball's volume
    _, metrics = clean(np.minimum(ball, end).astype(np.float32))
    assert metrics == {"components": 2, "components_dropped": 0, "dropped_share": 0.0}


def _field(density: float) -> RadianceField:
    field = RadianceField(RADIUS, levels=2, table_log2=8, finest=8)
    with torch.no_grad():
        field.density_head.bias.fill_(float(np.log(density)))
    return field


def _ball_grid(size: int = 24) -> OccupancyGrid:
    axis = (torch.arange(size) + 0.5) / size * 2 * RADIUS - RADIUS
    distance = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij")).norm(dim=0)
    return OccupancyGrid(distance < BALL, RADIUS, 0.01)


def test_an_empty_field_falls_back_to_the_hull_with_a_warning():
    context = Context()
    mesh, metrics = extract(_field(1e-6), _ball_grid(), 32, context)
    assert metrics["surface"] == "hull" and len(context.warnings) == 1
    radii = np.linalg.norm(mesh.vertices, axis=-1)
    assert BALL - 0.06 < radii.min() and radii.max() < BALL + 0.06
    assert mesh.to_trimesh().is_watertight


def test_a_dense_field_gives_a_closed_mesh_of_its_occupied_cells():
    context = Context()
    mesh, metrics = extract(_field(300.0), _ball_grid(), 32, context)
    assert metrics["surface"] == "fused" and context.warnings == []
    radii = np.linalg.norm(mesh.vertices, axis=-1)
    assert BALL - 0.06 < radii.min() and radii.max() < BALL + 0.06
    assert mesh.to_trimesh().is_watertight
    np.testing.assert_allclose(mesh.rgb, 0.5)


def test_nothing_at_all_is_the_users_error():
    grid = OccupancyGrid(torch.zeros(8, 8, 8, dtype=torch.bool), RADIUS, 0.01)
    with pytest.raises(UserError, match="no object"):
        extract(_field(1.0), grid, 32, Context())
