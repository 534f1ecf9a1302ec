from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
import trimesh

from sv3d_pipe.artifacts import Mesh, Views
from sv3d_pipe.cameras import orbit, orbit_angles
from sv3d_pipe.export.clean import clean
from sv3d_pipe.geometry.raster import rasterize
from sv3d_pipe.refine.thin_parts import thin_parts
from sv3d_pipe.render.draw import render_views
from sv3d_pipe.render.objects import from_trimesh

SIZE = 192
PIXEL = 1.16 / SIZE  # of a view at the object's place
SIDE_CUT = SIZE // 2  # rows that some views do not know


class Red(torch.nn.Module):
    def rgb(self, points: torch.Tensor) -> torch.Tensor:
        return torch.tensor([1.0, 0, 0]).expand(len(points), 3)


def body() -> trimesh.Trimesh:
    return trimesh.creation.box((0.7, 0.3, 0.5)).apply_translation((0, -0.25, 0))


def antenna(width: float) -> trimesh.Trimesh:
    rod = trimesh.creation.cylinder(width / 2, 0.5)
    rod.apply_transform(trimesh.transformations.rotation_matrix(np.pi / 2, (1, 0, 0)))
    return rod.apply_translation((0.15, 0.15, 0.1))


def views_of(shape: trimesh.Trimesh) -> Views:
    shape.visual = trimesh.visual.ColorVisuals(shape, face_colors=(90, 90, 90, 255))
    cameras = orbit(*orbit_angles("sine", 10.0))
    placed = replace(from_trimesh(shape), vertices=shape.vertices.astype(np.float32))
    return Views(render_views(placed, cameras, SIZE, supersample=3), cameras)


def plain(shape: trimesh.Trimesh) -> Mesh:
    gray = np.full((len(shape.vertices), 3), 0.4, np.float32)
    return Mesh(shape.vertices.astype(np.float32), np.asarray(shape.faces, np.int64), gray)


def rod_pixels(mesh: Mesh, views: Views, width: float) -> tuple[float, float]:
    """Recall and precision of the antenna's pixels, to one pixel, in all views."""
    rod = antenna(width)
    wanted = rasterize(*_tensors(plain(rod)), views.cameras, SIZE).covered.numpy()
    box = rasterize(*_tensors(plain(body())), views.cameras, SIZE).covered.numpy()
    got = rasterize(*_tensors(mesh), views.cameras, SIZE).covered.numpy()
    near = np.stack([_wider(one) for one in wanted])
    return (got & wanted).sum() / wanted.sum(), (got & ~box & near).sum() / max((got & ~box).sum(), 1)


def _tensors(mesh: Mesh):
    return torch.from_numpy(mesh.vertices), torch.from_numpy(mesh.faces)


def _wider(mask: np.ndarray) -> np.ndarray:
    return cv2.dilate(mask.astype(np.uint8), np.ones((3, 3))) > 0


def test_an_antenna_of_two_pixels_that_the_mesh_lacks_survives_to_export():
    width = 2 * PIXEL
    views = views_of(trimesh.util.concatenate([body(), antenna(width)]))
    found = thin_parts(plain(body()), views, Red(), "cpu")
    recall, precision = rod_pixels(found, views, width)
    assert recall > 0.9 and precision > 0.9
    added = slice(len(body().vertices), None)
    assert np.allclose(found.rgb[added], (1, 0, 0))  # in the field's color
    exported, _ = clean(found, 5000, views=views)
    recall, precision = rod_pixels(exported, views, width)
    assert recall > 0.85 and precision > 0.9


def test_closed_pieces():
    views = views_of(trimesh.util.concatenate([body(), antenna(2 * PIXEL)]))
    found = thin_parts(plain(body()), views, Red(), "cpu")
    rest = trimesh.Trimesh(found.vertices, found.faces[len(body().faces) :], process=False)
    assert rest.is_watertight and rest.volume > 0


@pytest.mark.parametrize("parts", [[body()], [body(), antenna(2 * PIXEL)]])
def test_nothing_is_added_to_a_mesh_that_has_everything(parts):
    whole = trimesh.util.concatenate(parts)
    assert thin_parts(plain(whole), views_of(whole), Red(), "cpu") is None


def test_what_two_views_alone_show_is_no_part():
    views = views_of(body())
    rgba = views.rgba.copy()
    rgba[3:5, 20:60, 95:97] = (0.4, 0.4, 0.4, 1)
    assert thin_parts(plain(body()), Views(rgba, views.cameras), Red(), "cpu") is None


def test_what_a_view_does_not_know_does_not_forbid_a_part():
    views = views_of(trimesh.util.concatenate([body(), antenna(2 * PIXEL)]))
    seen = np.ones(views.rgba.shape[:3], bool)
    seen[::3, :SIDE_CUT] = False
    blind = np.where(seen[..., None], views.rgba, 0)
    found = thin_parts(plain(body()), Views(blind, views.cameras, seen=seen), Red(), "cpu")
    assert rod_pixels(found, views, 2 * PIXEL)[0] > 0.85
