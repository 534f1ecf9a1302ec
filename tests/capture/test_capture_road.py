"""From a capture to a mesh in the capture's own coordinates; resuming; what the command line says."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import trimesh
from toy_capture import SCALE, Optics, cameras_around, poses, shoot, to_capture, write
from typer.testing import CliRunner

from sv3d_pipe import Image2Mesh
from sv3d_pipe.cli import app
from sv3d_pipe.dataset.invented.toys import procedural
from sv3d_pipe.evaluate.protocol_a import chamfer, visible_points
from sv3d_pipe.road.report import make_reporter
from sv3d_pipe.road.workspace import Workspace

OPTICS = Optics(100, 80, 210.0, 56.0, 35.0)
SMALL = {
    "nerf.steps": 120,
    "nerf.surface": 64,
    "refine.steps": 10,
    "refine.grid": 32,
    "refine.render": 96,
    "export.faces": 3000,
    "export.scale": 2.5,
    "export.texture": 128,
    "export.turntable": False,
}


def go(settings=None):
    settings = SMALL | (settings or {})
    return Image2Mesh.from_preset("draft", settings, device="cpu", reporter=make_reporter(quiet=True))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("captured")
    obj, cameras = procedural(125), cameras_around(12)
    write(folder / "toy", shoot(obj, cameras, OPTICS), poses(cameras), OPTICS.fields())
    return obj, folder / "toy", go().capture(folder / "toy", folder / "work")


def test_the_mesh_returns_to_its_place_in_the_capture(run):
    obj, _, result = run
    assert [stage.record.stage for stage in result.stages] == ["capture", "nerf", "refine", "export"]
    metrics = json.loads((result.workspace / "5-export" / "stage.json").read_text())["metrics"]
    matrix = np.array(metrics["capture_from_glb"])
    mesh = trimesh.load(result.mesh, force="mesh", process=False)
    placed = mesh.vertices @ matrix[:3, :3].T + matrix[:3, 3]
    truth = to_capture(obj.vertices)
    np.testing.assert_allclose(placed.min(0), truth.min(0), atol=0.06 * SCALE)
    np.testing.assert_allclose(placed.max(0), truth.max(0), atol=0.06 * SCALE)

    def in_object_sizes(points):  # the protocol's cameras stand around the origin
        return (points - truth.mean(0)) / SCALE

    seen = [visible_points((in_object_sizes(p), f)) for p, f in ((placed, mesh.faces), (truth, obj.faces))]
    # A pixel is 1 / 50 of the object's size; the points are thinned to voxels of 1 / 100.
    assert chamfer(*seen) < 0.02


def test_stage_by_stage_leaves_the_same_bytes_as_one_go(run, tmp_path):
    _, folder, result = run
    for stage in ("capture", "nerf", "refine", "export"):
        go().capture(folder, tmp_path / "staged", start=stage, until=stage)
    for path in result.workspace.glob("[2-5]-*/**/*"):
        if path.is_file() and path.name != "stage.json":
            staged = tmp_path / "staged" / path.relative_to(result.workspace)
            assert staged.read_bytes() == path.read_bytes(), path.name


def test_captures_do_without_distillation_and_photo(run):
    _, _, result = run
    record = json.loads((result.workspace / "4-refine" / "stage.json").read_text())
    assert record["metrics"]["sds_steps"] == 0 and set(record["upstream"]) == {"capture", "nerf"}
    assert sorted(path.name for path in result.workspace.glob("[0-9]*")) == [
        "2-capture", "3-nerf", "4-refine", "5-export",
    ]  # fmt: skip
    run_file = Workspace(result.workspace).read_run()
    assert "photo" not in run_file and run_file["capture"].endswith("toy")


def test_finished_captures_are_skipped_and_changed_ones_are_not(run, tmp_path):
    _, folder, result = run
    again = go().capture(folder, result.workspace)
    assert all(stage.skipped for stage in again.stages)
    changed = go({"export.faces": 2500}).capture(folder, result.workspace)
    assert [stage.record.stage for stage in changed.stages if not stage.skipped] == ["export"]
    shutil.copytree(folder, tmp_path / "toy")
    document = json.loads((tmp_path / "toy" / "transforms.json").read_text())
    document["frames"].pop()
    (tmp_path / "toy" / "transforms.json").write_text(json.dumps(document))
    shutil.copytree(result.workspace, tmp_path / "work")
    run_file = json.loads((tmp_path / "work" / "run.json").read_text())
    (tmp_path / "work" / "run.json").write_text(json.dumps(run_file | {"capture": str(tmp_path / "toy")}))
    fewer = go().capture(tmp_path / "toy", tmp_path / "work", until="capture")
    assert [stage.skipped for stage in fewer.stages] == [False]


def test_a_mesh_file_is_refined_and_its_content_is_part_of_the_key(run, tmp_path):
    _, folder, result = run
    shape = tmp_path / "shape.ply"
    shutil.copy(result.workspace / "3-nerf" / "mesh.ply", shape)
    shutil.copytree(result.workspace, tmp_path / "work")
    how = {"start": "refine", "until": "refine"}
    to_mesh = go({"refine.shape": str(shape), "refine.steps": 2})
    stages = to_mesh.capture(folder, tmp_path / "work", **how).stages
    assert not stages[-1].skipped
    assert stages[-1].record.metrics["shape_placed"] == "world"
    assert to_mesh.capture(folder, tmp_path / "work", **how).stages[-1].skipped
    trimesh.load(shape).apply_scale(1.01).export(shape)
    assert not to_mesh.capture(folder, tmp_path / "work", **how).stages[-1].skipped


@pytest.fixture
def command(run, tmp_path, monkeypatch):
    """Run img2mesh in a folder that holds the capture (toy) and its workspace (work)."""
    _, folder, result = run
    shutil.copytree(folder, tmp_path / "toy")
    shutil.copytree(result.workspace, tmp_path / "work")
    monkeypatch.chdir(tmp_path)

    def command(*words):
        return CliRunner().invoke(app, [*words, "--device", "cpu", "--quiet"])

    return command


def test_nerf_takes_a_capture_or_goes_on_in_its_workspace(command):
    made = command("nerf", "toy", "-o", "mine", "--steps", "20", "--surface", "32")
    assert made.exit_code == 0, made.stderr
    assert Path(made.stdout.strip()) == Path("mine/3-nerf")
    assert Workspace(Path("mine")).read_run()["config"]["nerf.steps"] == 20
    shutil.rmtree("toy")  # the workspace holds all it needs
    again = command("nerf", "mine", "--steps", "30")
    assert again.exit_code == 0, again.stderr
    assert Workspace(Path("mine")).record("nerf").config["surface"] == 32


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("nerf", "nowhere"), "There is no file or folder nowhere; check the path"),
        (("nerf", "toy/images"), "toy/images is neither a workspace nor a capture"),
        (("nerf", "work", "-o", "other"), "leave out -o"),
        (("nerf", "toy", "-o", "mine", "--until", "prep"), "A capture has no prep stage"),
        (("nerf", "work", "--set", "prep.matte=alpha"), "prep.matte belongs to an earlier stage"),
        (("orbit", "work"), "A capture has no orbit stage"),
        (("prep", "work"), "work was made from a capture"),
        (("run", "toy"), "toy is a capture, not a photo; use `img2mesh nerf toy --until export`"),
        (("refine", "work", "--shape", "nothing.glb"), "There is no (mesh )?file .*nothing.glb"),
        (("refine", "work", "--shape", "toy/transforms.json"), "not a mesh file of a known kind"),
    ],
)
def test_wrong_use_is_one_sentence(command, words, sentence):
    result = command(*words)
    assert result.exit_code == 2
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1
    assert re.search(sentence, lines[0]), lines[0]
    assert not Path("mine").exists()


def test_another_capture_is_refused_in_its_workspace(command):
    shutil.copytree("toy", "other")
    result = command("nerf", "other", "-o", "work")
    assert result.exit_code == 2 and "is the workspace of another capture" in result.stderr
