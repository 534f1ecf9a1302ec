"""Meshes that are refused: bombs, foreign extensions, files outside their folder, what is no body."""

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import trimesh
from mesh_texts import CORNERS, TETRA, TEXTURED, TRIANGLES, gltf, put, tetra
from PIL import Image

from sv3d_pipe.artifacts import Mesh
from sv3d_pipe.errors import UserError
from sv3d_pipe.geometry.bodies import require_body
from sv3d_pipe.render.objects import load_object


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
