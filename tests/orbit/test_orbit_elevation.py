"""The elevation of painted frames, from their outlines: found where they show one, used where nobody was told."""

import json
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
import trimesh
from third_kinds import Billiards, mean_color

from sv3d_pipe import Image2Mesh
from sv3d_pipe.artifacts import Photo, Views
from sv3d_pipe.cameras import orbit, orbit_angles, orbit_azimuths
from sv3d_pipe.config import OrbitConfig
from sv3d_pipe.geometry.raster import rasterize
from sv3d_pipe.orbit.denoising_pipeline import OrbitOutput
from sv3d_pipe.orbit.elevation import seen_elevation
from sv3d_pipe.orbit.model import Painted
from sv3d_pipe.orbit.paint import paint
from sv3d_pipe.orbit.sv3d.sv3d_painter import SV3DPainter
from sv3d_pipe.pictures import save_png
from sv3d_pipe.prep.white_orbit import cut_from_white
from sv3d_pipe.road.context import Context
from sv3d_pipe.road.report import make_reporter

SIZE = 96


def box(size, middle) -> trimesh.Trimesh:
    return trimesh.creation.box(size).apply_translation(middle)


HORSE = trimesh.util.concatenate(
    [
        box((0.7, 0.2, 0.2), (0, 0, 0)),
        box((0.1, 0.4, 0.1), (0.3, 0.2, 0.05)),
        box((0.2, 0.1, 0.1), (0.4, 0.4, 0.05)),
        box((0.08, 0.3, 0.08), (-0.3, -0.2, 0.06)),
        box((0.08, 0.3, 0.08), (0.25, -0.2, -0.06)),
    ]
)
BALL = trimesh.creation.icosphere(subdivisions=4, radius=0.45)
EGG = trimesh.creation.icosphere(subdivisions=4).apply_scale((0.25, 0.45, 0.25))  # a solid of revolution


def masks_of(solid, azimuth_deg, elevation_deg, size=SIZE) -> np.ndarray:
    """[N, size, size] alpha."""
    vertices = torch.from_numpy(np.asarray(solid.vertices, np.float32))
    cameras = orbit(azimuth_deg, elevation_deg)
    covered = rasterize(vertices, torch.from_numpy(np.asarray(solid.faces)), cameras, 4 * size).covered
    return covered.float().view(-1, size, 4, size, 4).mean((2, 4)).numpy()


def look(solid, elevation_deg):
    azimuth_deg = orbit_azimuths()
    return seen_elevation(masks_of(solid, azimuth_deg, elevation_deg), azimuth_deg, np.zeros(21))


@pytest.mark.parametrize("elevation_deg", [-10.0, 2.5, 30.0])
def test_a_static_orbit_tells_its_elevation(elevation_deg):
    seen = look(HORSE, elevation_deg)
    assert seen.clear and seen.coverage > 0.98
    assert seen.elevation_deg == pytest.approx(elevation_deg, abs=1.0)


def test_soft_masks_that_have_lost_parts_tell_it_still():
    azimuth_deg = orbit_azimuths()
    masks = masks_of(HORSE, azimuth_deg, 18.0)
    masks = np.stack([cv2.GaussianBlur(mask, (0, 0), 1.0) for mask in masks])
    masks[4, :, : SIZE // 3] = 0  # a third of the picture is gone
    masks[13] = np.roll(masks[13], 1, 0)
    seen = seen_elevation(masks, azimuth_deg, np.zeros(21))
    assert seen.clear and seen.elevation_deg == pytest.approx(18.0, abs=1.5)


@pytest.mark.parametrize("kind", ["sine", "dynamic"])
def test_of_other_orbits_only_the_differences_of_elevation_need_be_known(kind):
    azimuth_deg, elevation_deg = orbit_angles(kind, 10.0, 20.0, seed=3)
    masks = masks_of(HORSE, azimuth_deg, elevation_deg)
    seen = seen_elevation(masks, azimuth_deg, elevation_deg - 17.0)
    assert seen.clear and seen.elevation_deg == pytest.approx(10.0, abs=1.5)


@pytest.mark.parametrize("solid", [BALL, EGG], ids=["ball", "egg"])
def test_round_things_do_not_tell(solid):
    assert not look(solid, 15.0).clear


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_frames_without_an_outline_say_nothing(alpha):
    masks = np.full((5, 16, 16), alpha, np.float32)
    assert seen_elevation(masks, orbit_azimuths(5), np.zeros(5)) is None


class Sculptor(Billiards):
    """Paints a solid from an elevation of its own, whatever it is told."""

    identity = "sculptor 1"

    def __init__(self, solid, elevation_deg: float, takes_pose: bool):
        super().__init__(SIZE)
        self.solid_itself, self.elevation_deg, self.takes_pose = solid, elevation_deg, takes_pose

    def paint(self, photo, angles, config, plan, context):
        azimuth_deg, elevation_deg = angles
        alpha = masks_of(
            self.solid_itself, azimuth_deg, elevation_deg - elevation_deg[-1] + self.elevation_deg
        )
        rgb = np.broadcast_to(mean_color(photo), (*alpha.shape, 3))
        return Painted(np.concatenate([rgb, alpha[..., None]], -1).astype(np.float32), 20.0)


def photo_of(solid, elevation_deg) -> Photo:
    alpha = masks_of(solid, [0.0], elevation_deg)[0]
    return Photo(np.stack([np.full_like(alpha, 0.5)] * 3 + [alpha], -1))


def painted(solid, takes_pose, **settings):
    """Views, metrics, warnings and other sentences of an orbit that is painted from 25 degrees."""
    said = []
    context = Context(say=said.append)
    config = OrbitConfig(kind="static", **settings)
    views, metrics = paint(config, photo_of(solid, 25.0), context, Sculptor(solid, 25.0, takes_pose))
    return views, metrics, context.warnings, [sentence for sentence in said if "painted" in sentence]


def test_cameras_of_a_model_that_is_told_nothing_stand_where_its_frames_say():
    views, metrics, warnings, said = painted(HORSE, takes_pose=False)
    assert metrics["elevation_deg"] == metrics["seen_elevation_deg"] == pytest.approx(25.0, abs=1.0)
    assert metrics["seen_coverage"] > 0.98 and metrics["seen_elevation_margin_deg"] < 4
    expected = orbit(*orbit_angles("static", metrics["elevation_deg"]))
    np.testing.assert_allclose(views.cameras.c2w, expected.c2w, atol=1e-6)
    assert not warnings and len(said) == 1 and f"{metrics['elevation_deg']:g} degrees" in said[0]


@pytest.mark.parametrize(("takes_pose", "cut_at_deg"), [(False, 25.0), (True, 0.0)])
def test_frames_on_white_are_cut_out_where_they_were_painted_from(monkeypatch, takes_pose, cut_at_deg):
    azimuth_deg, zeros = orbit_azimuths(), np.zeros(21)
    alpha = masks_of(HORSE, azimuth_deg, 25.0)[..., None]
    frames = (1 - 0.5 * alpha).repeat(3, -1).astype(np.float32)
    origins = []
    monkeypatch.setattr(
        "sv3d_pipe.orbit.sv3d.sv3d_painter.cut_from_white",
        lambda frames, cameras: origins.append(cameras.origins) or cut_from_white(frames, cameras),
    )
    painter = SV3DPainter(SimpleNamespace(takes_pose=takes_pose))
    cut = painter.cut_out(OrbitOutput(frames, frames[-1]), (azimuth_deg, zeros))
    height = origins[-1][0, 1] / np.linalg.norm(origins[-1][0])
    assert np.degrees(np.arcsin(height)) == pytest.approx(cut_at_deg, abs=1.0)
    assert np.minimum(cut[..., 3], alpha[..., 0]).sum() / np.maximum(cut[..., 3], alpha[..., 0]).sum() > 0.95


def test_round_frames_leave_the_elevation_that_is_assumed_and_say_so():
    views, metrics, warnings, said = painted(BALL, takes_pose=False)
    assert metrics["elevation_deg"] == 10.0 and metrics["seen_elevation_deg"] is None
    np.testing.assert_allclose(views.cameras.c2w, orbit(*orbit_angles("static", 10.0)).c2w, atol=1e-6)
    assert not warnings and len(said) == 1 and "do not show" in said[0] and "10 degrees" in said[0]


@pytest.mark.parametrize("takes_pose", [True, False])
def test_an_elevation_that_was_given_is_kept_and_a_contradiction_is_told(takes_pose):
    views, metrics, warnings, said = painted(HORSE, takes_pose, elevation_deg=5.0)
    assert metrics["elevation_deg"] == 5.0
    assert metrics["seen_elevation_deg"] == pytest.approx(25.0, abs=1.0)
    np.testing.assert_allclose(views.cameras.c2w, orbit(*orbit_angles("static", 5.0)).c2w, atol=1e-6)
    assert not said and len(warnings) == 1
    assert (
        "not from 5;" in warnings[0] and f"elevation_deg to {metrics['seen_elevation_deg']:g}" in warnings[0]
    )


@pytest.mark.parametrize("solid, elevation_deg", [(HORSE, 24.0), (BALL, 5.0)], ids=["agrees", "cannot tell"])
def test_no_contradiction_no_warning(solid, elevation_deg):
    _, metrics, warnings, said = painted(solid, True, elevation_deg=elevation_deg)
    assert metrics["elevation_deg"] == elevation_deg and not warnings and not said


def test_the_road_records_the_elevation_and_uses_it(tmp_path):
    save_png(tmp_path / "horse.png", photo_of(HORSE, 25.0).rgba)
    model = Sculptor(HORSE, 25.0, takes_pose=False)
    road = Image2Mesh.from_preset("draft", device="cpu", reporter=make_reporter(quiet=True), model=model)
    road(tmp_path / "horse.png", tmp_path / "out", until="orbit")
    folder = tmp_path / "out" / "2-orbit"
    metrics = json.loads((folder / "stage.json").read_text())["metrics"]
    assert metrics["elevation_deg"] == metrics["seen_elevation_deg"] == pytest.approx(25.0, abs=1.5)
    _, y, _ = Views.load(folder).cameras.origins[-1]
    assert np.degrees(np.arcsin(y / 2)) == pytest.approx(metrics["elevation_deg"], abs=0.01)
