"""Reading meshes of strangers: bounded, from their own folder only, never half read; colors never cost the shape."""

import re

import numpy as np
import pytest
from mesh_texts import CORNERS, FACES, GRAY, TETRA, TEXTURED, gltf, picture_uri, put, read, tetra
from PIL import Image

from sv3d_pipe.artifacts import Mesh
from sv3d_pipe.errors import UserError


def test_a_plain_material_is_its_color_with_and_without_coordinates(tmp_path):
    put(tmp_path, "a.mtl", "newmtl a\nKd .9 .1 .1\n")
    for text in (TETRA + "usemtl a\n" + FACES, TETRA + TEXTURED):
        obj, mesh, said = read(put(tmp_path, text="mtllib a.mtl\n" + text))
        assert said == [] and len(obj.faces) == len(mesh.faces) == 4
        assert np.allclose(obj.texture, [0.9, 0.1, 0.1], atol=0.01)
        assert np.allclose(mesh.rgb, [0.9, 0.1, 0.1], atol=0.01)
    material = {"pbrMetallicRoughness": {"baseColorFactor": [1, 0.2140411, 0, 1]}}
    part = {"attributes": {"POSITION": 0}, "indices": 1, "material": 0}
    path = gltf(tmp_path, *tetra(), materials=[material], meshes=[{"primitives": [part]}])
    obj, mesh, said = read(path)
    assert said == [] and np.allclose(obj.texture, [1, 0.5, 0], atol=0.01)  # sRGB of linear light
    assert np.allclose(mesh.rgb, [1, 0.5, 0], atol=0.01)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "names a.mtl, which is not there"),
        ({"a.mtl": "newmtl a\nmap_Kd wood.png\n"}, "names wood.png, which is not there"),
        ({"a.mtl": "newmtl a\nmap_Kd wood.png\n", "wood.png": "no picture"}, "wood.png is not a picture"),
        ({"a.mtl": "newmtl a\nmap_Kd ../wood.png\n", "../wood.png": "x"}, "lies outside of its folder"),
        ({"a.mtl": "\0\1 nonsense"}, "material a, which cannot be found"),
    ],
)
@pytest.mark.parametrize("text", [TETRA + "usemtl a\n" + FACES, TETRA + TEXTURED])
def test_color_trouble_does_not_cost_the_shape_and_is_said(tmp_path, files, words, text):
    folder = tmp_path / "in"
    folder.mkdir()
    for name, content in files.items():
        put(folder, name, content)
    path = put(folder, text="mtllib a.mtl\n" + text)
    obj, mesh, said = read(path)
    assert len(obj.faces) == len(mesh.faces) == 4
    assert np.allclose(obj.texture, GRAY, atol=0.01) and np.allclose(mesh.rgb, GRAY, atol=0.01)
    assert len(said) == 1
    assert re.search(words, said[0])


def test_pictures_are_found_by_any_spelling_of_their_name(tmp_path):
    Image.new("RGB", (4, 4), (200, 30, 20)).save(tmp_path / "my wood.png")
    for name in ("my wood.png", "C:\\Users\\me\\my wood.png", "./my%20wood.png"):
        put(tmp_path, "a.mtl", f"newmtl a\nmap_Kd {name}\n")
        obj, mesh, said = read(put(tmp_path, text="mtllib a.mtl\n" + TETRA + TEXTURED))
        assert said == [] and np.allclose(obj.texture, np.array([200, 30, 20]) / 255, atol=1e-3)
        assert np.allclose(mesh.rgb, np.array([200, 30, 20]) / 255, atol=0.01)


def test_colors_of_vertices_count_where_a_material_has_no_picture(tmp_path):
    colors = np.tile(np.array([[0, 255, 0, 255]], np.uint8), (4, 1))
    part = {"attributes": {"POSITION": 0, "COLOR_0": 2}, "indices": 1, "material": 0}
    half = {"pbrMetallicRoughness": {"baseColorFactor": [0.5, 0.5, 0.5, 1]}}
    for material, green in (({}, 1), (half, 128 / 255)):
        path = gltf(
            tmp_path, *tetra(), (colors, {"normalized": True}), materials=[material],
            meshes=[{"primitives": [part]}],
        )  # fmt: skip
        obj, mesh, said = read(path)
        assert said == [] and np.allclose(obj.texture, [0, green, 0]) and np.allclose(mesh.rgb, [0, green, 0])


# glTF


@pytest.mark.parametrize("kind", ["<i2", "<u2", "|i1", "|u1"])
def test_quantized_attributes_are_read_right(tmp_path, kind):
    most = np.iinfo(kind).max
    quantized = (CORNERS * [most, most // 2, most]).round().astype(kind)
    uv = np.tile(np.array([[0.75, 0.5]]), (4, 1)) * 65535 / 2  # halved: the transform doubles it
    base = {
        "index": 0, "texCoord": 1, "extensions": {"KHR_texture_transform": {"scale": [2, 2], "offset": [0, 0]}},
    }  # fmt: skip
    part = {
        "attributes": {"POSITION": 0, "TEXCOORD_0": 3, "TEXCOORD_1": 2}, "indices": 1, "material": 0,
    }  # fmt: skip
    path = gltf(
        tmp_path, (quantized, {"normalized": True}), tetra()[1], (uv.round().astype("<u2"), {"normalized": True}),
        (np.zeros((4, 2), "<f4"), {}), meshes=[{"primitives": [part]}], extensionsRequired=["KHR_mesh_quantization"],
        nodes=[{"mesh": 0, "scale": [2, 2, 2]}], textures=[{"source": 0}],
        images=[{"uri": picture_uri((255, 0, 0), (0, 0, 255))}],
        materials=[{"pbrMetallicRoughness": {"baseColorTexture": base}}],
    )  # fmt: skip
    obj, mesh, said = read(path)
    assert said == [] and np.allclose(mesh.vertices, CORNERS * [2, 2 * (most // 2) / most, 2], atol=1e-6)
    assert np.allclose(obj.corner_uv, [0.75, 0.5], atol=1e-4)
    assert np.allclose(mesh.rgb, [0, 0, 1])  # the right half


def test_sparse_attributes_strips_fans_and_files_without_scenes_are_read(tmp_path):
    fan = np.array([[0], [1], [2], [3]], "<u2")
    for mode, faces in ((6, [[0, 1, 2], [0, 2, 3]]), (5, [[0, 1, 2], [3, 2, 1]])):
        part = {"attributes": {"POSITION": 0}, "indices": 1, "mode": mode}
        mesh = Mesh.from_file(gltf(tmp_path, (CORNERS, {}), (fan, {}), meshes=[{"primitives": [part]}]))
        turned = [np.roll(face, -int(np.argmin(face))).tolist() for face in mesh.faces]
        wanted = [np.roll(face, -int(np.argmin(face))).tolist() for face in faces]
        assert sorted(turned) == sorted(wanted)
    sparse = {"count": 1, "indices": {"bufferView": 2, "componentType": 5123}, "values": {"bufferView": 3}}
    moved = np.array([[0, 0, 7]], "<f4")
    path = gltf(
        tmp_path,
        (CORNERS, {"sparse": sparse}),
        tetra()[1],
        (np.array([[3]], "<u2"), {}),
        (moved, {}),
        scenes=[],
    )
    assert Mesh.from_file(path).vertices.max() == 7


def test_a_broken_picture_inside_is_said_and_the_color_taken(tmp_path):
    part = {"attributes": {"POSITION": 0, "TEXCOORD_0": 2}, "indices": 1, "material": 0}
    pbr = {"baseColorTexture": {"index": 0}, "baseColorFactor": [1, 0, 0, 1]}
    for image, words in (
        ({"uri": "data:image/png;base64,AAAA"}, "damaged"),
        ({"uri": "wood.png"}, "names wood.png, which is not there"),
        ({"uri": picture_uri((1, 2, 3), (4, 5, 6))[:-60]}, "damaged"),
    ):
        path = gltf(
            tmp_path, *tetra(), (np.zeros((4, 2), "<f4"), {}), meshes=[{"primitives": [part]}], images=[image],
            textures=[{"source": 0}], materials=[{"pbrMetallicRoughness": pbr}],
        )  # fmt: skip
        obj, mesh, said = read(path)
        assert np.allclose(obj.texture, [1, 0, 0]) and np.allclose(mesh.rgb, [1, 0, 0])
        assert len(said) == 1 and words in said[0]


# What is let in


def test_obj_numbers_are_counted_from_the_start(tmp_path):
    text = TETRA + "f -4 -2 -3\nf -4 -3 -1\n" + "v 9 9 9\n" + "f -5 -2 -3\nf -4 -3 -2\n"
    assert Mesh.from_file(put(tmp_path, text=text)).vertices.max() == 1
    with pytest.raises(UserError, match="count vertices from 1"):
        Mesh.from_file(put(tmp_path, text=TETRA + "f 0 1 2\n"))
