"""Small meshes written by hand: OBJ text and glTF documents of a tetrahedron."""

import base64
import io
import json

import numpy as np
from PIL import Image

from sv3d_pipe.artifacts import Mesh
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
