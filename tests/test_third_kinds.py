"""A painter and a reconstructor of somebody's own go the whole road; no file of the project knows of them."""

import json

import numpy as np
import pytest
import trimesh
from third_kinds import Billiards, Potter

from sv3d_pipe import Image2Mesh
from sv3d_pipe.errors import UserError
from sv3d_pipe.pictures import save_png
from sv3d_pipe.road.report import make_reporter

SMALL = {
    "nerf.steps": 60,
    "nerf.surface": 32,
    "refine.steps": 10,
    "refine.grid": 24,
    "refine.render": 48,
    "refine.sds": "on",
    "refine.sds_every": 1,
    "export.faces": 2000,
    "export.texture": 64,
    "export.turntable": False,
}


def go(photo, out, settings=None, **kinds):
    quiet = make_reporter(quiet=True)
    road = Image2Mesh.from_preset("draft", SMALL | (settings or {}), device="cpu", reporter=quiet, **kinds)
    return road(photo, out)


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    y, x = np.mgrid[:96, :96] + 0.5 - 48
    rgba = np.zeros((96, 96, 4), np.float32)
    rgba[..., :3] = (0.7, 0.3, 0.2)
    rgba[..., 3] = np.hypot(x, y) < 36
    path = tmp_path_factory.mktemp("ball") / "ball.png"
    save_png(path, rgba)
    return path


def test_a_third_orbit_model_goes_the_whole_road(photo, tmp_path):
    model = Billiards()
    result = go(photo, tmp_path, {"orbit.elevation_deg": 25.0}, model=model)
    body = trimesh.load(result.mesh, force="mesh")
    assert body.is_watertight or len(body.faces) > 500
    np.testing.assert_allclose(body.extents / body.extents.max(), 1, atol=0.08)  # a ball
    records = {run.record.stage: run.record for run in result.stages}
    assert records["orbit"].metrics["balls"] == 1 and records["orbit"].metrics["size"] == 48
    assert records["refine"].metrics["sds_steps"] == 2
    assert model.told == [(25.0, 21)]
    assert all(run.skipped for run in go(photo, tmp_path, {"orbit.elevation_deg": 25.0}, model=model).stages)


def test_its_identity_is_part_of_the_key_and_its_errors_are_the_users(photo, tmp_path):
    first, other = Billiards(), Billiards()
    other.identity = "billiards 2"
    settings = {"orbit.azimuths": "90,180,270,360", "refine.sds": "off"}
    keys = [
        [run.record.key for run in go(photo, tmp_path, settings, model=model, reconstructor=Potter()).stages]
        for model in (first, other)
    ]
    assert keys[0][0] == keys[1][0] and all(a != b for a, b in zip(keys[0][1:], keys[1][1:]))
    with pytest.raises(UserError, match="48 pixels wide"):
        go(photo, tmp_path, {"orbit.size": 64}, model=first)


def test_another_reconstructor_takes_the_place_of_the_hash_grid(photo, tmp_path):
    result = go(photo, tmp_path, {"refine.sds": "off"}, model=Billiards(), reconstructor=Potter())
    assert sorted(path.name for path in (tmp_path / "3-nerf").iterdir()) == [
        "color.json", "mesh.ply", "stage.json",
    ]  # fmt: skip
    refined = json.loads((tmp_path / "4-refine" / "stage.json").read_text())["metrics"]
    assert refined["mask_iou"] > refined["mask_iou_before"] and refined["mask_iou"] > 0.9
    assert np.abs(np.asarray(trimesh.load(result.mesh, force="mesh").extents) - 1).max() < 0.08
