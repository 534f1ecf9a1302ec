"""The signs of the public evaluation: right for closed shells, wrong for others in the ways they are known for."""

import numpy as np
import trimesh

from sv3d_pipe.evaluate.protocol_a import iou, occupancy
from sv3d_pipe.evaluate.sign_parity import occupancy_by_signs


def box(extents, shift=(0, 0, 0)):
    mesh = trimesh.creation.box(extents)
    mesh.apply_translation(shift)
    return mesh


def test_nodes_and_axes():
    # x = .5 is node 48, y = -.25 node 24, z = 0 node 32; the box reaches .025 < 1/32 around it.
    inside = occupancy_by_signs(box((0.05, 0.05, 0.05), (0.5, -0.25, 0)))
    np.testing.assert_array_equal(np.argwhere(inside), [[48, 24, 32]])


def test_cubes_offset_by_half():
    # Faces between nodes: 32 nodes per side, 16 shared, 16 / 48.
    a = box((1, 1, 1), (-0.25 + 1 / 64, 1 / 64, 1 / 64))
    b = box((1, 1, 1), (0.25 + 1 / 64, 1 / 64, 1 / 64))
    assert occupancy_by_signs(a).sum() == 32**3
    assert iou(occupancy_by_signs(a), occupancy_by_signs(b)) == 1 / 3


def test_agrees_with_winding_numbers_on_closed_shells():
    for mesh in (trimesh.creation.torus(0.4, 0.15), trimesh.creation.icosphere(4, 0.7)):
        mesh.apply_translation((0.003, 0.007, -0.005))
        np.testing.assert_array_equal(occupancy_by_signs(mesh), occupancy(mesh))
        turned = (mesh.vertices, mesh.faces[:, ::-1])
        np.testing.assert_array_equal(occupancy_by_signs(turned), occupancy(turned))


def test_a_missing_side_fills_the_grid_to_its_edge():
    # Without its +x side the cube has an odd count from its -x side, between nodes 16 and 17, to node 63.
    cube = box((1, 1, 1), (1 / 64,) * 3)
    opened = trimesh.Trimesh(cube.vertices, cube.faces[cube.face_normals[:, 0] < 0.5], process=False)
    assert occupancy_by_signs(opened).sum() == 47 * 32 * 32


def test_where_shells_overlap_they_are_hollow():
    a, b = box((1, 1, 1), (1 / 64,) * 3), box((0.5, 0.5, 0.5), (0.25 + 1 / 64, 1 / 64, 1 / 64))
    both = trimesh.util.concatenate([a, b])
    expected = occupancy_by_signs(a) ^ occupancy_by_signs(b)
    np.testing.assert_array_equal(occupancy_by_signs(both), expected)
    np.testing.assert_array_equal(occupancy(both), occupancy(a) | occupancy(b))


def test_parts_outside_the_grid_still_count():
    # The -x side lies before the grid: its crossings open the row at the first node.
    long = box((3, 0.05, 0.05))
    inside = occupancy_by_signs(long)
    assert inside[:, 32, 32].all() and inside.sum() == 64
