import numpy as np
import pytest
import torch

from sv3d_pipe.artifacts import Views
from sv3d_pipe.cameras import Cameras, orbit, orbit_angles
from sv3d_pipe.geometry.hull import carve, cell_centers
from sv3d_pipe.nerf.field import RadianceField
from sv3d_pipe.nerf.occupancy import OccupancyGrid

BALL = 0.35


def ball_views(size: int = 48) -> Views:
    """Exact silhouettes of a ball, colored by where on the ball the ray enters."""
    cameras = orbit(*orbit_angles("sine", 10.0))
    return Views(ball_pictures(cameras, size), cameras)


def ball_pictures(cameras: Cameras, size: int) -> np.ndarray:
    origins, directions = cameras.rays(size)
    away = origins[:, None, None]
    b = (away * directions).sum(-1)
    inside = b**2 - ((away**2).sum(-1) - BALL**2)
    entry = away - (b + np.sqrt(np.maximum(inside, 0)))[..., None] * directions
    rgb = 0.5 + 0.4 * entry / BALL
    hit = (inside > 0)[..., None]
    return np.concatenate([np.where(hit, rgb, 0), hit], -1).astype(np.float32)


def test_the_hull_of_a_ball():
    hull = carve(ball_views(), 0.6, grid=32)
    distance = np.linalg.norm(cell_centers(32, 0.6), axis=-1).reshape(32, 32, 32)
    assert hull.agreement == 1.0 and hull.covered > 0.99
    assert hull.occupied[distance < BALL].all()
    # Twice the dilation (half a cell's diagonal rounded up to pixels, plus one) bounds the excess at
    # the equator; the poles, which no camera sees from the side, may stick out further.
    assert not hull.occupied[distance > BALL + 0.2].any()


def test_what_a_view_does_not_know_does_not_carve():
    views = ball_views()
    seen = np.ones(views.rgba.shape[:3], bool)
    seen[::2, :, :24] = False
    blind = np.where(seen[..., None], views.rgba, 0)
    # Believed, the black halves would carve half of the ball away.
    distance = np.linalg.norm(cell_centers(32, 0.6), axis=-1).reshape(32, 32, 32)
    known = carve(Views(blind, views.cameras, seen=seen), 0.6, grid=32)
    assert known.agreement == 1.0 and known.occupied[distance < BALL].all()
    believed = carve(Views(blind, views.cameras), 0.6, grid=32)
    assert believed.agreement < 1.0


def test_views_that_contradict_each_other_still_leave_a_hull():
    views = ball_views()
    rgba = views.rgba.copy()
    rgba[4] = 0  # one view shows nothing at all
    hull = carve(Views(rgba, views.cameras), 0.6, grid=32)
    distance = np.linalg.norm(cell_centers(32, 0.6), axis=-1).reshape(32, 32, 32)
    assert 0.85 <= hull.agreement < 1
    assert hull.occupied[distance < BALL].all()


def test_the_photo_has_a_veto():
    views = ball_views()
    photo = np.zeros((96, 96, 4), np.float32)
    photo[:, :48] = 1  # only the left half, x < 0, is object
    hull = carve(Views(views.rgba, views.cameras, photo[None]), 0.6, grid=32)
    x = cell_centers(32, 0.6)[:, 0].reshape(32, 32, 32)
    assert hull.occupied[x < 0].any()
    assert not hull.occupied[x > 0.15].any()


def test_no_object_at_all_leaves_an_empty_hull():
    views = ball_views()
    assert not carve(Views(np.zeros_like(views.rgba), views.cameras), 0.6, grid=16).occupied.any()


@pytest.mark.parametrize("density, kept", [(1e-6, False), (100.0, True)])
def test_density_decides_which_cells_stay(density, kept):
    hull = torch.zeros(8, 8, 8, dtype=torch.bool)
    hull[2:5, 2:5, 2:5] = True
    field = RadianceField(0.6, levels=2, table_log2=8, finest=8)
    with torch.no_grad():
        field.density_head.bias.fill_(float(np.log(density)))
    grid = OccupancyGrid(hull, 0.6, step=0.01)
    generator = torch.Generator().manual_seed(0)
    for _ in range(80):  # what was assumed full fades to nothing: 0.9^80 = 2e-4
        grid.update(field, generator)
    assert torch.equal(grid.alpha > 0.01, torch.full((27,), kept))
    assert torch.equal(grid.occupied, hull) if kept else True
