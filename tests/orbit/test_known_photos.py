"""Further photos among painted frames: places, outlines, room for long objects, and the depth that mini takes from them."""

import dataclasses

import numpy as np
import pytest
import trimesh

from sv3d_pipe.artifacts import FurtherPhoto, Photo, Views
from sv3d_pipe.cameras import FOV_DEG, orbit, orbit_angles
from sv3d_pipe.config import Config
from sv3d_pipe.orbit.known_photos import facts, locate, with_photos
from sv3d_pipe.orbit.paint import paint
from sv3d_pipe.prep.frame import recenter
from sv3d_pipe.render.draw import render_views
from sv3d_pipe.render.objects import from_trimesh
from sv3d_pipe.road.context import Context

CAMERAS = orbit(*orbit_angles("sine", 10.0))


def box(*sides: float, color=(200, 60, 40)):
    """A box of this width, height and depth, centered, not made larger or smaller."""
    mesh = trimesh.creation.box(sides)
    mesh.visual.vertex_colors = np.tile((*color, 255), (len(mesh.vertices), 1)).astype(np.uint8)
    obj = from_trimesh(mesh)
    return dataclasses.replace(obj, vertices=mesh.vertices[: len(obj.vertices)].astype(np.float32))


def framed(obj, azimuth: float, size: int = 192) -> np.ndarray:
    return recenter(render_views(obj, orbit([azimuth], 10.0), size)[0], 0.8, size)


def told(obj, *azimuths: float) -> Photo:
    others = [FurtherPhoto(framed(obj, azimuth), azimuth, None, f"{azimuth:g}.png") for azimuth in azimuths]
    return Photo(framed(obj, 0.0), tuple(others))


def painted(obj, photo: Photo, size: int = 64) -> Views:
    return Views(render_views(obj, CAMERAS, size), CAMERAS, photo.rgba[None])


def test_photos_stand_last_in_the_place_of_painted_frames_near_them():
    photo = told(box(0.9, 0.6, 0.5), 90.0, 180.0)
    found = locate(photo, 10.0)
    views = with_photos(painted(box(0.9, 0.6, 0.5), photo), photo, found)
    # Of the 20 painted ones two are near the back; beside the side view, at 10 degrees, the sine is at 40.
    assert len(views.rgba) == 20 - 2 + 3
    assert views.n_photos == 3 and views.photo_cameras.equals(views.cameras[-3:])
    assert np.array_equal(views.photo, photo.rgba)
    assert views.seen is None and views.cameras.fov_deg == pytest.approx(FOV_DEG)
    assert [round(fact["misfit"], 2) for fact in facts(photo.further, found, Context())] == [0, 0]


def test_painted_frames_get_the_outline_that_the_photos_show():
    """A model that takes a thin box for a deep one."""
    true, taken_for = box(0.9, 0.6, 0.2), box(0.9, 0.6, 0.7)
    photo = told(true, 90.0)
    views = with_photos(painted(taken_for, photo), photo, locate(photo, 10.0))
    truth = render_views(true, views.cameras, 64)[..., 3] > 0.5
    masks, before = views.rgba[..., 3] > 0.5, render_views(taken_for, views.cameras, 64)[..., 3] > 0.5

    def iou(masks):
        return float(((masks & truth).sum((1, 2)) / (masks | truth).sum((1, 2)))[:-2].mean())

    assert iou(masks) > 0.85 > iou(before) + 0.2


def test_where_an_object_is_too_long_for_the_frames_all_see_more_around_it():
    long = box(0.5, 0.5, 1.6)
    photo = told(long, 90.0)
    found = locate(photo, 10.0)
    assert found.scale[0] > 1.3
    views = with_photos(painted(long, photo), photo, found)
    assert views.cameras.fov_deg > 1.15 * FOV_DEG and views.size > 64
    assert views.seen is not None and views.seen[-2:].all() and not views.seen[:-2].all((1, 2)).any()
    mask = views.rgba[-2, ..., 3] > 0.5
    rim = np.ones_like(mask)
    rim[1:-1, 1:-1] = False
    assert np.ptp(np.nonzero(mask)[1]) > 0.8 * views.size and not mask[rim].any()  # long, and whole


def test_a_stranger_among_the_photos_is_named():
    photo = told(box(0.9, 0.6, 0.5), 90.0, 180.0)
    upright = framed(box(0.1, 0.9, 0.1), 0.0)
    wrong = dataclasses.replace(photo.further[1], rgba=upright, name="stranger.png")
    photo = Photo(photo.rgba, (photo.further[0], wrong))
    context = Context()
    facts(photo.further, locate(photo, 10.0), context)
    assert len(context.warnings) >= 1 and any("stranger.png" in sentence for sentence in context.warnings)


def test_mini_takes_the_depth_that_a_side_view_shows():
    book = box(0.9, 0.7, 0.2)
    _, metrics = paint(Config().orbit, told(book, 90.0), Context())
    assert metrics["depth"] < 0.35 and metrics["views"][0]["misfit"] == 0
