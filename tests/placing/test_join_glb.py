"""Joined GLB files: every mesh as it was, with its texture, at its place."""

import numpy as np
import trimesh

from sv3d_pipe.export.asset import Asset
from sv3d_pipe.export.formats import encode_glb
from sv3d_pipe.placing.join_glb import Node, join
from sv3d_pipe.placing.photo_camera import about_y
from sv3d_pipe.placing.subject import Pose


def asset(extents, color):
    mesh = trimesh.creation.box(extents)
    texture = np.full((4, 4, 3), color, np.uint8)
    uv = np.zeros((len(mesh.vertices), 2), np.float32)
    vertices = mesh.vertices.astype(np.float32)
    return Asset(vertices, mesh.faces.astype(np.int64), uv, texture, np.arange(len(vertices)))


def test_every_mesh_is_at_its_place_with_its_own_texture(tmp_path):
    assets = [asset((1, 0.5, 0.25), 40), asset((0.3, 1, 0.3), 200)]
    poses = [
        Pose(about_y(30.0), 0.5, np.array([1.0, 2, 3])),
        Pose(about_y(-120.0), 2.0, np.array([-1.0, 0, 0.5])),
    ]
    nodes = []
    for number, (each, pose) in enumerate(zip(assets, poses)):
        path = tmp_path / f"{number}.glb"
        path.write_bytes(encode_glb(each))
        nodes.append(Node(f"thing-{number}", path, pose))
    (tmp_path / "scene.glb").write_bytes(join(nodes))
    scene = trimesh.load(tmp_path / "scene.glb", process=False)
    for node, each, shade in zip(nodes, assets, (40, 200)):
        matrix, name = scene.graph[node.name]
        mesh = scene.geometry[name]
        placed = trimesh.transform_points(mesh.vertices, matrix)
        np.testing.assert_allclose(placed, node.pose.places(each.vertices), atol=1e-5)
        np.testing.assert_array_equal(mesh.faces, each.faces)
        assert np.asarray(mesh.visual.material.baseColorTexture)[0, 0].tolist() == [shade] * 3
