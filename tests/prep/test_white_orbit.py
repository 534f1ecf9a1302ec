import numpy as np
import pytest
import trimesh

from sv3d_pipe.cameras import Cameras, orbit
from sv3d_pipe.pictures import on_white
from sv3d_pipe.prep.white_edges import PROFILE, Outline
from sv3d_pipe.prep.white_orbit import cut_from_white
from sv3d_pipe.prep.white_shadow import shadow
from sv3d_pipe.render.draw import Light, from_trimesh, render_views

SIZE, FRAMES = 192, 12


def seen(mesh: trimesh.Trimesh, color: float) -> tuple[np.ndarray, Cameras]:
    """Twelve shaded views [12, 192, 192, 4] of a mesh, its colors between 0.9 times that gray and it."""
    mesh.visual = trimesh.visual.ColorVisuals(mesh, vertex_colors=[round(255 * color)] * 3)
    obj = from_trimesh(mesh)
    cameras = orbit(np.arange(FRAMES) * 360 / FRAMES, 5.0, 1.2 * obj.camera_radius())
    return render_views(obj, cameras, SIZE, Light((0.0, 1.0, 0.0), 0.9)), cameras


def painted(truth: np.ndarray) -> np.ndarray:
    """Views on white with faint noise, [N, S, S, 3]."""
    noise = np.random.default_rng(0).normal(0, 0.003, (*truth.shape[:3], 1))
    return np.clip(on_white(truth) + noise, 0, 1).astype(np.float32)


def agreement(alpha: np.ndarray, truth: np.ndarray) -> float:
    a, b = alpha > 0.5, truth > 0.5
    return float((a & b).sum() / (a | b).sum())


def beyond(alpha: np.ndarray, pixels: int = 6) -> np.ndarray:
    """[N, S, S] bool: so far from all that is not background, by the city block."""
    near = alpha > 0
    for _ in range(pixels):
        grown = near.copy()
        for axis in (1, 2):
            for step in (-1, 1):
                grown |= np.roll(near, step, axis)
        near = grown
    return ~near


def ring() -> trimesh.Trimesh:
    return trimesh.creation.torus(0.4, 0.1, major_sections=48, minor_sections=16)  # its axis is z


def bench() -> trimesh.Trimesh:
    """A seat on two legs."""
    parts = [
        ((1.0, 0.25, 0.5), (0, 0.3, 0)),
        ((0.18, 0.6, 0.3), (-0.35, -0.1, 0)),
        ((0.18, 0.6, 0.3), (0.35, -0.1, 0)),
    ]
    boxes = [trimesh.creation.box(size) for size, _ in parts]
    for box, (_, place) in zip(boxes, parts):
        box.apply_translation(place)
    return trimesh.util.concatenate(boxes)


def test_a_white_ball_stays_whole_and_the_background_stays_empty():
    truth, cameras = seen(trimesh.creation.icosphere(3), 0.965)
    cut = cut_from_white(painted(truth), cameras)
    assert agreement(cut[..., 3], truth[..., 3]) > 0.97
    assert cut[..., 3][truth[..., 3] == 1].mean() > 0.98
    assert not cut[beyond(truth[..., 3])].any()


def test_the_hole_of_a_ring_opens():
    truth, cameras = seen(ring(), 0.5)
    cut = cut_from_white(painted(truth), cameras)
    middle = SIZE // 2
    assert truth[0, middle, middle, 3] == 0 and truth[0, middle, middle + 58, 3] == 1  # seen along the axis
    assert agreement(cut[..., 3], truth[..., 3]) > 0.97
    assert not cut[0, middle - 5 : middle + 5, middle - 5 : middle + 5].any()


def test_a_highlight_as_white_as_the_background_is_no_hole():
    truth, cameras = seen(trimesh.creation.icosphere(3), 0.5)
    y, x = np.mgrid[:SIZE, :SIZE] - SIZE / 2
    for n in range(FRAMES):  # it moves with the camera
        light = np.clip(1.6 * np.exp(-((x - 4 * n + 20) ** 2 + (y + 10) ** 2) / 200), 0, 1)[..., None]
        truth[n, ..., :3] += light * (1 - truth[n, ..., :3])
    assert (truth[..., :3][truth[..., 3] == 1] > 0.999).any()
    cut = cut_from_white(painted(truth), cameras)
    assert cut[..., 3][truth[..., 3] == 1].mean() > 0.99


def test_a_leg_that_one_frame_has_lost_comes_back():
    truth, cameras = seen(bench(), 0.4)
    frames = painted(truth)
    y, x = np.mgrid[:SIZE, :SIZE]
    leg = (truth[0, ..., 3] > 0) & (y > SIZE * 0.55) & (x < SIZE / 2)
    assert leg.sum() > 300
    frames[0, leg] = 0.985  # hardly darker than the background
    cut = cut_from_white(frames, cameras)
    assert (cut[0, leg, 3] > 0.5).mean() > 0.8
    assert agreement(cut[..., 3], truth[..., 3]) > 0.95


def test_what_other_frames_ask_for_does_not_come_where_there_is_plain_background():
    truth, cameras = seen(bench(), 0.4)
    frames = painted(truth)
    y, x = np.mgrid[:SIZE, :SIZE]
    leg = (truth[0, ..., 3] > 0) & (y > SIZE * 0.55) & (x < SIZE / 2)
    frames[0, leg] = 1.0
    assert (cut_from_white(frames, cameras)[0, leg, 3] > 0.5).mean() < 0.1


def test_white_frames_hold_nothing():
    cameras = orbit(np.arange(4) * 90.0, 0.0)
    assert not cut_from_white(np.ones((4, 64, 64, 3), np.float32), cameras).any()


@pytest.mark.parametrize("color", [(0.8, 0.3, 0.1), (0.1, 0.1, 0.15)])
def test_a_soft_edge_gets_its_alpha_and_no_white_fringe(color):
    y, x = np.mgrid[:64, :64] + 0.5 - 32
    alpha = np.clip((20 - np.hypot(x, y)) / 3 + 0.5, 0, 1)  # three pixels wide
    truth = np.concatenate([np.broadcast_to(color, (64, 64, 3)), alpha[..., None]], -1).astype(np.float32)
    outline = Outline.of(on_white(truth), np.ones(3, np.float32), alpha > 0.02)
    cut = outline.rgba(64, PROFILE, 0.004, 0.02)
    assert np.abs(cut[..., 3] - alpha).max() < 0.08
    solid = cut[..., 3] > 0.1
    np.testing.assert_allclose(cut[solid][:, :3], np.broadcast_to(color, (solid.sum(), 3)), atol=0.03)


def test_where_an_edge_has_no_contrast_the_profile_gives_its_alpha():
    mask = np.zeros((32, 32), bool)
    mask[8:24, 8:24] = True
    rgb = np.ones((32, 32, 3), np.float32)
    rgb[mask] = 0.99
    outline = Outline.of(rgb, np.ones(3, np.float32), mask)
    alpha = outline.rgba(32, np.float32([0, 0.2, 0.7, 1, 1, 1]), 0.1, 0.0)[..., 3]
    np.testing.assert_allclose(alpha[16, 8:11], [0.2, 0.7, 1.0], atol=0.02)


def test_an_object_cut_off_by_the_frame_is_solid_there():
    mask = np.zeros((32, 32), bool)
    mask[:, 10:] = True
    rgb = np.where(mask[..., None], 0.3, 1.0).astype(np.float32).repeat(3, -1)
    assert Outline.of(rgb, np.ones(3, np.float32), mask).rgba(32, PROFILE, 0.004, 0.02)[:, 14:, 3].min() == 1


def soft_shadow(darkness: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Difference from white [96, 96, 3] of a block and the shadow below it, the block and where either is seen."""
    y, x = np.mgrid[:96, :96]
    block = (y < 60) & (y > 20) & (abs(x - 48) < 25)
    gray = darkness * np.exp(-(((x - 48) / 22.0) ** 2) - ((y - 60) / 14.0) ** 2)
    gray[block] = 0.7
    return np.repeat(gray[..., None], 3, -1).astype(np.float32), block, gray > 0.02


def test_a_shadow_at_the_foot_is_taken_away_and_the_object_is_not():
    difference, block, mask = soft_shadow(0.15)
    found = shadow(difference, difference[..., 0], mask, 0.02)
    assert not found[block].mean() > 0.02
    assert found[mask & ~block].mean() > 0.6


def test_a_pale_part_with_an_edge_is_no_shadow():
    difference, block, _ = soft_shadow(0.0)
    y, x = np.mgrid[:96, :96]
    foot = (y >= 60) & (y < 72) & (abs(x - 48) < 25)
    difference[foot] = 0.06
    assert not shadow(difference, difference[..., 0], block | foot, 0.02)[foot].any()
