"""Highlights that move with the camera, or that only the photo has, are not painted on; the photo's detail is."""

import numpy as np
import pytest
import trimesh

from sv3d_pipe.artifacts import Mesh, Views
from sv3d_pipe.cameras import orbit, orbit_angles
from sv3d_pipe.export._consensus_numba import ROUNDS, consensus
from sv3d_pipe.export.bake import bake
from sv3d_pipe.export.unwrap import Texels, texels, unwrap
from sv3d_pipe.render.draw import render_views
from sv3d_pipe.render.objects import from_trimesh

SIZE = 192
GRAY = 0.4


@pytest.fixture(scope="module")
def ball() -> tuple[Mesh, Texels, Views]:
    """A gray ball, its texels, and what a sine orbit sees of it."""
    body = trimesh.creation.icosphere(subdivisions=4, radius=0.5)
    rgb = np.full((len(body.vertices), 3), GRAY, np.float32)
    mesh = Mesh(body.vertices.astype(np.float32), np.asarray(body.faces, np.int64), rgb)
    body.visual = trimesh.visual.ColorVisuals(body, face_colors=(102, 102, 102, 255))
    cameras = orbit(*orbit_angles("sine", 10.0))
    return (
        mesh,
        texels(mesh, unwrap(mesh, SIZE), SIZE),
        Views(render_views(from_trimesh(body), cameras, SIZE), cameras),
    )


def glow(strength: float) -> np.ndarray:
    """[SIZE, SIZE] a highlight left above the middle of a picture."""
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE
    return (strength * np.exp(-((x - 0.43) ** 2 + (y - 0.4) ** 2) / 0.05**2)).astype(np.float32)


def with_glow(rgba: np.ndarray, strength: float) -> np.ndarray:
    return np.concatenate([np.clip(rgba[..., :3] + glow(strength)[..., None], 0, 1), rgba[..., 3:]], -1)


def baked(mesh: Mesh, surface: Texels, views: Views) -> tuple[np.ndarray, np.ndarray]:
    """Colors [T, 3] and points [T, 3] of the texels."""
    paint = bake(mesh, surface, views, SIZE)
    return paint.texture[surface.rows, surface.columns] / 255, surface.interpolate(mesh.vertices)


@pytest.mark.parametrize("with_photo", [False, True])
def test_a_highlight_that_moves_with_the_camera_leaves_no_patch(ball, with_photo):
    mesh, surface, views = ball
    frames = with_glow(views.rgba, 0.5)
    rgb, points = baked(mesh, surface, Views(frames, views.cameras, frames[-1:] if with_photo else None))
    reached = np.abs(points[:, 1]) < 0.4
    error = np.abs(rgb - np.median(rgb)).mean(-1)[reached]
    assert np.median(np.abs(rgb - GRAY)) < 0.05
    assert np.quantile(error, 0.99) < 0.1  # the highlight itself is .5


def test_lettering_under_a_highlight_of_the_photo_stays_and_the_highlight_goes(ball):
    mesh, surface, views = ball
    photo = views.rgba[-1].copy()
    stripe = np.arange(SIZE) // 3 % 2 == 0
    photo[:, stripe, :3] -= 0.1
    photo[:, ~stripe, :3] += 0.1
    plain, points = baked(mesh, surface, Views(views.rgba, views.cameras, photo[None]))
    lit, _ = baked(mesh, surface, Views(views.rgba, views.cameras, with_glow(photo, 0.35)[None]))
    xy = views.cameras[-1].project(points, SIZE)[0][0]
    spot = (points @ views.cameras.origins[-1] > 0.5) & (
        np.hypot(*(xy - (0.43 * SIZE, 0.4 * SIZE)).T) < 0.06 * SIZE
    )
    assert spot.sum() > 50
    assert lit[spot].std() > 0.8 * plain[spot].std() > 0.05
    assert abs(lit[spot].mean() - plain[spot].mean()) < 0.1


def test_a_faint_or_small_difference_of_the_photo_is_its_own(ball):
    mesh, surface, views = ball
    y, x = np.mgrid[:SIZE, :SIZE]
    dot = np.hypot(x - 96, y - 90) < 1.5
    photo = with_glow(views.rgba[-1], 0.06)
    photo[dot, :3] = (0.9, 0.1, 0.1)
    rgb, points = baked(mesh, surface, Views(views.rgba, views.cameras, photo[None]))
    xy = views.cameras[-1].project(points, 1)[0][0]
    seen = points @ views.cameras.origins[-1] > 0.6
    center = seen & (np.hypot(*(xy - (96.5 / SIZE, 90.5 / SIZE)).T) < 0.8 / SIZE)
    assert center.any() and rgb[center, 0].max() > 0.8 and rgb[center, 1].min() < 0.2
    top = seen & (np.hypot(*(xy - (0.43, 0.4)).T) < 0.02)
    assert rgb[top].mean() > GRAY + 0.04


def consensus_in_numpy(colors, trust, sharpness, usual, rgb, weight, agreeing):
    """What the kernel does, written plainly: same arguments, the last three are written to."""
    middle = (trust[..., None] * colors).sum(0) / np.maximum(trust.sum(0), 1e-12)[:, None]  # [P, 3]
    for _ in range(ROUNDS):
        say = trust / np.sqrt(1e-4 + np.square(colors - middle).sum(-1))  # [N, P]
        middle = (say[..., None] * colors).sum(0) / np.maximum(say.sum(0), 1e-12)[:, None]
    near = usual**2 / (usual**2 + np.square(colors - middle).sum(-1))
    weight[:], agreeing[:] = (trust**sharpness).sum(0), (trust * near).sum(0)
    say = trust**sharpness * near**2
    rgb[:] = (say[..., None] * colors).sum(0) / np.maximum(say.sum(0), 1e-12)[:, None]


def test_the_kernel_agrees_with_plain_numpy():
    rng = np.random.default_rng(0)
    colors = rng.random((7, 50, 3), np.float32)
    trust = rng.random((7, 50), np.float32) * (rng.random((7, 50)) < 0.6)
    trust[:, :3] = 0  # seen by nobody
    results = []
    for one in (consensus, consensus_in_numpy):
        found = np.zeros((50, 3), np.float32), np.zeros(50, np.float32), np.zeros(50, np.float32)
        one(colors, trust.astype(np.float32), 3, np.float32(0.1), *found)
        results.append(np.concatenate([found[0].ravel(), *found[1:]]))
    np.testing.assert_allclose(*results, atol=1e-5)
