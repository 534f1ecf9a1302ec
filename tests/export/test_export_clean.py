import numpy as np
import pytest
import trimesh

from sv3d_pipe.artifacts import Mesh, Views
from sv3d_pipe.cameras import orbit
from sv3d_pipe.errors import UserError
from sv3d_pipe.evaluate.truth import gray
from sv3d_pipe.export.clean import clean, orient, weld
from sv3d_pipe.export.simplify import drop_bad_faces, simplify
from sv3d_pipe.render.draw import render_views


def as_mesh(body: trimesh.Trimesh) -> Mesh:
    rgb = np.clip(body.vertices - body.bounds[0], 0, 1).astype(np.float32)
    return Mesh(body.vertices.astype(np.float32), np.asarray(body.faces, np.int64), rgb)


def ball(radius: float = 0.5, at=(0, 0, 0), subdivisions: int = 4) -> trimesh.Trimesh:
    return trimesh.creation.icosphere(subdivisions=subdivisions, radius=radius).apply_translation(at)


def test_debris_goes_and_is_reported():
    scene = trimesh.util.concatenate([ball(), ball(0.02, (0.7, 0, 0), 2), ball(0.02, (0, 0.8, 0), 2)])
    mesh, report = clean(as_mesh(scene), 20_000)
    assert report["dropped_components"] == 2
    assert report["components"] == 1
    assert report["dropped_faces"] == 2 * 320
    assert np.abs(mesh.vertices).max() < 0.51


def pictures_of(obj, supersample: int = 1) -> Views:
    cameras = orbit(np.arange(6) * 60.0, 15.0)
    return Views(render_views(obj, cameras, 64, supersample=supersample), cameras)


def test_small_parts_that_the_pictures_show_stay():
    """A small ball before the large one is in the pictures, the one beside it is not; one hides inside."""
    large, shown = ball(0.3), ball(0.03, (0.36, 0.1, 0), 2)
    pictures = pictures_of(gray(trimesh.util.concatenate([large, shown])))
    floating, hidden = ball(0.03, (-0.4, 0, 0), 2), ball(0.03, (0.1, 0, 0), 2)
    scene = as_mesh(trimesh.util.concatenate([large, shown, floating, hidden]))
    mesh, report = clean(scene, 20_000, views=pictures)
    assert (report["components"], report["dropped_components"]) == (2, 2)
    assert mesh.vertices[:, 0].max() > 0.38 and mesh.vertices[:, 0].min() > -0.31
    assert clean(scene, 20_000)[1]["components"] == 1


def test_the_tip_of_a_thin_spire_that_broke_off_stays():
    """It is less than a pixel wide, so the pictures show it half transparent."""
    tip = trimesh.creation.cylinder(0.008, segment=[(0, 0.34, 0), (0, 0.5, 0)])
    body = trimesh.util.concatenate([ball(0.3), tip])
    pictures = pictures_of(gray(body), supersample=4)
    assert pictures.rgba[:, :14, :, 3].max() < 0.75
    mesh, _ = clean(as_mesh(body), 20_000, views=pictures)
    assert mesh.vertices[:, 1].max() == pytest.approx(0.5, abs=1e-3)


def test_a_thin_part_that_is_not_quite_where_the_pictures_show_it_stays():
    """Off by 0.7 pixels along x and z it is mostly within half a pixel of the outline; off by three it is debris."""
    tip = trimesh.creation.cylinder(0.016, segment=[(0, 0.34, 0), (0, 0.5, 0)])
    pictures = pictures_of(gray(trimesh.util.concatenate([ball(0.3), tip])), supersample=4)
    pixel = 2 * pictures.cameras.visible_radius / 64
    for pixels, parts in ((0.7, 2), (3.0, 1)):
        moved = tip.copy().apply_translation((pixels * pixel, 0, pixels * pixel))
        _, report = clean(as_mesh(trimesh.util.concatenate([ball(0.3), moved])), 20_000, views=pictures)
        assert report["components"] == parts


def test_a_large_second_part_stays():
    scene = trimesh.util.concatenate([ball(), ball(0.4, (1, 0, 0))])
    assert clean(as_mesh(scene), 20_000)[1]["components"] == 2


def test_a_cavity_is_dropped():
    hollow = ball(0.3)
    hollow.invert()
    mesh, report = clean(as_mesh(trimesh.util.concatenate([ball(), hollow])), 20_000)
    assert (report["components"], report["dropped_components"]) == (1, 1)
    assert np.linalg.norm(mesh.vertices, axis=1).min() > 0.49


def test_faces_are_turned_outward():
    body = ball()
    body.invert()
    assert as_mesh(body).to_trimesh().volume < 0
    assert orient(as_mesh(body)).to_trimesh().volume == pytest.approx(0.52, abs=0.01)


def test_single_flipped_faces_are_turned_back():
    body = as_mesh(ball(subdivisions=2))
    faces = body.faces.copy()
    faces[::7] = faces[::7, ::-1]
    turned = orient(Mesh(body.vertices, faces, body.rgb)).to_trimesh()
    assert turned.is_winding_consistent
    assert turned.volume > 0.45


def test_doubled_degenerate_and_not_finite_faces_go():
    body = as_mesh(ball(subdivisions=1))
    vertices = np.concatenate([body.vertices, [[np.nan, 0, 0]]]).astype(np.float32)
    rgb = np.concatenate([body.rgb, [[0, 0, 0]]]).astype(np.float32)
    bad = np.array([[0, 0, 1], body.faces[3][[1, 2, 0]], [0, 1, len(vertices) - 1]])
    mesh = drop_bad_faces(weld(Mesh(vertices, np.concatenate([body.faces, bad]), rgb)))
    assert len(mesh.faces) == len(body.faces)
    assert mesh.to_trimesh().is_watertight


def test_cut_vertices_are_welded():
    soup = ball(subdivisions=3)
    soup.unmerge_vertices()
    mesh, report = clean(as_mesh(soup), 20_000)
    assert report["watertight"]
    assert len(mesh.vertices) == len(mesh.faces) // 2 + 2  # Euler: V - E + F = 2 with E = 3 F / 2


@pytest.mark.parametrize("body", [ball(subdivisions=5), trimesh.creation.torus(0.4, 0.15, 128, 64)])
def test_simplified_meshes_stay_closed_and_keep_shape_and_color(body):
    mesh = simplify(as_mesh(body), 3000)
    assert 2500 < len(mesh.faces) <= 3000
    assert mesh.to_trimesh().is_watertight
    assert mesh.to_trimesh().volume == pytest.approx(body.volume, rel=0.01)
    assert np.abs(mesh.rgb - np.clip(mesh.vertices - body.bounds[0], 0, 1)).max() < 0.05


@pytest.mark.parametrize("most", [100, 1000])
@pytest.mark.parametrize("kept", [0.7, 0.9])
def test_ragged_surfaces_keep_the_number_of_faces_and_their_place(kept, most):
    body = ball(subdivisions=5)
    body.update_faces(np.random.default_rng(0).random(len(body.faces)) < kept)
    mesh = simplify(as_mesh(body), most)
    assert most / 3 < len(mesh.faces) <= most
    outer = np.linalg.norm(mesh.vertices, axis=-1) / np.linalg.norm(body.vertices, axis=-1).max()
    assert 0.6 < outer.mean() and outer.max() < 1.1


def test_many_parts_keep_the_number_of_faces():
    parts = [ball(0.2, (x, y, 0), subdivisions=2) for x in range(8) for y in range(5)]
    mesh = simplify(as_mesh(trimesh.util.concatenate(parts)), 100)
    assert 30 < len(mesh.faces) <= 100


def test_coarse_meshes_are_subdivided_within_the_limit():
    box = trimesh.creation.box((1, 1, 1))
    mesh, report = clean(as_mesh(box), 20_000)
    assert len(mesh.faces) == 12 * 4**4
    assert report["watertight"]
    assert np.allclose(mesh.rgb, mesh.vertices + 0.5, atol=1e-5)
    assert len(clean(as_mesh(box), 800)[0].faces) == 12 * 4**3


def test_nothing_left_is_said():
    flat = Mesh(np.zeros((3, 3), np.float32), np.array([[0, 1, 2]]), np.zeros((3, 3), np.float32))
    with pytest.raises(UserError, match="no usable triangles"):
        clean(flat, 1000)


def test_an_open_second_part_is_neither_flipped_nor_dropped():
    bowl = ball(0.3, (0.1, 0, 0))
    bowl.update_faces(bowl.triangles_center[:, 1] < 0)
    bowl.invert()
    mesh, report = clean(as_mesh(trimesh.util.concatenate([ball(), bowl])), 20_000)
    assert (report["components"], report["dropped_components"], report["watertight"]) == (2, 0, False)
