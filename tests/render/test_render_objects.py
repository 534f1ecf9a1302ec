"""Reading meshes of several materials."""

import numpy as np
import pytest
import trimesh
from PIL import Image
from trimesh.visual import ColorVisuals, TextureVisuals
from trimesh.visual.material import PBRMaterial

from sv3d_pipe.cameras import orbit
from sv3d_pipe.errors import UserError
from sv3d_pipe.render.draw import render_views
from sv3d_pipe.render.objects import load_object

TWO = np.zeros((8, 8, 3), np.uint8)
TWO[:4], TWO[4:] = (255, 0, 0), (0, 0, 255)  # red above, blue below


def square(x: float, material=None, repeats: float = 1.0, rgba=None) -> trimesh.Trimesh:
    corners = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], float)
    mesh = trimesh.Trimesh(corners + (x, 0, 0), [[0, 1, 2], [0, 2, 3]], process=False)
    mesh.visual = (
        TextureVisuals(corners[:, :2] * repeats, material=material)
        if rgba is None
        else ColorVisuals(mesh, vertex_colors=rgba)
    )
    return mesh


def colors(path, columns: list[float], y: float) -> list[list[float]]:
    """What is seen on four squares in a row (x from 0 to 4) at the given heights of [0, 1]."""
    obj = load_object(path)
    picture = render_views(obj, orbit([0.0], 0.0, 2.0), 400, supersample=1)[0]
    pixel = 0.5 * 400 / np.tan(np.radians(33.8) / 2) / 2.0  # per unit of length
    spots = [(int(200 - (y - 0.5) / 4 * pixel), int(200 + (x - 2) / 4 * pixel)) for x in columns]
    return [picture[spot][:3].round(2).tolist() for spot in spots]


def test_every_material_keeps_its_color(tmp_path):
    textured = PBRMaterial(baseColorTexture=Image.fromarray(TWO))
    half = PBRMaterial(baseColorFactor=[0, 128, 0, 255])
    tinted = PBRMaterial(
        baseColorTexture=Image.fromarray(np.full((4, 4, 3), 255, np.uint8)),
        baseColorFactor=[255, 255, 0, 255],
    )
    parts = [square(0, textured, 2.0), square(1, half), square(2, tinted), square(3, rgba=[255, 0, 255, 255])]
    trimesh.Scene(parts).export(tmp_path / "four.glb")
    middle = [0.5, 1.5, 2.5, 3.5]
    green = round(1.055 * (128 / 255) ** (1 / 2.4) - 0.055, 2)  # factors are linear light
    rest = [[0, green, 0], [1, 1, 0], [1, 0, 1]]
    for y, first in ((0.1, [0, 0, 1]), (0.4, [1, 0, 0]), (0.6, [0, 0, 1]), (0.9, [1, 0, 0])):  # twice over
        np.testing.assert_allclose(colors(tmp_path / "four.glb", middle, y), [first, *rest], atol=0.011)


def test_parts_are_placed_by_the_scene(tmp_path):
    scene = trimesh.Scene()
    scene.add_geometry(square(0, PBRMaterial(baseColorFactor=[255, 0, 0, 255])))
    lifted = trimesh.transformations.translation_matrix((0, 3, 0))
    scene.add_geometry(square(0, PBRMaterial(baseColorFactor=[0, 0, 255, 255])), transform=lifted)
    scene.export(tmp_path / "two.glb")
    np.testing.assert_allclose(np.ptp(load_object(tmp_path / "two.glb").vertices, axis=0), [0.25, 1, 0])


def test_a_scene_of_large_textures_stays_within_bounds(tmp_path, monkeypatch):
    monkeypatch.setattr("sv3d_pipe.render.objects.MOST_TEXELS", 10_000)
    pictures = [np.full((64, 256, 3), level, np.uint8) for level in (50, 200)]
    parts = [square(i, PBRMaterial(baseColorTexture=Image.fromarray(p))) for i, p in enumerate(pictures)]
    trimesh.Scene(parts).export(tmp_path / "large.glb")
    texture = load_object(tmp_path / "large.glb").texture
    assert texture.shape[0] * texture.shape[1] <= 10_000
    np.testing.assert_allclose(np.unique((texture * 255).round(2)), [50, 200], atol=0.01)


@pytest.mark.parametrize("bad", [np.nan, 0.0])
def test_meshes_without_extent_are_user_errors(tmp_path, bad):
    mesh = trimesh.Trimesh(np.full((3, 3), bad), [[0, 1, 2]], process=False)
    mesh.export(tmp_path / "bad.ply")
    with pytest.raises(UserError, match="bad.ply has no extent"):
        load_object(tmp_path / "bad.ply")
