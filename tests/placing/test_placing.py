"""Objects of known places, seen by a camera that is known, are placed where they are."""

from dataclasses import replace

import numpy as np
import pytest
import trimesh

from sv3d_pipe.geometry.extent import unit_box
from sv3d_pipe.placing.arrange import arrange
from sv3d_pipe.placing.check import drawn, silhouette_ious
from sv3d_pipe.placing.fit import place
from sv3d_pipe.placing.photo_camera import PhotoCamera, about_y
from sv3d_pipe.placing.subject import Pose, Subject
from sv3d_pipe.prep.frame import recenter, square_around
from sv3d_pipe.prep.parts import bounding_box

CAMERA = PhotoCamera.of(800, 600, 15.0)


def box(*extents):
    mesh = trimesh.creation.box(extents).subdivide().subdivide()
    return unit_box(mesh.vertices)[0].astype(np.float32), np.asarray(mesh.faces, np.int64)


def ball():
    mesh = trimesh.creation.icosphere(3)
    return unit_box(mesh.vertices)[0].astype(np.float32), np.asarray(mesh.faces, np.int64)


def facing(x, z):
    """The turn of what faces the camera from there."""
    return float(-np.degrees(np.arctan2(x, -z)))


def standing(mesh, x, z, scale, height=0.0):
    return Pose(about_y(facing(x, z)), scale, np.array([x, height - scale * mesh[0][:, 1].min(), z]))


def photographed(meshes, poses, camera=CAMERA, only=None):
    """The subjects that prep would make of a photo of the scene, each as far as it is seen."""
    size = max(camera.width, camera.height)
    whole = [Subject(str(k), *mesh, np.ones((2, 2)), (0, 0, 2)) for k, mesh in enumerate(meshes)]
    seen = drawn(whole, poses, camera.square(size))
    top, left = (size - camera.height) // 2, (size - camera.width) // 2
    seen = seen[top : top + camera.height, left : left + camera.width]
    subjects = []
    for k, mesh in enumerate(meshes):
        rgba = np.repeat((seen == k)[..., None], 4, -1).astype(np.float32)
        crop = square_around(bounding_box(rgba[..., 3]), 0.8)
        subject = Subject(str(k), *mesh, recenter(rgba, 0.8, 400)[..., 3], crop)
        vertices = mesh[0] @ (camera.facing(*subject.middle).T @ poses[k].rotation).T
        subjects.append(replace(subject, vertices=vertices.astype(np.float32)))
    return subjects


def test_two_objects_on_the_ground():
    meshes = [box(1, 2, 1), ball()]
    poses = [standing(meshes[0], -0.5, -3.5, 0.9), standing(meshes[1], 0.8, -4.6, 1.1)]
    for found, right in zip(place(photographed(meshes, poses), CAMERA), poses):
        assert found.on_ground
        assert found.scale == pytest.approx(right.scale, rel=0.015)
        assert found.position == pytest.approx(right.position, abs=0.05)


def test_the_drawing_fits_the_photo_and_the_scene_has_its_size():
    meshes = [box(1, 2, 1), ball(), box(3, 1, 1)]
    poses = [
        standing(meshes[0], -0.8, -3.9, 0.9), standing(meshes[1], 0.2, -4.6, 0.8),
        standing(meshes[2], 0.7, -3.6, 0.6),
    ]  # fmt: skip
    subjects = photographed(meshes, poses)
    found = arrange(subjects, CAMERA, length=2.0)
    assert min(found.ious) > 0.97 and found.iou > 0.97
    points = np.concatenate([pose.places(own.vertices) for own, pose in zip(subjects, found.poses)])
    assert np.ptp(points, axis=0).max() == pytest.approx(2)
    assert points.min(0) + points.max(0) == pytest.approx(0, abs=1e-4)
    assert found.ground_y == pytest.approx(points[:, 1].min(), abs=1e-4)
    above = found.c2w[1, 3] - found.ground_y  # the camera's height is what the scene is measured in
    assert found.poses[0].scale / above == pytest.approx(0.9, rel=0.015)
    placed = place(subjects, CAMERA)
    assert silhouette_ious(subjects, placed, CAMERA)[1] == pytest.approx(found.iou)
    wrong = [replace(pose, scale=1.2 * pose.scale) for pose in placed]
    assert silhouette_ious(subjects, wrong, CAMERA)[1] < 0.85


def test_what_lies_on_another_is_as_far_as_that():
    meshes = [box(1, 1, 1), box(1, 1, 1), ball()]
    below, beside = standing(meshes[0], -0.4, -4.5, 0.5), standing(meshes[2], 0.8, -3.8, 0.5)
    above = standing(meshes[1], -0.4, -4.5, 0.4, height=0.5)
    found = place(photographed(meshes, [below, above, beside]), CAMERA)
    assert [pose.on_ground for pose in found] == [True, False, True]
    assert found[1].scale == pytest.approx(0.4, rel=0.05)
    assert found[1].position == pytest.approx(above.position, abs=0.1)


def test_what_hangs_above_the_horizon_is_as_far_as_the_nearest():
    meshes = [box(1, 1, 1), ball(), ball()]
    camera = PhotoCamera.of(800, 600, 5.0)
    near, far = standing(meshes[0], -0.6, -5.0, 0.9), standing(meshes[2], 2.2, -9.0, 1.0)
    lamp = standing(meshes[1], 0.6, -5.0, 0.6, height=1.1)
    found = place(photographed(meshes, [near, lamp, far], camera), camera)
    assert [pose.on_ground for pose in found] == [True, False, True]
    eye = np.array([0, 1, 0])
    assert np.linalg.norm(found[1].position - eye) == pytest.approx(np.linalg.norm(found[0].position - eye))
    assert found[1].scale == pytest.approx(0.6, rel=0.05)


def test_nothing_touches_the_ground():
    meshes = [ball(), ball()]
    poses = [
        Pose(np.eye(3), 1.0, np.array([-0.8, 2.0, -5.0])),
        Pose(np.eye(3), 0.5, np.array([0.8, 2.0, -5.0])),
    ]
    camera = PhotoCamera.of(800, 600, -8.0)
    found = arrange(photographed(meshes, poses, camera), camera)
    assert found.ground_y is None and found.iou > 0.97
    assert found.poses[0].scale / found.poses[1].scale == pytest.approx(2, rel=0.03)


def test_an_object_cut_by_the_border_is_placed_by_what_is_seen():
    meshes = [box(1, 2, 1), ball()]
    poses = [standing(meshes[0], -0.35, -3.5, 0.9), standing(meshes[1], 1.25, -4.0, 1.0)]
    subjects = photographed(meshes, poses)
    assert subjects[1].box[2] == pytest.approx(800, abs=1)
    found = place(subjects, CAMERA)[1]
    assert found.position == pytest.approx(poses[1].position, abs=0.12)
    assert found.scale == pytest.approx(1, rel=0.05)


def test_a_window_shows_what_its_camera_sees():
    window = CAMERA.window((520, 300, 760, 580), 192)
    points = np.array([[0.7, 0.2, -4.0], [1.1, 0.0, -3.6], [0.9, 0.5, -5.0]])
    size = max(CAMERA.width, CAMERA.height)
    in_square = CAMERA.square(size).cameras.project(points, size)[0][0]
    in_photo = in_square - (0, (size - CAMERA.height) / 2)
    mapped = np.column_stack([in_photo, np.ones(3)]) @ window.from_photo.T
    assert mapped[:, :2] / mapped[:, 2:] == pytest.approx(window.cameras.project(points, 192)[0][0], abs=0.02)
    right, up = window.cameras.c2w[0, :3, 0], window.cameras.c2w[0, :3, 1]
    assert right[1] == pytest.approx(0) and up[1] > 0.9


def test_directions():
    assert CAMERA.elevation_of(400, 300) == pytest.approx(15)
    assert CAMERA.fov_deg == pytest.approx(33.8)
    low, right = CAMERA.direction(400, 600), CAMERA.direction(800, 300)
    assert CAMERA.elevation_of(400, 600) == pytest.approx(15 + np.degrees(np.arctan(300 / CAMERA.focal)))
    assert low[0] == pytest.approx(0) and low[2] < 0 and right[0] > 0


def test_focal_lengths():
    assert PhotoCamera.of(3600, 2400, 10, 50).focal == pytest.approx(5000)
    for useless in (None, 0.0, 1e6):
        assert PhotoCamera.of(3600, 2400, 10, useless).fov_deg == pytest.approx(33.8)


def test_what_is_made_from_a_part_of_the_photo_is_turned_and_rolled_back():
    assert CAMERA.facing(400, 300) == pytest.approx(np.eye(3), abs=1e-6)
    camera = PhotoCamera.of(800, 600, 30.0)
    low, high = np.array([-1.0, 0, -1.2]), np.array([-1.0, 0.4, -1.2])  # an upright to the left of the middle
    xy, _ = camera.square(800).cameras.project(np.stack([low, high]), 800)
    across, down = xy[0, 1] - xy[0, 0]
    lean = np.degrees(np.arctan2(across, -down))
    assert lean < -10  # it leans outwards in the photo
    middle = xy[0].mean(0) - (0, 100)
    rotation = camera.facing(*middle)
    leaning = np.array([np.sin(np.radians(lean)), np.cos(np.radians(lean)), 0])  # as a mesh of it would
    assert rotation @ leaning == pytest.approx([0, 1, 0], abs=0.1)
    elevation = np.radians(camera.elevation_of(*middle))  # from which its own camera, at azimuth 0, sees it
    toward = rotation @ [0, np.sin(elevation), np.cos(elevation)]
    assert toward == pytest.approx(-camera.direction(*middle), abs=1e-6)


def test_poses():
    assert about_y(90) @ [0, 0, 1] == pytest.approx([1, 0, 0])
    pose = Pose(about_y(90), 2, np.array([1, 2, 3]))
    assert pose.places(np.array([[0, 0, 1.0]]))[0] == pytest.approx([3, 2, 3])
    assert pose.quaternion == pytest.approx([0, 0.5**0.5, 0, 0.5**0.5])
