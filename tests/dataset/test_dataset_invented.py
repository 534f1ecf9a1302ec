from dataclasses import replace

import numpy as np
import pytest
import trimesh

from sv3d_pipe.dataset.invented.inventions import KINDS, WEIGHTS, invent
from sv3d_pipe.dataset.invented.solids import (
    Solid,
    extrusion,
    joined,
    lathe,
    regular_outline,
    rotation,
    sheet,
    super_outline,
    superquadric,
    tapered,
    tube,
    twisted,
)

ANGLE = np.linspace(0, 2 * np.pi, 65)
RING = 0.4 * np.stack([np.cos(ANGLE), np.sin(ANGLE), 0 * ANGLE], -1)
LINE = np.linspace(-0.5, 0.5, 9)[:, None] * (1, 0, 0)
SQUARE = np.array([[0.5, -0.5], [0.5, 0.5], [-0.5, 0.5], [-0.5, -0.5]])
SOLIDS = {
    "ball": (superquadric(1, 1), np.pi / 6),
    "octahedron": (superquadric(2, 2), 1 / 6),
    "cylinder": (lathe([[0.5, -0.5], [0.5, 0.5]], 96), np.pi / 4),
    "cone": (lathe([[0.5, -0.5], [0, 0.5]], 96), np.pi / 12),
    "cube": (extrusion(SQUARE), 1.0),
    "star": (extrusion(regular_outline(5, 0.5)), 5 * 0.25 * 0.5 * np.sin(np.pi / 5)),
    "rod": (tube(LINE, 0.1, 64), np.pi * 0.01),
    "ring": (tube(RING, 0.1, 64, closed=True), 2 * np.pi**2 * 0.4 * 0.01),
}


def as_mesh(solid: Solid) -> trimesh.Trimesh:
    mesh = trimesh.Trimesh(solid.vertices, solid.faces)
    mesh.merge_vertices()
    return mesh


@pytest.mark.parametrize("name", SOLIDS)
def test_solids_are_closed_face_outwards_and_have_the_volume_of_the_formula(name):
    solid, volume = SOLIDS[name]
    mesh = as_mesh(solid)
    assert mesh.is_watertight and mesh.is_winding_consistent
    assert mesh.volume == pytest.approx(volume, rel=0.01)


def test_mirroring_turning_and_bending_keep_solids_closed_and_outward():
    for solid in (superquadric(0.4, 1), extrusion(super_outline(5, 0.7, 1, 1), 0.1)):
        for changed in (
            solid.mirrored(),
            solid.placed((1, 2, 3), (4, 5, 6), rotation(1, 30)),
            twisted(solid, 90),
            tapered(solid, 0.5),
            tapered(solid, -0.5),
        ):
            mesh = as_mesh(changed)
            assert mesh.is_watertight and mesh.volume > 0
    two = joined([superquadric(1, 1), superquadric(1, 1).placed(move=(3, 0, 0))])
    assert as_mesh(two).volume == pytest.approx(np.pi / 3, rel=0.01)


def test_turning_is_right_handed():
    np.testing.assert_allclose(rotation(1, 90) @ (0, 0, 1), [1, 0, 0], atol=1e-12)  # z to x around y
    np.testing.assert_allclose(rotation(2, 90) @ (1, 0, 0), [0, 1, 0], atol=1e-12)


def test_texture_coordinates_run_around_and_up():
    solid = lathe([[0.5, -0.5], [0.5, 0.5]])
    corners = solid.vertices[solid.faces]
    wall = np.abs(np.hypot(corners[..., 0], corners[..., 2]) - 0.5).max(1) < 1e-6
    v = solid.corner_uv[wall][..., 1]
    assert np.corrcoef(v.ravel(), corners[wall][..., 1].ravel())[0, 1] == pytest.approx(1)
    front = wall & (corners[..., 2].mean(1) > 0.4)
    right = np.corrcoef(solid.corner_uv[front][..., 0].ravel(), corners[front][..., 0].ravel())[0, 1]
    assert right > 0.99  # seen from the front, u grows to the right


def test_a_sheet_of_four_points_is_two_triangles_towards_the_viewer():
    points = np.array([[[0, 0, 0], [1, 0, 0]], [[0, 1, 0], [1, 1, 0]]], float)
    solid = sheet(points)
    np.testing.assert_allclose(trimesh.Trimesh(solid.vertices, solid.faces).face_normals, [[0, 0, 1]] * 2)
    np.testing.assert_allclose(sheet(points, flip=True).corner_uv[:, ::-1], solid.corner_uv)


@pytest.mark.parametrize("number", range(len(KINDS)))
def test_inventions_of_every_kind_are_sound(number, monkeypatch):
    monkeypatch.setattr("sv3d_pipe.dataset.invented.inventions.KINDS", KINDS[number : number + 1])
    monkeypatch.setattr("sv3d_pipe.dataset.invented.inventions.WEIGHTS", (1.0,))
    for seed in range(4):
        obj = invent(seed)
        assert np.isfinite(obj.vertices).all() and 0 <= obj.faces.min()
        assert np.ptp(obj.vertices, axis=0).max() == pytest.approx(1, abs=1e-6)
        np.testing.assert_allclose(obj.vertices.max(0) + obj.vertices.min(0), 0, atol=1e-6)
        assert obj.texture.min() >= 0 and obj.texture.max() <= 1
        assert obj.corner_uv.min() >= 0 and obj.corner_uv.max() <= 1
        assert len(obj.corner_uv) == len(obj.faces) < 100_000


def test_a_seed_gives_the_same_object_and_another_seed_another():
    assert sum(WEIGHTS) == pytest.approx(1)
    first, again = invent(11), invent(11)
    for name in ("vertices", "faces", "corner_uv", "texture"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
    extents = {tuple(np.ptp(invent(seed).vertices, axis=0).round(4)) for seed in range(12)}
    assert len(extents) == 12


def test_materials_do_not_run_into_each_other():
    """Red and blue tiles beside each other: coordinates at a tile's very edge stay on it."""
    from sv3d_pipe.render.draw import nearest_texels
    from sv3d_pipe.render.objects import Object
    from sv3d_pipe.render.textures import TILE, on_tile

    obj = Object(*([np.zeros(0)] * 3), np.zeros((TILE, 2 * TILE, 3), np.float32))
    obj = replace(obj, texture=np.repeat(np.eye(3, dtype=np.float32)[[[0, 2]]], TILE, 1).repeat(TILE, 0))
    edges = np.array([[0, 0], [1, 0], [0, 1], [1, 1], [0.5, 0.5]])
    np.testing.assert_array_equal(nearest_texels(obj.texture, on_tile(edges, 0, 2)), [[1, 0, 0]] * 5)
    np.testing.assert_array_equal(nearest_texels(obj.texture, on_tile(edges, 1, 2)), [[0, 0, 1]] * 5)
