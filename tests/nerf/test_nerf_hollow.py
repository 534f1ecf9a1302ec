import dataclasses

import numpy as np
import pytest
import torch
import trimesh

from sv3d_pipe.artifacts import Mesh, Views
from sv3d_pipe.cameras import Cameras, orbit, orbit_angles
from sv3d_pipe.config import NerfConfig
from sv3d_pipe.geometry.hull import carve, cell_centers
from sv3d_pipe.geometry.raster import interpolate, rasterize
from sv3d_pipe.nerf import fit_field as fit
from sv3d_pipe.nerf import stereo
from sv3d_pipe.nerf.hollow import Hollow, find_hollow, lengths, votes
from sv3d_pipe.nerf.stereo import Depths, find_depths
from sv3d_pipe.road.context import Checkpoint, Context

TINY = NerfConfig(steps=150, samples=4096, levels=8, table_log2=13, finest=64, surface=40)
RADIUS = 0.6
SIZE = fit.LEAST_SIZE
HALF = np.array([0.32, 0.2, 0.3])  # half sides of the box
WALL = 0.06  # of the open box: four sides and a bottom


def slab(low, high) -> trimesh.Trimesh:
    return trimesh.creation.box(bounds=np.array([low, high]))


def full_box() -> trimesh.Trimesh:
    return slab(-HALF, HALF)


def open_box() -> trimesh.Trimesh:
    x, y, z = HALF
    sides = [slab((s - WALL, -y, -z), (s, y, z)) for s in (WALL - x, x)]
    sides += [slab((-x, -y, s - WALL), (x, y, s)) for s in (WALL - z, z)]
    return trimesh.util.concatenate([*sides, slab((-x, -y, -z), (x, WALL - y, z))])


def true_depths(mesh: trimesh.Trimesh, cameras: Cameras, size: int) -> np.ndarray:
    raster = rasterize(torch.tensor(mesh.vertices).float(), torch.tensor(mesh.faces), cameras, size)
    return torch.where(raster.covered, raster.depth, torch.nan).numpy()


def patterned_views(mesh: trimesh.Trimesh, size: int = SIZE) -> Views:
    """The mesh in a smooth pattern of colors that depends on the place alone; 2 x 2 rays a pixel."""
    cameras = orbit(*orbit_angles("sine", 10.0))
    vertices, faces = torch.tensor(mesh.vertices).float(), torch.tensor(mesh.faces)
    raster = rasterize(vertices, faces, cameras, 2 * size)
    place = interpolate(vertices, faces, raster).numpy()
    waves = np.array([[31.0, 17, 23], [13, 29, 19], [23, 11, 37]])
    rgb = 0.5 + 0.2 * np.sin(place @ waves) + 0.2 * np.sin(place @ waves[::-1] * 0.4 + 1)
    sheet = np.concatenate([rgb, np.ones_like(rgb[..., :1])], -1) * raster.covered.numpy()[..., None]
    rgba = sheet.reshape(len(cameras), size, 2, size, 2, 4).mean((2, 4))
    rgba[..., :3] /= np.maximum(rgba[..., 3:], 1e-6)
    return Views(rgba.clip(0, 1).astype(np.float32), cameras)


def room() -> np.ndarray:
    """[64, 64, 64] bool: the cells that lie wholly inside the open box's room."""
    x, y, z = (np.abs(cell_centers(64, RADIUS)) + RADIUS / 64 < HALF - WALL).T
    below = cell_centers(64, RADIUS)[:, 1] + RADIUS / 64 < HALF[1]
    above = cell_centers(64, RADIUS)[:, 1] - RADIUS / 64 > WALL - HALF[1]
    return (x & z & below & above).reshape(64, 64, 64)


def walls() -> np.ndarray:
    """[64, 64, 64] bool: the cells whose centers lie in the open box's walls."""
    inside = (np.abs(cell_centers(64, RADIUS)) < HALF).all(-1)
    x, y, z = cell_centers(64, RADIUS).T
    empty = (np.abs(x) < HALF[0] - WALL) & (np.abs(z) < HALF[2] - WALL) & (y > WALL - HALF[1])
    return (inside & ~empty).reshape(64, 64, 64)


@pytest.fixture(scope="module")
def cup() -> Views:
    return patterned_views(open_box())


@pytest.fixture(scope="module")
def solid() -> Views:
    return patterned_views(full_box())


def test_a_plane_carries_pixels_to_where_the_other_camera_sees_them():
    cameras = orbit(np.array([0.0, 25.0]), np.array([10.0, 30.0]))
    origins, directions = cameras.rays(32)
    forward = directions[0] @ -cameras.c2w[0, :3, 2]
    points = origins[0] + directions[0] * (1.9 / forward)[..., None]  # [32, 32, 3], all at depth 1.9
    xy, _ = cameras[1].project(points.reshape(-1, 3), 32)
    row, column = np.mgrid[:32, :32]
    moved = stereo._homography(cameras[0], cameras[1], 32, 1.9) @ np.stack(
        [column.ravel(), row.ravel(), np.ones(32**2)]
    )
    np.testing.assert_allclose((moved[:2] / moved[2]).T + 0.5, xy[0], atol=1e-3)


def test_path_costs_are_those_of_the_recurrence():
    cost = np.random.default_rng(0).random((3, 4, 5)).astype(np.float32)

    def along(line: np.ndarray) -> np.ndarray:
        """Hirschmüller's eq. 13 for one line [W, D], word by word."""
        path = [line[0]]
        for here in line[1:]:
            last = path[-1]
            moved = np.minimum(np.append(last[1:], np.inf), np.append(np.inf, last[:-1])) + stereo.SMALL_MOVE
            best = np.minimum(np.minimum(last, moved), last.min() + stereo.LARGE_MOVE)
            path.append(here + best - last.min())
        return np.array(path)

    def both(lines: np.ndarray) -> np.ndarray:
        return np.stack([along(line) + along(line[::-1])[::-1] for line in lines])

    expected = both(cost) + both(cost.swapaxes(0, 1)).swapaxes(0, 1)
    np.testing.assert_allclose(stereo.smooth(cost), expected, atol=1e-5)


def test_stereo_finds_the_depths_of_an_open_box():
    views = patterned_views(open_box())
    found = find_depths(views, RADIUS, Context()).depth
    truth = true_depths(open_box(), views.cameras, SIZE)
    known = np.isfinite(found) & np.isfinite(truth)
    assert known.sum() > 0.85 * np.isfinite(truth).sum()
    cells = np.abs(found - truth)[known] / (2 * RADIUS / 64)
    assert np.median(cells) < 0.5 and (cells < 1).mean() > 0.8


def test_a_view_without_neighbors_knows_no_depth(cup):
    alone = Views(cup.rgba[:1], cup.cameras[:1])
    assert np.isnan(find_depths(alone, RADIUS, Context()).depth).all()


def test_no_depth_is_known_where_the_frames_know_nothing(cup):
    seen = np.ones(cup.rgba.shape[:3], bool)
    seen[4, :, :32] = False
    found = find_depths(dataclasses.replace(cup, seen=seen), RADIUS, Context()).depth
    assert np.isnan(found[4, :, :32]).all() and np.isfinite(found[4, :, 32:]).any()


def one_depth(depth: float) -> Depths:
    return Depths(np.array([0]), np.full((1, 8, 8), depth, np.float32), orbit(np.array([0.0]), 0.0))


def test_cells_before_the_seen_are_free_and_those_behind_unknown():
    free, ending = votes(one_depth(2.0), 8, 0.4)  # camera at z = 2, cells of .1
    np.testing.assert_array_equal(free[4, 4], [0, 0, 0, 0, 0, 1, 1, 1])  # centers -.35 to .35, seen at 0
    np.testing.assert_array_equal(ending[4, 4], [0, 0, 0, 1, 1, 0, 0, 0])


def test_rays_are_measured_in_cells_before_and_behind_what_they_see():
    cells = np.ones((8, 8, 8), bool)
    before, behind = lengths(one_depth(1.8), cells, 0.4)  # sees z = .2, two cells below the cube's face
    assert before[0, 4, 4] == pytest.approx(2, abs=0.6)
    assert behind[0, 4, 4] == pytest.approx(6, abs=0.6)


def test_true_depths_show_the_open_boxs_room(cup):
    hull = carve(cup, RADIUS).occupied
    depths = Depths(np.arange(21), true_depths(open_box(), cup.cameras, SIZE), cup.cameras)
    hollow = find_hollow(hull, depths, RADIUS)
    assert hollow.cells[room()].mean() > 0.7
    assert hollow.cells[walls()].mean() < 0.02
    inside = cell_centers(64, RADIUS)[(hollow.cells & ~room()).ravel()]
    assert inside[:, 1].min() > WALL - HALF[1] - 0.02  # not through the bottom
    assert not (hollow.looks & ~hollow.crosses).any()


def test_true_depths_show_no_room_in_a_full_box(solid):
    hull = carve(solid, RADIUS).occupied
    depths = Depths(np.arange(21), true_depths(full_box(), solid.cameras, SIZE), solid.cameras)
    assert find_hollow(hull, depths, RADIUS) is None


def volume(mesh: Mesh) -> float:
    return abs(mesh.to_trimesh().volume)


def test_an_open_box_is_fitted_open(cup):
    field, metrics = fit.fit_field(TINY, cup, Context())
    assert metrics["hollow_share"] > 0.2
    box, empty = 8 * HALF.prod(), (2 * HALF - (2 * WALL, WALL, 2 * WALL)).prod()  # .154 and .085
    assert box - empty < volume(field.mesh) < 0.75 * box


def test_a_full_box_has_no_hollow(solid):
    hull = carve(solid, RADIUS).occupied
    assert find_hollow(hull, find_depths(solid, RADIUS, Context()), RADIUS) is None


def test_a_hollow_that_the_views_contradict_stays_shut(solid, monkeypatch):
    hull = carve(solid, RADIUS).occupied
    cells = hull.copy()
    cells[:, :28] = False  # the upper half
    into = np.isfinite(true_depths(full_box(), solid.cameras, SIZE))
    monkeypatch.setattr(fit, "find_depths", lambda *_: Depths(np.arange(21), into, solid.cameras))
    monkeypatch.setattr(fit, "find_hollow", lambda *_: Hollow(cells, into, into))
    occupied = fit._opened(dataclasses.replace(TINY, steps=60), solid, hull, RADIUS, Context())
    assert np.array_equal(occupied, hull)


def test_pictures_too_small_for_stereo_are_not_asked(monkeypatch):
    monkeypatch.setattr(fit, "find_depths", lambda *_: pytest.fail("asked"))
    small = patterned_views(open_box(), SIZE - 1)
    hull = carve(small, RADIUS).occupied
    assert fit._opened(TINY, small, hull, RADIUS, Context()) is hull


def test_a_resumed_fit_keeps_its_hollow(solid, tmp_path, monkeypatch):
    short = dataclasses.replace(TINY, steps=4)
    opened = carve(solid, solid.cameras.visible_radius * fit.MARGIN).occupied
    full = opened.sum()
    opened[:, 32:] = False
    monkeypatch.setattr(fit, "_opened", lambda *_: opened)
    context = Context(checkpoint=Checkpoint(tmp_path / "state", 0))
    _, first = fit.fit_field(short, solid, context)
    monkeypatch.setattr(fit, "_opened", lambda *_: pytest.fail("looked for hollows again"))
    _, again = fit.fit_field(short, solid, context)
    assert again == first
    assert again["hollow_share"] == pytest.approx(1 - opened.sum() / full)
