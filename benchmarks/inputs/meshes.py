"""Meshes: a red ball in every format and state, compared with itself."""

from __future__ import annotations

import json
import os
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import trimesh

from inputs.case import Case
from inputs.pictures import bomb


def ball() -> trimesh.Trimesh:
    return trimesh.creation.icosphere(3, 0.5)


def _truth(here: Path) -> None:
    ball().export(here / "truth.ply")


def is_the_ball(here: Path) -> str | None:
    """Its distance from the truth is sampling noise."""
    scores = json.loads((here / "out" / "mesh.json").read_text())
    distance, iou = _find(scores, "surface_cd"), _find(scores, "iou")
    return None if distance < 0.01 and iou > 0.95 else f"distance {distance:.4f}, IoU {iou:.3f}"


def _find(tree: object, key: str) -> float:
    """The first number of this name in nested dictionaries and lists."""
    if isinstance(tree, dict) and isinstance(tree.get(key), (int, float)):
        return tree[key]
    for part in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        found = _find(part, key)
        if np.isfinite(found):
            return found
    return np.nan


def obj(here: Path, material: str | None = None, uv: bool = True) -> Path:
    """mesh.obj and, with a material's text, mesh.mtl."""
    mesh = ball()
    lines = [] if material is None else ["mtllib mesh.mtl", "usemtl red"]
    lines += [f"v {x} {y} {z}" for x, y, z in mesh.vertices]
    lines += [f"vt {x + 0.5} {y + 0.5}" for x, y, _ in mesh.vertices] if uv else []
    corner = (lambda i: f"{i + 1}/{i + 1}") if uv else (lambda i: f"{i + 1}")
    lines += ["f " + " ".join(corner(i) for i in face) for face in mesh.faces]
    (here / "mesh.obj").write_text("\n".join(lines) + "\n")
    if material is not None:
        (here / "mesh.mtl").write_text(f"newmtl red\nKd 0.8 0.1 0.1\n{material}\n")
    return here / "mesh.obj"


def glb(here: Path, change: Callable[[dict], object] = lambda document: None, tail: bytes = b"") -> Path:
    """mesh.glb whose JSON part was changed."""
    content = ball().export(file_type="glb")
    (length,) = struct.unpack("<I", content[12:16])
    document, rest = json.loads(content[20 : 20 + length]), content[20 + length :] + tail
    change(document)
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    (here / "mesh.glb").write_bytes(
        struct.pack("<4sIII", b"glTF", 2, 20 + len(text) + len(rest), len(text)) + b"JSON" + text + rest
    )
    return here / "mesh.glb"


def gltf(here: Path, uri: str) -> Path:
    """mesh.gltf whose buffer lies at a URI."""
    parts = trimesh.exchange.gltf.export_gltf(trimesh.Scene(ball()))
    document = json.loads(parts.pop("model.gltf"))
    for name, content in parts.items():
        (here / name).write_bytes(content)
    (here / "whole.bin").write_bytes(b"".join(parts.values()))
    document["buffers"][0]["uri"] = uri or document["buffers"][0]["uri"]
    (here / "mesh.gltf").write_text(json.dumps(document))
    return here / "mesh.gltf"


def _requires(name: str) -> Callable[[Path], object]:
    return lambda here: glb(here, lambda d: d.update(extensionsUsed=[name], extensionsRequired=[name]))


def ply(here: Path, header: str, content: bytes = b"") -> None:
    (here / "mesh.ply").write_bytes(b"ply\n" + header.encode() + b"end_header\n" + content)


def _ply_text(vertices: np.ndarray, faces: np.ndarray) -> tuple[str, bytes]:
    header = (
        f"format ascii 1.0\nelement vertex {len(vertices)}\nproperty float x\nproperty float y\nproperty float z\n"
        f"element face {len(faces)}\nproperty list uchar int vertex_indices\n"
    )
    rows = [" ".join(map(str, v)) for v in vertices] + ["3 " + " ".join(map(str, f)) for f in faces]
    return header, "\n".join(rows).encode() + b"\n"


def _out_of_range(here: Path) -> None:
    mesh = ball()
    faces = mesh.faces.copy()
    faces[7, 1] = 10**6
    ply(here, *_ply_text(mesh.vertices, faces))


def _not_a_number(here: Path) -> None:
    mesh = ball()
    vertices = mesh.vertices.copy()
    vertices[3] = np.nan
    ply(here, *_ply_text(vertices, mesh.faces))


def _zipped_bomb(here: Path) -> None:
    with zipfile.ZipFile(here / "mesh.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("mesh.stl", "w", force_zip64=True) as file:
            for _ in range(4096):
                file.write(bytes(2**20))


def _textured(picture: Callable[[Path], object]) -> Callable[[Path], object]:
    return lambda here: (obj(here, "map_Kd skin.png"), picture(here / "skin.png"))


def cases() -> Iterator[Case]:
    def case(name, file, make, says, right):
        arguments = ("eval", "mesh", "{here}/truth.ply", "{here}/" + file, "-o", "{here}/out")
        return Case("meshes", name, arguments, lambda here: (_truth(here), make(here)), says, right)

    def taken(name, file, make, says=""):
        return case(name, file, make, says, is_the_ball)

    def refused(name, file, make, says=""):
        return case(name, file, make, says, None)

    for suffix in ("ply", "stl", "obj", "glb", "off"):
        yield taken(suffix.upper(), f"mesh.{suffix}", lambda h, s=suffix: ball().export(h / f"mesh.{s}"))
    yield taken("glTF with its buffer beside it", "mesh.gltf", lambda h: gltf(h, ""))
    yield taken(
        "STL in letters",
        "mesh.stl",
        lambda h: (h / "mesh.stl").write_text(ball().export(file_type="stl_ascii")),
    )
    yield taken(
        "OBJ with a plain material, without texture coordinates", "mesh.obj", lambda h: obj(h, "", uv=False)
    )
    yield taken(
        "OBJ whose material file is gone", "mesh.obj", lambda h: (obj(h, ""), (h / "mesh.mtl").unlink())
    )
    yield taken("OBJ whose picture is gone", "mesh.obj", lambda h: obj(h, "map_Kd skin.png"))
    yield taken("OBJ whose picture is text", "mesh.obj", _textured(lambda p: p.write_text("x")))
    yield taken("OBJ whose picture is a named pipe", "mesh.obj", _textured(os.mkfifo))
    yield taken(
        "OBJ whose picture has 13,300 x 13,300 pixels",
        "mesh.obj",
        _textured(lambda p: p.write_bytes(bomb(13_300, 2, 8))),
    )
    yield taken(
        "OBJ whose picture lies outside its folder",
        "mesh.obj",
        lambda h: obj(h, "map_Kd ../../../../../../etc/hostname"),
    )
    yield taken(
        "OBJ with Windows line ends",
        "mesh.obj",
        lambda h: (p := obj(h)).write_bytes(p.read_bytes().replace(b"\n", b"\r\n")),
    )
    yield taken(
        "OBJ with negative indices",
        "mesh.obj",
        lambda h: (h / "mesh.obj").write_text(
            "\n".join(
                [
                    *(f"v {x} {y} {z}" for x, y, z in ball().vertices),
                    *("f " + " ".join(str(i - len(ball().vertices)) for i in f) for f in ball().faces),
                ]
            )
        ),
    )
    yield taken(
        "extensions that need not be read",
        "mesh.glb",
        lambda h: glb(h, lambda d: d.update(extensionsUsed=["KHR_materials_unlit"])),
    )
    yield taken(
        "bytes after the end", "mesh.glb", lambda h: glb(h).write_bytes((h / "mesh.glb").read_bytes())
    )
    yield refused("no such file", "mesh.ply", lambda h: None, "no mesh file")
    yield refused("an empty file", "mesh.ply", lambda h: (h / "mesh.ply").touch())
    yield refused("text", "mesh.glb", lambda h: (h / "mesh.glb").write_text("hello"))
    yield refused("a format nobody reads", "mesh.blend", lambda h: (h / "mesh.blend").write_bytes(b"BLENDER"))
    yield refused("a folder", "mesh.ply", lambda h: (h / "mesh.ply").mkdir())
    yield refused("a named pipe", "mesh.ply", lambda h: os.mkfifo(h / "mesh.ply"), "regular file|not a file")
    yield refused(
        "PLY cut short",
        "mesh.ply",
        lambda h: (h / "mesh.ply").write_bytes((h / "truth.ply").read_bytes()[:2000]),
    )
    yield refused(
        "STL cut short",
        "mesh.stl",
        lambda h: (h / "mesh.stl").write_bytes(ball().export(file_type="stl")[:3000]),
    )
    yield refused(
        "GLB cut short",
        "mesh.glb",
        lambda h: (h / "mesh.glb").write_bytes(ball().export(file_type="glb")[:3000]),
    )
    yield refused(
        "PLY that promises 2^31 points",
        "mesh.ply",
        lambda h: ply(
            h,
            "format binary_little_endian 1.0\nelement vertex 2147483647\nproperty double x\nproperty double y\nproperty double z\n",
        ),
    )
    yield refused(
        "STL that promises 2^32 - 1 faces",
        "mesh.stl",
        lambda h: (h / "mesh.stl").write_bytes(bytes(80) + b"\xff\xff\xff\xff" + bytes(500)),
    )
    yield refused("PLY with an index out of range", "mesh.ply", _out_of_range)
    yield refused("PLY with a point that is not a number", "mesh.ply", _not_a_number)
    yield refused(
        "points without faces",
        "mesh.ply",
        lambda h: trimesh.PointCloud(ball().vertices).export(h / "mesh.ply"),
    )
    yield refused(
        "a flat card",
        "mesh.ply",
        lambda h: trimesh.Trimesh(
            [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], [[0, 1, 2], [0, 2, 3]]
        ).export(h / "mesh.ply"),
        "flat|volume|extent",
    )
    yield refused(
        "one point, a thousand times",
        "mesh.ply",
        lambda h: ply(h, *_ply_text(np.zeros((9, 3)), np.arange(9).reshape(3, 3))),
    )
    for name in (
        "KHR_draco_mesh_compression",
        "EXT_meshopt_compression",
        "KHR_texture_basisu",
        "VENDOR_secret",
    ):
        yield refused(f"GLB that requires {name}", "mesh.glb", _requires(name), name)
    yield refused(
        "GLB with a buffer longer than the file",
        "mesh.glb",
        lambda h: glb(h, lambda d: d["buffers"][0].update(byteLength=2**40)),
    )
    yield refused(
        "GLB with accessors out of range",
        "mesh.glb",
        lambda h: glb(h, lambda d: [a.update(count=10**9) for a in d["accessors"]]),
    )
    yield refused(
        "glTF whose buffer is a named pipe", "mesh.gltf", lambda h: (os.mkfifo(h / "pipe"), gltf(h, "pipe"))
    )
    yield refused(
        "glTF whose buffer lies outside its folder",
        "mesh.gltf",
        lambda h: gltf(h, "../../../../../../etc/hostname"),
    )
    yield refused(
        "glTF whose buffer is on the network", "mesh.gltf", lambda h: gltf(h, "https://example.com/mesh.bin")
    )
    yield refused("a zip of 4 GB of zeros", "mesh.zip", _zipped_bomb)
    yield refused(
        "a 6 GB file",
        "mesh.stl",
        lambda h: (h / "mesh.stl").write_bytes(bytes(84)) and os.truncate(h / "mesh.stl", 6 * 10**9),
    )
