import numpy as np
import pytest
import trimesh

from sv3d_pipe.artifacts import Mesh
from sv3d_pipe.export.clean import clean, solidify
from sv3d_pipe.export.watertight import is_solid, patch, rebuild, thin_out


def as_mesh(body: trimesh.Trimesh) -> Mesh:
    rgb = np.full((len(body.vertices), 3), 0.3, np.float32)
    return Mesh(np.asarray(body.vertices, np.float32), np.asarray(body.faces, np.int64), rgb)


def without(body: trimesh.Trimesh, gone: np.ndarray) -> Mesh:
    body = body.copy()
    body.update_faces(~gone)
    body.remove_unreferenced_vertices()
    return as_mesh(body)


BALL = trimesh.creation.icosphere(subdivisions=4, radius=0.5)
VOLUME = 4 / 3 * np.pi * 0.5**3


def test_what_is_solid():
    assert is_solid(as_mesh(BALL))
    assert not is_solid(without(BALL, np.arange(len(BALL.faces)) == 7))
    inverted = BALL.copy()
    inverted.invert()
    assert not is_solid(as_mesh(inverted))
    wings = trimesh.util.concatenate([BALL, trimesh.Trimesh([[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 1, 2]])])
    assert not is_solid(as_mesh(wings))


def test_two_boxes_that_share_an_edge_are_not_a_manifold():
    boxes = [trimesh.creation.box((1, 1, 1)).apply_translation(at) for at in ((0, 0, 0), (1, 1, 0))]
    both = trimesh.util.concatenate(boxes)
    both.merge_vertices()
    assert not is_solid(as_mesh(both))
    assert is_solid(solidify(as_mesh(both)))


def test_small_holes_are_patched_and_nothing_else_moves():
    cap = BALL.triangles_center[:, 1] > 0.495
    opened = without(BALL, cap)
    patched = patch(opened)
    assert np.array_equal(patched.vertices, opened.vertices)
    assert np.array_equal(patched.faces[: len(opened.faces)], opened.faces)
    assert is_solid(solidify(opened))
    assert solidify(opened).to_trimesh().volume == pytest.approx(VOLUME, rel=0.02)


def test_large_holes_are_not_patched_but_filled():
    """Half a ball's surface: a fan of long triangles would be its lid; a flat one comes of rebuilding it."""
    half = without(BALL, BALL.triangles_center[:, 1] > 0)
    assert patch(half) is None
    solid = solidify(half)
    assert is_solid(solid)
    assert solid.to_trimesh().volume == pytest.approx(VOLUME / 2, rel=0.05)
    assert np.allclose(solid.rgb, 0.3, atol=1e-3)


def test_a_flat_sheet_becomes_a_thin_plate():
    sheet = trimesh.Trimesh([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], [[0, 1, 2], [0, 2, 3]])
    solid = rebuild(as_mesh(sheet.subdivide_to_size(0.1)), 64)
    assert is_solid(solid)
    assert solid.to_trimesh().volume == pytest.approx(2 * 0.8 / 64, rel=0.1)  # area 1, thickness 2 SHEET


def test_overlapping_bodies_are_rebuilt_as_their_union():
    boxes = [trimesh.creation.box((0.6, 0.6, 0.6)).apply_translation(at) for at in ((0, 0, 0), (0.3, 0, 0))]
    solid = rebuild(as_mesh(trimesh.util.concatenate(boxes)), 64)
    assert is_solid(solid)
    assert solid.to_trimesh().volume == pytest.approx(0.6 * 0.6 * 0.9, rel=0.03)


@pytest.mark.parametrize("max_faces, volume_error", [(2000, 0.05), (500, 0.15), (60, 1.0)])
def test_thinned_out_meshes_stay_closed(max_faces, volume_error):
    ring = as_mesh(trimesh.creation.torus(0.4, 0.1, 64, 32))
    thin = thin_out(ring, max_faces)
    assert is_solid(thin) and len(thin.faces) <= max_faces
    assert thin.to_trimesh().volume == pytest.approx(2 * np.pi**2 * 0.4 * 0.01, rel=volume_error)
    if max_faces >= 500:
        assert thin.to_trimesh().euler_number == 0  # the hole is still there


def test_simplifying_never_opens_a_closed_mesh():
    """Two balls on a thread: quadric collapse alone tears it at few faces."""
    rod = trimesh.creation.cylinder(0.01, 0.6, sections=12).subdivide_to_size(0.02)
    balls = [trimesh.creation.icosphere(4, 0.2).apply_translation((0, 0, z)) for z in (-0.4, 0.4)]
    solid = rebuild(as_mesh(trimesh.util.concatenate([rod, *balls])), 100)
    for max_faces in (3000, 300, 100):
        mesh, report = clean(solid, max_faces)
        assert report["watertight"] and is_solid(mesh) and len(mesh.faces) <= max_faces
