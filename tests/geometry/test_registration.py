"""Photos framed by themselves find their scale, their place and their small turns by their outlines."""

import cv2
import numpy as np
import pytest
import trimesh

from sv3d_pipe.cameras import orbit
from sv3d_pipe.geometry.common_shape import CommonShape
from sv3d_pipe.geometry.outlines import Outline
from sv3d_pipe.geometry.registration import register
from sv3d_pipe.prep.frame import recenter
from sv3d_pipe.render.draw import render_views
from sv3d_pipe.render.objects import from_trimesh

SIZE = 192
AZIMUTH, ELEVATION = np.array([90.0, 180.0, 270.0, 0.0]), np.full(4, 10.0)


@pytest.fixture(scope="module")
def thing():
    """A long body with a head and a foot, like nothing turned or mirrored."""
    parts = [
        trimesh.creation.box((0.7, 0.2, 0.3)),
        trimesh.creation.box((0.15, 0.3, 0.2)),
        trimesh.creation.icosphere(2, 0.12),
    ]
    parts[1].apply_translation((0.25, -0.2, 0.05))
    parts[2].apply_translation((-0.3, 0.18, -0.08))
    thing = trimesh.util.concatenate(parts)
    thing.apply_translation(-thing.bounds.mean(0))
    thing.apply_scale(1.3)  # so that its front fills a frame as prep would have it, and is hardly enlarged
    return from_trimesh(thing)


def framed(obj, azimuth, elevation) -> tuple[np.ndarray, np.ndarray]:
    """Alphas [K, S, S] as prep frames them, and by how much each was enlarged [K]."""
    pictures = render_views(obj, orbit(azimuth, elevation), SIZE)
    longest = [max(np.ptp(np.nonzero(p[..., 3] > 0.5), 1) + 1) for p in pictures]
    alphas = np.stack([recenter(p, 0.8, SIZE)[..., 3] for p in pictures])
    return alphas, 0.8 * SIZE / np.array(longest)


def test_true_angles_stay_and_scales_are_found(thing):
    alphas, enlarged = framed(thing, AZIMUTH, ELEVATION)
    found = register(alphas, AZIMUTH, ELEVATION)
    assert np.abs(np.degrees(found.turn)).max() < 3
    # A thing nearer to the first camera looks the same to it, and smaller from behind: outlines hardly tell that apart.
    assert found.scale == pytest.approx(enlarged[-1] / enlarged, rel=0.1) and found.scale.min() < 0.8
    assert found.scale[-1] == 1 and not found.shift[-1].any() and not found.turn[-1].any()
    assert found.misfit.max() == 0 and found.strain.max() < 1.5


def test_wrong_angles_are_made_better(thing):
    rng = np.random.default_rng(3)
    before, after = [], []
    for _ in range(3):
        error = rng.normal(0, 5, (4, 2))
        error[-1] = 0
        alphas, _ = framed(thing, AZIMUTH + error[:, 0], ELEVATION + error[:, 1])
        found = register(alphas, AZIMUTH, ELEVATION)
        before.append(np.abs(error[:-1]).mean())
        after.append(np.abs(np.degrees(found.turn[:-1, :2]) - error[:-1]).mean())
    assert np.mean(after) < 0.7 * np.mean(before)


def test_another_object_does_not_fit(thing):
    alphas, _ = framed(thing, AZIMUTH, ELEVATION)
    ring = np.zeros_like(alphas[0])
    cv2.circle(ring, (96, 96), 70, 1, 12)
    cv2.line(ring, (96, 10), (96, 40), 1, 8)
    alphas[0] = ring
    found = register(alphas, AZIMUTH, ELEVATION)
    assert found.strain[:3].max() > 5


def test_a_photo_without_any_outline_is_left_as_it_is(thing):
    alphas, _ = framed(thing, AZIMUTH, ELEVATION)
    with pytest.raises(ValueError, match="a photo is empty"):
        register(np.concatenate([alphas[:1] * 0, alphas[1:]]), AZIMUTH, ELEVATION)


def test_the_common_shape_holds_to_what_is_known(thing):
    """Painted outlines are those of a smaller and shifted thing; the known ones, of two sides, are right."""
    cameras = orbit(np.arange(12) * 30.0, 10.0)
    smaller = from_trimesh(
        trimesh.Trimesh(thing.vertices * (1, 0.9, 0.6) + (0, 0, 0.03), thing.faces, process=False)
    )
    painted = [Outline.of(p[..., 3]) for p in render_views(smaller, cameras, 64)]
    truth = render_views(thing, cameras, 64)[..., 3] > 0.5
    known = [0, 3]
    outlines = [Outline.of(alpha.astype(np.float32)) for alpha in truth[known]]
    shape = CommonShape.of(painted, cameras, outlines, cameras[known], cameras.visible_radius)

    def iou(masks) -> np.ndarray:
        return (masks & truth).sum((1, 2)) / (masks | truth).sum((1, 2))

    drawn = np.stack([shape.seen(camera, 64) > 0 for camera in cameras])
    before = iou(np.stack([cv2.resize(o.inside, (64, 64)) > 0 for o in painted]))
    after = iou(drawn)
    assert after[known].min() > 0.85 > before[known].max()
    assert np.delete(after - before, known).mean() > 0.05
