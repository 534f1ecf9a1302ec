"""Painted frames in wrong places go the whole road: export bakes from where they belong, also after a break."""

import json

import numpy as np
import pytest
import trimesh
from third_kinds import Billiards, Clay, Potter

from sv3d_pipe import Image2Mesh
from sv3d_pipe.artifacts import Correction, Mesh
from sv3d_pipe.cameras import load_transforms
from sv3d_pipe.errors import Cancelled
from sv3d_pipe.export import export
from sv3d_pipe.pictures import save_png
from sv3d_pipe.road.context import Checkpoint
from sv3d_pipe.road.report import make_reporter

SMALL = {
    "orbit.azimuths": "60,120,180,240,300,360",
    "refine.steps": 6,
    "refine.grid": 24,
    "refine.render": 48,
    "refine.sds": False,
    "export.faces": 2000,
    "export.texture": 64,
    "export.turntable": False,
}
MOVED, PIXELS = [1, 3], 2


class Drunkard(Billiards):
    """Paints two of its frames too far to the right."""

    identity = "drunkard 1"

    def paint(self, photo, angles, config, plan, context):
        painted = super().paint(photo, angles, config, plan, context)
        painted.rgba[MOVED] = np.roll(painted.rgba[MOVED], PIXELS, 2)
        return painted


class Sober(Potter):
    """Makes the ball that was painted."""

    identity = "sober 1"

    def fit(self, config, views, context):
        ball = trimesh.creation.icosphere(subdivisions=3, radius=0.4)
        vertices, faces = np.asarray(ball.vertices, np.float32), np.asarray(ball.faces, np.int64)
        color = np.float32((0.7, 0.3, 0.2))
        return Clay(Mesh(vertices, faces, np.tile(color, (len(vertices), 1))), color.tolist()), {
            "faces": len(faces)
        }


@pytest.fixture
def go(tmp_path, monkeypatch):
    """Run the road in a folder of that name; returns its result and the cameras that export was given."""
    photo = tmp_path / "ball.png"
    y, x = np.mgrid[:96, :96] + 0.5 - 48
    rgba = np.zeros((96, 96, 4), np.float32)
    rgba[..., :3], rgba[..., 3] = (0.7, 0.3, 0.2), np.hypot(x, y) < 36
    save_png(photo, rgba)
    given, bake = [], export.bake

    def watched(mesh, texels, views, *rest):
        given.append(views.cameras)
        return bake(mesh, texels, views, *rest)

    monkeypatch.setattr(export, "bake", watched)

    def run(name, settings=None, **how):
        road = Image2Mesh.from_preset(
            "draft", SMALL | (settings or {}), device="cpu", reporter=make_reporter(quiet=True),
            model=Drunkard(96), reconstructor=Sober(), **how,
        )  # fmt: skip
        result = road(photo, tmp_path / name)
        return result, given[-1]

    return run


def test_export_bakes_from_the_corrected_cameras(go, tmp_path):
    result, baked_from = go("work")
    painted, _ = load_transforms(tmp_path / "work" / "2-orbit" / "transforms.json")
    metrics = json.loads((tmp_path / "work" / "4-refine" / "stage.json").read_text())["metrics"]
    assert next(iter(metrics)) == "mask_iou" and metrics["poses_corrected"] == 2
    middle = np.zeros((1, 3))
    shift = baked_from.project(middle, 96)[0] - painted.project(middle, 96)[0]  # [6, 1, 2]
    np.testing.assert_allclose(shift[MOVED, 0], [[PIXELS, 0]] * 2, atol=0.5)
    assert np.array_equal(np.delete(baked_from.c2w, MOVED, 0), np.delete(painted.c2w, MOVED, 0))
    correction = Correction.load(tmp_path / "work" / "4-refine")
    assert np.array_equal(correction.c2w, baked_from.c2w)


def test_without_it_export_bakes_from_the_orbit(go, tmp_path):
    _, baked_from = go("work", {"refine.correct_views": False})
    assert baked_from.equals(load_transforms(tmp_path / "work" / "2-orbit" / "transforms.json")[0])
    assert not (tmp_path / "work" / "4-refine" / "correction.json").exists()


def test_a_run_that_goes_on_after_a_break_has_the_same_cameras(go, tmp_path, monkeypatch):
    go("whole")
    saves = []
    once = Checkpoint.save

    def save(self, state):
        self.every_s = 0
        once(self, state)
        saves.append(state()["step"])

    monkeypatch.setattr(Checkpoint, "save", save)
    with pytest.raises(Cancelled):
        go("broken", cancelled=lambda: len(saves) >= 3)
    assert list((tmp_path / "broken").glob(".refine-*.checkpoint"))
    del saves[:]
    go("broken")
    assert saves[0] == 4  # it went on
    kept = [(tmp_path / name / "4-refine" / "correction.json").read_bytes() for name in ("whole", "broken")]
    assert kept[0] == kept[1]
