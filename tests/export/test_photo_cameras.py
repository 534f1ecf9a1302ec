"""Back to the photo: the cameras in and beside the exported files, read as a stranger would, show the photo again."""

import dataclasses
import json
import struct

import numpy as np
import pytest
import trimesh
from gray_bodies import gray

from sv3d_pipe.artifacts import Views
from sv3d_pipe.cameras import Cameras, orbit, orbit_angles
from sv3d_pipe.config import ExportConfig
from sv3d_pipe.export.asset import Asset, placed
from sv3d_pipe.export.export import export_mesh
from sv3d_pipe.export.file_cameras import in_file, named_cameras
from sv3d_pipe.export.formats import encode
from sv3d_pipe.export.textured_views import file_views, render_textured
from sv3d_pipe.meshes.read import read_meshes
from sv3d_pipe.pictures import decibels, on_white
from sv3d_pipe.render.draw import render_views
from sv3d_pipe.road.context import Context

CONFIG = ExportConfig(
    texture=256, faces=4000, format="glb,obj,ply", up="z", scale=2.5, turntable=False
)  # the glb keeps +y up
PHOTO_SIZE = 192


@pytest.fixture(scope="module")
def cube_input(colored_cube):
    """A gray cube off center, and views of the colored one in its place; the photo is taken from beside and above."""
    cube = dataclasses.replace(
        colored_cube,
        vertices=colored_cube.vertices * np.float32((0.6, 0.5, 0.4)) + np.float32((0.1, 0.05, 0)),
    )
    cameras = orbit(*orbit_angles("sine", 20.0))
    own = orbit([25.0], 30.0, 2.2, 30.0)
    views = Views(
        render_views(cube, cameras, 64), cameras, render_views(cube, own, PHOTO_SIZE), photo_cameras=own
    )
    return gray(cube), views


@pytest.fixture(scope="module")
def exported(cube_input, tmp_path_factory):
    asset, metrics = export_mesh(CONFIG, *cube_input, Context())
    folder = tmp_path_factory.mktemp("export")
    asset.save(folder)
    return folder, metrics


def glb_document(data: bytes) -> dict:
    length = struct.unpack_from("<I", data, 12)[0]
    return json.loads(data[20 : 20 + length])


def node_camera(document: dict, name: str) -> Cameras:
    """The camera of a root node of a glTF document, by the specification alone."""
    roots = [document["nodes"][number] for number in document["scenes"][document["scene"]]["nodes"]]
    (node,) = [node for node in roots if node.get("name") == name and "camera" in node]
    camera = document["cameras"][node["camera"]]
    lens = camera["perspective"]
    assert camera["type"] == "perspective" and lens["aspectRatio"] == 1
    matrix = np.reshape(node["matrix"], (4, 4), order="F")
    assert 0 < lens["znear"] < np.linalg.norm(matrix[:3, 3]) / 10
    assert lens["zfar"] > np.linalg.norm(matrix[:3, 3]) * 10
    return Cameras(matrix[None].astype(np.float32), float(np.degrees(lens["yfov"])))


def psnr(seen: np.ndarray, photo: np.ndarray) -> float:
    return decibels(((on_white(seen) - on_white(photo)) ** 2).mean())


def test_the_glb_through_its_own_node_shows_the_photo(exported, cube_input):
    folder, metrics = exported
    camera = node_camera(glb_document((folder / "mesh.glb").read_bytes()), "photo")
    found = psnr(file_views(folder / "mesh.glb", camera, PHOTO_SIZE)[0], cube_input[1].photo)
    assert metrics["front_psnr_db"] > 26
    assert found == pytest.approx(metrics["front_psnr_db"], abs=0.02)  # float32 in the file's units
    assert camera.fov_deg == pytest.approx(30, abs=1e-4)


def test_the_record_has_the_matrix_of_the_node(exported):
    folder, metrics = exported
    camera = node_camera(glb_document((folder / "mesh.glb").read_bytes()), "photo")
    assert list(metrics["cameras"]) == ["photo"]
    said = json.loads(json.dumps(metrics["cameras"]["photo"]))
    assert np.array_equal(np.float32(said["c2w"]), camera.c2w[0])
    assert said["fov_deg"] == pytest.approx(30, abs=1e-4) and said["exact"] is True


def test_the_cameras_beside_an_obj_are_in_its_axes_and_units(exported, cube_input):
    folder, metrics = exported
    beside = json.loads((folder / "cameras.json").read_text())
    assert beside["up"] == "z" and list(beside["cameras"]) == ["photo"]
    said = beside["cameras"]["photo"]
    camera = Cameras(np.float32([said["c2w"]]), said["fov_deg"])
    mesh = trimesh.load(folder / "mesh.obj", force="mesh", process=False)
    assert mesh.extents.max() == pytest.approx(2.5, abs=1e-4)
    uv, texture = np.asarray(mesh.visual.uv), np.asarray(mesh.visual.material.image.convert("RGB"))
    seen = render_textured(mesh.vertices, mesh.faces, uv, texture, camera, PHOTO_SIZE)[0]
    assert psnr(seen, cube_input[1].photo) == pytest.approx(metrics["front_psnr_db"], abs=0.02)


def test_readers_find_the_mesh_alone(exported):
    folder, _ = exported
    document = glb_document((folder / "mesh.glb").read_bytes())
    assert [node["name"] for node in document["nodes"] if "mesh" in node] == ["mesh"]
    assert document["nodes"][-1]["name"] == "photo"  # after all others
    (mesh,) = read_meshes(folder / "mesh.glb")
    assert np.allclose(mesh.bounds.sum(0), 0, atol=1e-4) and mesh.extents.max() == pytest.approx(
        2.5, abs=1e-4
    )
    scene = trimesh.load(folder / "mesh.glb", process=False)
    assert list(scene.graph.nodes_geometry) == ["mesh"]
    assert scene.camera.fov[1] == pytest.approx(30, abs=1e-3)


def test_a_stretched_mesh_has_a_camera_that_says_it_is_not_exact(cube_input):
    config = dataclasses.replace(CONFIG, format="glb", depth=1.0)
    _, metrics = export_mesh(config, *cube_input, Context())
    said = metrics["cameras"]["photo"]
    assert said["exact"] is False
    scale, center = metrics["transform"]["scale"], metrics["transform"]["center"]
    place = np.array(said["c2w"])[:3, 3] * scale + center
    assert place == pytest.approx(cube_input[1].photo_camera.origins[0], abs=1e-4)


def test_without_a_photo_there_is_no_camera(cube_input):
    mesh, views = cube_input
    asset, metrics = export_mesh(CONFIG, mesh, Views(views.rgba, views.cameras), Context())
    assert "cameras" not in metrics and "cameras.json" not in asset.documents
    assert "cameras" not in glb_document(asset.documents["mesh.glb"])


def test_a_camera_in_a_file_by_hand():
    """Two units before the origin; the file's unit is half a world's, its origin half a unit to the right."""
    camera = in_file(orbit([0.0], 0.0, 2.0), (0.5, 0.5, 0.5), (0.5, 0, 0))
    assert np.allclose(camera.c2w[0], [[1, 0, 0, -1], [0, 1, 0, 0], [0, 0, 1, 4], [0, 0, 0, 1]])
    assert camera.fov_deg == pytest.approx(33.8)


def test_a_camera_turned_and_scaled_by_hand():
    """In a file with +z up and -y front, what was right stays right, what was up is +z, the viewer is at -y."""
    corner = np.zeros((1, 3), np.float32)
    camera = Cameras(np.float32([[[1, 0, 0, -1], [0, 1, 0, 0], [0, 0, 1, 4], [0, 0, 0, 1]]]))
    asset = Asset(
        corner, np.zeros((0, 3), int), corner[:, :2], corner, np.zeros(1, int), cameras={"photo": camera}
    )
    moved = placed(asset, "z", 2.5).cameras["photo"]
    assert np.allclose(moved.c2w[0], [[1, 0, 0, -2.5], [0, 0, -1, -10], [0, 1, 0, 0], [0, 0, 0, 1]])
    assert np.allclose(placed(asset, "y", 2.5).cameras["photo"].origins, [[-2.5, 0, 10]])


def test_stretching_along_the_line_of_sight_moves_away_and_zooms():
    """Twice as deep, seen from the front: twice as far, half the tangent; every point stays where it was seen."""
    front = orbit([0.0], 0.0, 2.0)
    camera = in_file(front, (1, 1, 0.5), (0, 0, 0))
    assert np.allclose(camera.origins, [[0, 0, 4]])
    assert np.tan(np.radians(camera.fov_deg) / 2) == pytest.approx(np.tan(np.radians(33.8) / 2) / 2)
    points = np.random.default_rng(0).uniform(-0.5, 0.5, (50, 3))
    assert np.allclose(
        camera.project(points * (1, 1, 2), 256)[0], front.project(points, 256)[0], atol=1e-3
    )  # pixels, float32


def test_stretching_keeps_the_middle_of_the_picture_and_what_hides_what():
    above = orbit([30.0], 40.0, 2.0)
    camera = in_file(above, (1, 1, 0.5), (0, 0, 0))
    assert np.allclose(camera.c2w[0, :3, :3] @ camera.c2w[0, :3, :3].T, np.eye(3), atol=1e-6)
    along = above.origins - np.linspace(0.5, 3, 5)[:, None] * above.c2w[0, :3, 2]  # one behind the other
    assert np.allclose(camera.project(along * (1, 1, 2), 256)[0], 128, atol=1e-2)
    off = above.origins - np.linspace(0.5, 3, 5)[:, None] * (above.c2w[0, :3, 2] - 0.2 * above.c2w[0, :3, 1])
    xy = camera.project(off * (1, 1, 2), 256)[0][0]
    assert np.allclose(xy, xy[0], atol=1e-2) and abs(xy[0, 1] - 128) > 10


@pytest.mark.parametrize("factor, percent", [(2.0, 0.8), (0.5, 2.8), (0.3, 8.6)])
def test_how_far_points_of_a_stretched_ball_shift(factor, percent):
    """The numbers in docs/export.md: root mean square over what a photo from 10 degrees above shows of a ball."""
    ball, above = trimesh.creation.icosphere(3, 0.5), orbit([0.0], 10.0, 2.0)
    ahead = np.einsum("vi,vi->v", ball.vertex_normals, above.origins[0] - ball.vertices) > 0
    points = ball.vertices[ahead]
    camera = in_file(above, (1, 1, 1 / factor), (0, 0, 0))
    shift = camera.project(points * (1, 1, factor), 100)[0][0] - above.project(points, 100)[0][0]
    assert np.sqrt((shift**2).sum(-1).mean()) == pytest.approx(percent, abs=0.05)


def test_several_cameras_keep_their_names_and_order():
    front, side = orbit([0.0], 10.0), orbit([90.0], 10.0, fov_deg=50.0)
    box = trimesh.creation.box((1.0, 0.5, 0.5))
    uv, texture = np.zeros((8, 2), np.float32), np.full((4, 4, 3), 9, np.uint8)
    asset = Asset(
        box.vertices.astype(np.float32), box.faces, uv, texture, np.arange(8), cameras={"photo": front, "left": side}
    )  # fmt: skip
    documents = encode(asset, ("glb", "stl"))
    document = glb_document(documents["mesh.glb"])
    assert [camera["name"] for camera in document["cameras"]] == ["photo", "left"]
    for name, camera in (("photo", front), ("left", side)):
        found = node_camera(document, name)
        assert np.array_equal(found.c2w, camera.c2w) and found.fov_deg == pytest.approx(camera.fov_deg)
    beside = json.loads(documents["cameras.json"])
    assert beside["up"] == "y" and list(beside["cameras"]) == ["photo", "left"]
    assert beside["cameras"]["left"]["fov_deg"] == 50


def test_further_photos_have_cameras_of_their_own(cube_input):
    views = cube_input[1]
    three = dataclasses.replace(views, photos=np.repeat(views.photos, 3, 0), photo_cameras=views.cameras[-3:])
    cameras = named_cameras(three)
    assert list(cameras) == ["photo", "view-1", "view-2"]
    assert cameras["photo"].equals(views.cameras[-1]) and cameras["view-1"].equals(views.cameras[-3])
