import io
import json
import struct

import numpy as np
import pytest
import trimesh
from PIL import Image

from sv3d_pipe.cameras import orbit
from sv3d_pipe.errors import UserError
from sv3d_pipe.export.formats import Asset, encode, encode_glb, normalize, parse_formats
from sv3d_pipe.export.render import front_view, render_textured


@pytest.fixture(scope="module")
def asset() -> Asset:
    """A box twice as wide as high, cut along all edges; its +z side red, its +y side green, the rest blue."""
    body = trimesh.creation.box((1.0, 0.5, 0.5))
    faces = np.arange(36).reshape(12, 3)
    source = np.asarray(body.faces).reshape(-1)
    column = np.where(body.face_normals[:, 2] > 0.5, 0, np.where(body.face_normals[:, 1] > 0.5, 1, 2))
    u = (column.repeat(3) + np.tile([0.4, 0.6, 0.5], 12)) / 3
    uv = np.stack([u, np.tile([0.8, 0.8, 0.9], 12)], -1).astype(np.float32)  # the top rows of the texture
    texture = np.zeros((48, 48, 3), np.uint8)
    for i in range(3):
        texture[:24, i * 16 : (i + 1) * 16, i] = 200
    return Asset(
        body.vertices[source].astype(np.float32),
        faces,
        uv,
        texture,
        source.astype(np.int64),
        0.8,
        (0, 0.1, 0),
    )


def glb_document(data: bytes) -> dict:
    length = struct.unpack_from("<I", data, 12)[0]
    return json.loads(data[20 : 20 + length])


def test_glb_material_is_a_rough_dielectric_with_an_srgb_texture(asset):
    document = glb_document(encode_glb(asset))
    material = document["materials"][0]
    surface = material["pbrMetallicRoughness"]
    assert surface["roughnessFactor"] == 1 and surface["metallicFactor"] == 0
    assert document["images"][surface["baseColorTexture"]["index"]]["mimeType"] == "image/png"
    assert not material.get("doubleSided", False)
    assert material["name"] and document["meshes"][0]["name"]
    attributes = document["meshes"][0]["primitives"][0]["attributes"]
    assert {"POSITION", "NORMAL", "TEXCOORD_0"} <= set(attributes)
    assert all(
        np.allclose(node.get("matrix", np.eye(4).ravel()), np.eye(4).ravel()) for node in document["nodes"]
    )


def test_loaded_glb_shows_front_in_front_and_top_on_top(asset, tmp_path):
    path = tmp_path / "mesh.glb"
    path.write_bytes(encode_glb(asset))
    front = front_view(path, orbit([0.0], 30.0), 96, asset.scale, asset.center)
    rows = np.flatnonzero(front[:, 48, 3] > 0.9)
    assert front[rows[-3], 48, :3].argmax() == 0  # red below: the +z side
    assert front[rows[2], 48, :3].argmax() == 1  # green above: the +y side
    assert front_view(path, orbit([90.0], 0.0), 96)[48, 48, :3].argmax() == 2
    before = render_textured(asset.world, asset.faces, asset.uv, asset.texture, orbit([0.0], 30.0), 96)[0]
    assert np.abs(front - before).max() < 1e-3


def test_all_formats_round_trip(asset, tmp_path):
    documents = encode(asset, ("glb", "obj", "ply", "stl"))
    assert list(documents) == ["mesh.glb", "mesh.obj", "mesh.mtl", "mesh.png", "mesh.ply", "mesh.stl"]
    full = Asset(**{**asset.__dict__, "documents": documents})
    full.save(tmp_path)
    assert all(path.stat().st_size > 0 for path in full.files(tmp_path))
    for name in ("mesh.glb", "mesh.obj", "mesh.ply", "mesh.stl"):
        mesh = trimesh.load(tmp_path / name, force="mesh", process=False)
        assert len(mesh.faces) == 12
        assert np.allclose(mesh.bounds, [[-0.5, -0.25, -0.25], [0.5, 0.25, 0.25]], atol=1e-5)
        mesh.merge_vertices(merge_tex=True, merge_norm=True)
        assert mesh.is_watertight and mesh.volume == pytest.approx(0.25, rel=1e-4)


def test_obj_comes_with_its_material_and_picture(asset, tmp_path):
    documents = encode(asset, ("obj",))
    assert b"mtllib mesh.mtl" in documents["mesh.obj"] and b"usemtl mesh" in documents["mesh.obj"]
    assert b"map_Kd mesh.png" in documents["mesh.mtl"]
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(documents["mesh.png"]))), asset.texture)
    Asset(**{**asset.__dict__, "documents": documents}).save(tmp_path)
    mesh = trimesh.load(tmp_path / "mesh.obj", force="mesh", process=False)
    color = mesh.visual.to_color().vertex_colors[mesh.faces].mean(1)[:, :3]
    front = mesh.face_normals[:, 2] > 0.5
    assert np.allclose(color[front], (200, 0, 0), atol=2)
    assert np.allclose(color[mesh.face_normals[:, 1] > 0.5], (0, 200, 0), atol=2)


def test_ply_vertices_carry_colors(asset):
    mesh = trimesh.load(io.BytesIO(encode(asset, ("ply",))["mesh.ply"]), file_type="ply", process=False)
    assert len(mesh.vertices) == 8
    colors = mesh.visual.vertex_colors[:, :3].astype(float)
    front, bottom = mesh.vertices[:, 2] > 0, mesh.vertices[:, 1] < 0
    assert colors[front, 0].min() > 30 and colors[~front, 0].max() == 0
    assert colors[bottom, 1].max() == 0


def test_normalize_centers_the_box_and_says_the_way_back():
    points = np.array([[1.0, 2, 3], [3, 2.5, 3.5]], np.float32)
    new, scale, center = normalize(points)
    assert np.allclose(new, [[-0.5, -0.125, -0.125], [0.5, 0.125, 0.125]])
    assert (scale, center) == (2.0, (2.0, 2.25, 3.25))


def test_format_lists():
    assert parse_formats("glb") == ("glb",)
    assert parse_formats(" OBJ, .glb,obj ") == ("obj", "glb")


@pytest.mark.parametrize(
    "text, word", [("fbx", "'fbx'"), ("glb,usdz", "'usdz'"), ("", "No mesh format"), (",", "No")]
)
def test_unknown_formats_name_the_choices(text, word):
    with pytest.raises(UserError, match="glb, obj, ply, stl") as caught:
        parse_formats(text)
    assert word in str(caught.value)
