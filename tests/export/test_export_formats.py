import io
import json
import struct
import zipfile

import numpy as np
import pytest
import trimesh
from PIL import Image

from sv3d_pipe.cameras import orbit
from sv3d_pipe.errors import UserError
from sv3d_pipe.export.asset import Asset, placed
from sv3d_pipe.export.formats import encode, encode_glb
from sv3d_pipe.export.textured_views import file_views, render_textured
from sv3d_pipe.geometry.extent import relative_depth, stretched, unit_box
from sv3d_pipe.mesh_formats import parse_formats
from sv3d_pipe.pipeline import Image2Mesh


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
        (0.8, 0.8, 0.8),
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
    front = file_views(path, orbit([0.0], 30.0), 96, asset.scale, asset.center)[0]
    rows = np.flatnonzero(front[:, 48, 3] > 0.9)
    assert front[rows[-3], 48, :3].argmax() == 0  # red below: the +z side
    assert front[rows[2], 48, :3].argmax() == 1  # green above: the +y side
    assert file_views(path, orbit([90.0], 0.0), 96)[0, 48, 48, :3].argmax() == 2
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
    new, scale, center = unit_box(points)
    assert np.allclose(new, [[-0.5, -0.125, -0.125], [0.5, 0.125, 0.125]])
    assert (scale, center.tolist()) == (2.0, [2.0, 2.25, 3.25])


def test_stretching_to_a_depth_by_hand():
    """2 wide, 4 high, 1 deep about z = 10: a quarter as deep as high; half is a factor of 2."""
    corners = np.array([[0, 0, 9.5], [2, 4, 10.5], [1, 1, 10.25]])
    assert relative_depth(corners) == 0.25
    vertices, factor = stretched(corners, 0.5)
    assert factor == 2 and np.allclose(vertices, [[0, 0, 9], [2, 4, 11], [1, 1, 10.5]])
    with pytest.raises(UserError, match="flat"):
        stretched(corners * (1, 1, 0), 0.5)


def test_scale_and_up_axis_are_those_of_the_file(asset, tmp_path):
    """The box is 1 x 0.5 x 0.5 with its red side on +z; in a z-up file red is on -y and green on +z."""
    documents = encode(asset, ("glb", "obj", "ply", "stl"), up="z", length=3.0)
    Asset(**{**asset.__dict__, "documents": documents}).save(tmp_path)
    for name in ("mesh.glb", "mesh.obj", "mesh.ply", "mesh.stl"):
        mesh = trimesh.load(tmp_path / name, force="mesh", process=False)
        assert np.allclose(mesh.extents, (3, 1.5, 1.5), atol=1e-5), name
    mesh = trimesh.load(tmp_path / "mesh.obj", force="mesh", process=False)
    color = mesh.visual.to_color().vertex_colors[mesh.faces].mean(1)[:, :3]
    assert np.allclose(color[mesh.face_normals[:, 1] < -0.5], (200, 0, 0), atol=2)
    assert np.allclose(color[mesh.face_normals[:, 2] > 0.5], (0, 200, 0), atol=2)
    assert b"# +z up, -y front" in documents["mesh.obj"]
    moved = placed(asset, "y", 4.0)
    assert np.allclose(moved.world, asset.world, atol=1e-6)


def test_a_glb_has_y_up_whatever_is_asked(asset):
    y, z = (encode(asset, ("glb",), up)["mesh.glb"] for up in "yz")
    assert y == z


def test_glb_says_how_its_buffers_are_used(asset):
    document = glb_document(encode_glb(asset))
    primitive = document["meshes"][0]["primitives"][0]

    def target(accessor):
        return document["bufferViews"][document["accessors"][accessor]["bufferView"]]["target"]

    assert target(primitive["indices"]) == 34963  # ELEMENT_ARRAY_BUFFER
    assert {target(accessor) for accessor in primitive["attributes"].values()} == {34962}  # ARRAY_BUFFER
    sampler = document["samplers"][document["textures"][0]["sampler"]]
    assert sampler == {"magFilter": 9729, "minFilter": 9987, "wrapS": 33071, "wrapT": 33071}
    assert document["asset"] == {"version": "2.0", "generator": "img2mesh"}


@pytest.mark.parametrize("up", "yz")
def test_usdz_holds_the_mesh_its_texture_and_axis(asset, tmp_path, up):
    Usd = pytest.importorskip("pxr.Usd", reason="usd-core is not installed")
    from pxr import UsdGeom, UsdShade

    path = tmp_path / "mesh.usdz"
    path.write_bytes(encode(asset, ("usdz",), up, 2.0)["mesh.usdz"])
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        picture = next(name for name in names if name.endswith(".png"))
        assert names[0].endswith(".usdc")  # the first file is the scene
        assert all(info.compress_type == zipfile.ZIP_STORED for info in archive.infolist())
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(archive.read(picture)))), asset.texture)
    stage = Usd.Stage.Open(str(path))
    assert UsdGeom.GetStageUpAxis(stage) == up.upper()
    mesh = UsdGeom.Mesh(stage.GetPrimAtPath("/mesh/shape"))
    points, corners = (
        np.asarray(mesh.GetPointsAttr().Get()),
        np.asarray(mesh.GetFaceVertexIndicesAttr().Get()),
    )
    body = trimesh.Trimesh(points, corners.reshape(-1, 3), process=False)
    assert body.is_watertight and np.allclose(body.extents, (2, 1, 1), atol=1e-5)
    assert body.volume == pytest.approx(2.0, rel=1e-4)
    st = np.asarray(UsdGeom.PrimvarsAPI(mesh).GetPrimvar("st").Get())
    assert np.allclose(st, asset.uv[asset.faces.reshape(-1)])
    material, _ = UsdShade.MaterialBindingAPI(mesh.GetPrim()).ComputeBoundMaterial()
    assert material.GetPath() == "/mesh/material"


def test_openusd_s_own_validators_find_nothing(asset, tmp_path):
    validation = pytest.importorskip("pxr.UsdValidation", reason="usd-core is not installed, or is older")
    from pxr import Usd

    path = tmp_path / "mesh.usdz"
    path.write_bytes(encode(asset, ("usdz",))["mesh.usdz"])
    validators = validation.ValidationRegistry().GetOrLoadAllValidators()
    assert len(validators) > 10
    errors = validation.ValidationContext(validators).Validate(Usd.Stage.Open(str(path)))
    assert [error.GetMessage() for error in errors] == []


def test_missing_usd_is_said_in_one_sentence_before_any_work(monkeypatch):
    monkeypatch.setattr("sv3d_pipe.mesh_formats.find_spec", lambda name: None)
    image2mesh = Image2Mesh.from_preset("draft", {"export.format": "glb,USDZ"})
    image2mesh.check(until="refine")
    with pytest.raises(UserError, match="usdz needs OpenUSD; install it with"):
        image2mesh.check()


def test_format_lists():
    assert parse_formats("glb") == ("glb",)
    assert parse_formats(" OBJ, .glb,obj ") == ("obj", "glb")


@pytest.mark.parametrize(
    "text, word", [("fbx", "'fbx'"), ("glb,usdx", "'usdx'"), ("", "No mesh format"), (",", "No")]
)
def test_unknown_formats_name_the_choices(text, word):
    with pytest.raises(UserError, match="glb, obj, ply, stl, usdz") as caught:
        parse_formats(text)
    assert word in str(caught.value)
