"""Reading meshes of strangers: bounded, from their own folder only, never half read; colors never cost the shape."""

import base64
import io
import json
import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image

from sv3d_pipe.artifacts import Mesh
from sv3d_pipe.errors import UserError
from sv3d_pipe.geometry.bodies import require_body
from sv3d_pipe.render.objects import load_object

TETRA = "v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\n"
FACES = "f 1 3 2\nf 1 2 4\nf 1 4 3\nf 2 3 4\n"
TEXTURED = "vt 0 0\nvt 1 0\nvt 0 1\nusemtl a\nf 1/1 3/2 2/3\nf 1/1 2/2 4/3\nf 1/1 4/2 3/3\nf 2/1 3/2 4/3\n"
CORNERS = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], "<f4")
TRIANGLES = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]], "<u2")
GRAY = 102 / 255


def read(path):
    """The object, the same as a mesh, and what was said of it."""
    said = []
    return load_object(path, said.append), Mesh.from_file(path, said.append), list(dict.fromkeys(said))


def put(folder, name="a.obj", text=TETRA + FACES):
    (folder / name).write_text(text)
    return folder / name


def gltf(folder, *arrays, name="a.gltf", **document):
    """A glTF file: an accessor for each (array, fields), and one primitive of the first two unless said otherwise."""
    kinds = {"<f4": 5126, "<u2": 5123, "<u4": 5125, "<u1": 5121, "|u1": 5121, "<i2": 5122, "|i1": 5120}
    types = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4"}
    data, views, accessors = b"", [], []
    for values, fields in arrays:
        data += bytes(-len(data) % 4)
        views.append({"buffer": 0, "byteOffset": len(data), "byteLength": values.nbytes})
        data += values.tobytes()
        accessors.append(
            {
                "bufferView": len(views) - 1, "componentType": kinds[values.dtype.str], "count": len(values),
                "type": types[values.shape[1]], **fields,
            }
        )  # fmt: skip
    part = {"attributes": {"POSITION": 0}, "indices": 1}
    uri = "data:application/octet-stream;base64," + base64.b64encode(data).decode()
    whole = {
        "asset": {"version": "2.0"}, "buffers": [{"uri": uri, "byteLength": len(data)}], "bufferViews": views,
        "accessors": accessors, "meshes": [{"primitives": [part]}], "nodes": [{"mesh": 0}], "scenes": [{"nodes": [0]}],
    }  # fmt: skip
    (folder / name).write_text(json.dumps(whole | document))
    return folder / name


def tetra():
    return (CORNERS, {}), (TRIANGLES.reshape(-1, 1), {})


def picture_uri(left, right):
    pixels = np.zeros((8, 16, 3), np.uint8)
    pixels[:, :8], pixels[:, 8:] = left, right
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


# Colors


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


@pytest.mark.parametrize(
    "name",
    [
        "KHR_draco_mesh_compression",
        "EXT_meshopt_compression",
        "KHR_texture_basisu",
        "EXT_mesh_gpu_instancing",
    ],
)
def test_extensions_that_nobody_reads_are_refused_by_name(tmp_path, name):
    path = gltf(tmp_path, *tetra(), extensionsUsed=[name], extensionsRequired=[name])
    for reader in (load_object, Mesh.from_file):
        with pytest.raises(UserError, match=f"a.gltf needs the glTF extension {name}, which is not read"):
            reader(path)


def test_a_mesh_without_data_of_its_own_is_refused(tmp_path):
    (_, fields), indices = tetra()
    path = gltf(tmp_path, (CORNERS, {}), indices)
    document = json.loads(path.read_text())
    del document["accessors"][0]["bufferView"]
    path.write_text(json.dumps(document))
    with pytest.raises(UserError, match="holds no data for its mesh"):
        load_object(path)


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


def test_only_regular_files_of_the_own_folder_are_followed(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    (tmp_path / "out.bin").write_bytes(bytes(1000))
    (folder / "link.bin").symlink_to(tmp_path / "out.bin")
    os.mkfifo(folder / "pipe.bin")
    os.mkfifo(folder / "pipe.ply")
    for uri, words in (
        ("../out.bin", "lies outside of its folder"),
        (str(tmp_path / "out.bin"), "lies outside of its folder"),
        ("link.bin", "lies outside of its folder"),
        ("pipe.bin", "pipe.bin is a device, pipe or socket"),
        ("https://example.org/a.bin", "is not there"),
    ):
        path = gltf(folder, *tetra(), buffers=[{"uri": uri, "byteLength": 100}])
        with pytest.raises(UserError, match=words):
            load_object(path)
    with pytest.raises(UserError, match="pipe.ply is a device, pipe or socket"):
        load_object(folder / "pipe.ply")
    for name in ("a.zip", "a.txt"):
        with pytest.raises(UserError, match="not a mesh file of a known kind"):
            load_object(put(folder, name, "x"))


def ply(vertices, faces):
    lines = ["ply", "format ascii 1.0", f"element vertex {len(vertices)}"]
    lines += [f"property double {axis}" for axis in "xyz"]
    lines += [f"element face {len(faces)}", "property list uchar int vertex_indices", "end_header"]
    lines += [" ".join(map(str, point)) for point in vertices]
    return "\n".join(lines + ["3 " + " ".join(map(str, face)) for face in faces]) + "\n"


@pytest.mark.parametrize(
    ("vertices", "faces", "words"),
    [
        (CORNERS, [[0, 1, 9]], "vertices that are not there"),
        (CORNERS, [[0, 1, -2]], "vertices that are not there"),
        (np.where(CORNERS == 1, np.nan, CORNERS), TRIANGLES, "coordinates that are not numbers"),
        (np.where(CORNERS == 1, np.inf, CORNERS), TRIANGLES, "coordinates that are not numbers"),
        (CORNERS.astype(float) * 1e300, TRIANGLES, "coordinates that are not numbers"),
        (CORNERS, [], "no triangles"),
        ([], [], "no triangles|Cannot read"),
    ],
)
def test_meshes_that_cannot_be_are_refused(tmp_path, vertices, faces, words):
    path = put(tmp_path, "a.ply", ply(np.asarray(vertices, np.float64), faces))
    for reader in (load_object, Mesh.from_file):
        with pytest.raises(UserError, match=words) as error:
            reader(path)
        assert "a.ply" in str(error.value) and "\n" not in str(error.value)


def hemisphere():
    ball = trimesh.creation.icosphere(2)
    return ball.vertices, ball.faces[ball.triangles_center[:, 2] > 0]


def test_what_is_no_body_is_told_from_what_is_open_or_thin(tmp_path):
    turn = trimesh.transformations.rotation_matrix(0.7, (1, 2, 3))[:3, :3].T
    card = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], float)
    square = np.array([[0, 1, 2], [0, 2, 3]])
    half, faces = hemisphere()
    both = np.concatenate([faces, faces[:, ::-1] + len(half)])
    for vertices, triangles, words in (
        (card, square, "is flat"),
        ((card @ turn).astype(np.float32), square, "is flat"),
        (np.concatenate([card, [[0, 0, 5]]]), square, "is flat"),
        (card * [1, 0, 0], square, "no triangle with an area"),
        (np.concatenate([half, half]), both, "double sheet"),
    ):
        with pytest.raises(UserError, match=words):
            require_body(vertices, triangles, tmp_path / "a.ply")
    require_body(half, faces, tmp_path)  # open
    box = trimesh.creation.box((1, 1, 0.001))
    require_body(box.vertices @ turn, box.faces, tmp_path)  # thin


# Bounds


def bombs(folder):
    """Files that would take gigabytes, each with the words that refuse or describe it."""
    Image.new("1", (13_300, 13_300)).save(folder / "b.png")
    put(folder, "a.mtl", "newmtl a\nmap_Kd b.png\n")
    yield put(folder, "picture.obj", "mtllib a.mtl\n" + TETRA + TEXTURED), "read"
    Image.new("L", (4000, 4000)).save(folder / "c.png")
    put(folder, "c.mtl", "".join(f"newmtl a{n}\nmap_Kd c.png\n" for n in range(12)))
    parts = "".join(TEXTURED.replace("usemtl a", f"usemtl a{n}") for n in range(12))
    yield put(folder, "twelve.obj", "mtllib c.mtl\n" + TETRA + parts), "read"
    text = '{"asset":{"version":"2.0"},"x":[' + "[]," * 5_000_000 + "[]]}"
    chunk = text.encode()
    (folder / "a.glb").write_bytes(
        b"glTF" + struct.pack("<III", 2, 20 + len(chunk), len(chunk)) + b"JSON" + chunk
    )
    yield folder / "a.glb", "more than 3,000,000 values"
    many = list(range(30_000))
    nodes = [{"mesh": 0} for _ in many]
    yield gltf(folder, *tetra(), name="nodes.gltf", nodes=nodes, scenes=[{"nodes": many}]), "30,000 parts"
    zeros = {"componentType": 5126, "count": 10**9, "type": "VEC3"}
    yield gltf(folder, *tetra(), name="zeros.gltf", accessors=[zeros, zeros]), "1,000,000,000 vertices"
    head = "ply\nformat binary_little_endian 1.0\nelement vertex 3\n"
    head += "".join(f"property float {axis}\n" for axis in "xyz")
    head += "element face 1\nproperty list uint int vertex_indices\nend_header\n"
    (folder / "a.ply").write_bytes(
        head.encode() + bytes(36) + struct.pack("<I", 5_000_000) + bytes(20_000_000)
    )
    yield folder / "a.ply", "more than 1,000,000 triangles"
    yield put(folder, "long.obj", TETRA + "f 1 2 3" + " 1" * 10_000_000), "more than 1,000,000 triangles"
    with (folder / "sparse.stl").open("wb") as file:
        file.truncate(6 * 10**9)
    yield folder / "sparse.stl", "at most 256 MB"


@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="needs Linux's count of a process's own peak"
)
def test_no_mesh_takes_much_memory(tmp_path):
    code = (
        "import sys; from pathlib import Path; from sv3d_pipe.render.objects import load_object\n"
        "from sv3d_pipe.errors import UserError\n"
        "for path in sys.argv[1:]:\n"
        "    try: load_object(Path(path)); print('read')\n"
        "    except UserError as error: print(error)\n"
        "print(int(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0]) / 1024)"
    )
    paths, words = zip(*bombs(tmp_path))
    command = [sys.executable, "-c", code, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    *said, megabytes = done.stdout.strip().splitlines()
    assert len(said) == len(words) and all(word in line for word, line in zip(words, said)), said
    assert float(megabytes) < 1500  # docs/inputs.md
