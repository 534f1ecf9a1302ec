import mcubes
import numpy as np
import pytest
import trimesh
from scipy import ndimage

from sv3d_pipe.artifacts import Views
from sv3d_pipe.cameras import orbit, orbit_angles
from sv3d_pipe.geometry.hull import carve
from sv3d_pipe.prep.one_against_all import mended
from sv3d_pipe.render.draw import render_views
from sv3d_pipe.render.objects import from_trimesh

SIZE = 192


def views_of(body: trimesh.Trimesh) -> Views:
    body.visual = trimesh.visual.ColorVisuals(body, face_colors=(40, 90, 160, 255))
    cameras = orbit(*orbit_angles("sine", 8.0))
    frames = render_views(from_trimesh(body), cameras, SIZE, supersample=2)
    return Views(frames, cameras, photos=frames[-1:])


def ellipsoid(*radii: float) -> trimesh.Trimesh:
    ball = trimesh.creation.icosphere(subdivisions=4, radius=1)
    return trimesh.Trimesh(ball.vertices * radii, ball.faces, process=False)


def without(views: Views, hole: np.ndarray) -> Views:
    """The views with a hole [SIZE, SIZE] bool in the matte of the photo."""
    frames = views.rgba.copy()
    frames[-1, hole] = 0
    return Views(frames, views.cameras, photos=frames[-1:])


def disc(row: float, column: float, radius: float) -> np.ndarray:
    y, x = np.mgrid[:SIZE, :SIZE]
    return (y - row) ** 2 + (x - column) ** 2 < radius**2


def euler(views: Views) -> int:
    """Vertices - edges + faces of the hull's main part's surface: 2 for a ball, 2 less for each hole through it."""
    parts, _ = ndimage.label(carve(views, 0.6, 48).occupied)
    solid = parts == np.bincount(parts.ravel())[1:].argmax() + 1
    vertices, faces = mcubes.marching_cubes(np.pad(solid, 1).astype(float), 0.5)
    return len(vertices) - len(faces) // 2  # a closed surface of triangles has 3 edges for 2 faces


@pytest.fixture(scope="module")
def egg() -> Views:
    return views_of(ellipsoid(0.45, 0.38, 0.3))


def test_a_highlight_in_the_photo_bores_no_hole(egg):
    spoiled = without(egg, disc(88, 100, 9) | disc(110, 70, 12))
    assert euler(egg) == 2 and euler(spoiled) == -2
    repaired, changed = mended(spoiled)
    assert changed == 1 and euler(repaired) == 2
    for before, after in ((egg.photo, repaired.photo), (egg.rgba[-1], repaired.rgba[-1])):
        assert (before[..., 3] > 0.5).sum() == (after[..., 3] > 0.5).sum()
        solid = before[..., 3] == 1
        assert np.abs(after - before)[solid].max() < 0.05  # filled in the color around, not black


def test_true_views_stay_as_they_are(egg):
    for views in (egg, views_of(trimesh.creation.box((0.8, 0.7, 0.5)))):
        same, changed = mended(views)
        assert changed == 0 and np.array_equal(same.rgba, views.rgba)


@pytest.mark.parametrize("thickness", [0.06, 0.12])
def test_a_ring_stays_a_ring(thickness):
    ring = views_of(trimesh.creation.torus(0.35, thickness, 48, 24))
    same, changed = mended(ring)
    assert changed == 0 and euler(same) == 0


def test_a_ring_keeps_its_hole_when_its_matte_has_another():
    ring = views_of(trimesh.creation.torus(0.33, 0.16, 48, 24))
    repaired, changed = mended(without(ring, disc(96, 150, 5)))
    assert changed == 1
    assert np.array_equal(repaired.photo[..., 3] > 0.5, ring.photo[..., 3] > 0.5)
