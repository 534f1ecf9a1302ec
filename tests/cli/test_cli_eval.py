"""``img2mesh eval``: the four verbs on small real meshes, with few steps."""

import json
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import trimesh
from PIL import Image
from typer.testing import CliRunner

from sv3d_pipe.cli import app
from sv3d_pipe.config import OrbitConfig
from sv3d_pipe.evaluate.protocol_a import protocol_a
from sv3d_pipe.evaluate.surface_samples import sample
from sv3d_pipe.evaluate.truth import Angles, ellipsoid, place
from sv3d_pipe.geometry.extent import stretched
from sv3d_pipe.pictures import load_png

FEW = (
    "--set", "nerf.steps=60", "--set", "nerf.samples=4096", "--set", "nerf.surface=48", "--set", "nerf.levels=6", "--set", "refine.steps=6",
    "--set", "refine.grid=24", "--set", "refine.render=48", "--set", "export.faces=800",
    "--set", "export.texture=128", "--size", "48", "--device", "cpu", "-q",
)  # fmt: skip


def call(*args):
    return CliRunner().invoke(app, ["eval", *map(str, args)])


@pytest.fixture(autouse=True)
def few_samples(monkeypatch):
    """5,000 points of a surface tell as much here as 100,000."""
    monkeypatch.setattr("sv3d_pipe.evaluate.scores.sample", partial(sample, count=5_000))


@pytest.fixture(scope="module")
def objects(tmp_path_factory):
    """Two colored solids as GLB files."""
    folder = tmp_path_factory.mktemp("objects")
    arm = trimesh.creation.box((0.2, 0.5, 0.2))
    arm.apply_translation((0.25, 0.3, 0.1))
    solids = {
        "toy_arm": trimesh.util.concatenate([trimesh.creation.box((0.8, 0.4, 0.4)), arm]),
        "toy_ball": trimesh.creation.icosphere(3, 0.5),
    }
    for name, solid in solids.items():
        middle = solid.triangles_center
        colors = np.clip((middle - middle.min(0)) / np.ptp(middle, axis=0) * 255, 0, 255)
        solid.visual = trimesh.visual.ColorVisuals(solid, face_colors=colors.astype(np.uint8))
        solid.export(folder / f"{name}.glb")
    return folder


def test_help_imports_nothing_heavy():
    code = (
        "import sys\nfrom sv3d_pipe.cli import app\n"
        "try: app(['eval', 'recon', '--help'])\nexcept SystemExit: pass\n"
        "print([m for m in ('torch', 'scipy', 'trimesh', 'cv2', 'numba') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]" and "--limit" in done.stdout


def test_mesh_on_a_turned_copy(objects, tmp_path):
    copy = trimesh.load(objects / "toy_arm.glb", force="mesh")
    copy.apply_transform(trimesh.transformations.rotation_matrix(np.pi / 2, (0, 1, 0)))
    copy.export(tmp_path / "turned.ply")
    out = tmp_path / "out"
    result = call("mesh", objects / "toy_arm.glb", tmp_path / "turned.ply", "-o", out, "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    scores, noise = document["scores"], document["noise"]
    assert scores["cd"] > 0.05 and scores["iou"] < 0.7  # protocol A does not turn
    assert scores["b_cd"] < 1.1 * noise["b_cd"] and scores["b_f0.1"] > 0.99  # protocol B does
    assert abs(scores["b_yaw_deg"]) == pytest.approx(90, abs=1)
    assert 0 < noise["cd"] < 0.006 and scores["watertight"] and scores["components"] == 2
    assert "noise floor" in result.stderr and "b_f0.1" in (out / "mesh.md").read_text()
    assert Image.open(out / "mesh.png").size[0] == 6 * 128
    assert json.loads((out / "mesh.json").read_text()) == document


def test_recon_scores_every_stage_and_goes_on(objects, tmp_path):
    out = tmp_path / "out"
    result = call("recon", objects, "--ids", "*_arm", "-o", out, *FEW)
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == str(out / "recon.json") and result.stderr == ""
    document = json.loads((out / "recon.json").read_text())
    assert [r["name"] for r in document["rows"]] == ["toy_arm"]
    for stage in ("nerf", "refine", "export"):
        known = document["summary"][stage]
        assert known["cd"]["mean"] < 0.05 and known["iou"]["mean"] > 0.6 and known["normals"]["n"] == 1
    assert document["summary"]["export"]["psnr"]["mean"] > 15
    assert 0 < document["summary"]["noise"]["cd"]["mean"] < document["summary"]["export"]["cd"]["mean"]
    assert document["settings"]["config"]["nerf.steps"] == 60
    assert (out / "toy_arm/mesh.glb").exists() and (out / "recon.png").exists()

    stamp = (out / "toy_arm/scores.json").stat().st_mtime_ns
    again = call("recon", objects, "--ids", "toy_a*", "-o", out, *FEW, "--json")
    assert json.loads(again.stdout)["rows"] == document["rows"]
    assert (out / "toy_arm/scores.json").stat().st_mtime_ns == stamp


def test_orbit_compares_with_two_baselines(objects, tmp_path):
    result = call("orbit", objects, "--limit", "1", "-o", tmp_path, "--device", "cpu")
    assert result.exit_code == 0, result.output
    document = json.loads((tmp_path / "orbit.json").read_text())
    row = document["rows"][0]
    assert len(row["frames"]["model_psnr"]) == 20 and row["photo_psnr"] == pytest.approx(
        np.mean(row["frames"]["photo_psnr"])
    )
    # The copied photo is a good guess next to the photo and a bad one at the side.
    near, away = np.argmin(row["frames"]["from_photo_deg"]), np.argmax(row["frames"]["from_photo_deg"])
    assert row["frames"]["from_photo_deg"][near] == pytest.approx(360 / 21, abs=0.01)
    assert row["frames"]["from_photo_deg"][away] == pytest.approx(3600 / 21, abs=0.01)
    assert "by elevation" in result.stderr and "by azimuth" in result.stderr
    assert set(document["summary"]) == {"model", "views", "photo", "ellipsoid"}


def test_photo_goes_the_whole_road_and_a_told_depth_reaches_its_end(objects, tmp_path):
    """The arm's box is 0.8 wide, 0.75 high with the arm, and 0.4 deep; an ellipsoid alone is as deep as wide."""
    few = (*FEW, "--set", "refine.sds=off", "--tell-depth")
    result = call("photo", objects, "--ids", "toy_arm", "-o", tmp_path, *few)
    assert result.exit_code == 0, result.output
    document = json.loads((tmp_path / "photo.json").read_text())
    assert document["summary"]["export"]["front_psnr"]["mean"] > 12 and "cd" in document["summary"]["refine"]
    assert (tmp_path / "photo.png").exists() and document["settings"]["tell_depth"] is True

    body = trimesh.load(tmp_path / "toy_arm/workspace/5-export/mesh.glb", force="mesh")
    width, height, depth = body.extents
    assert depth / max(width, height) == pytest.approx(0.5, abs=1e-3)
    camera = Angles.of(OrbitConfig(), seed=0).cameras()[-1]
    ball = ellipsoid(load_png(tmp_path / "toy_arm/photo.png"), camera)
    told = trimesh.Trimesh(stretched(ball.vertices, 0.5)[0], ball.faces)
    truth = place(objects / "toy_arm.glb")
    expected, unlike = (protocol_a(truth, guess)["iou"] for guess in (told, ball))
    assert document["rows"][0]["ellipsoid_iou"] == pytest.approx(expected, abs=0.01)
    assert abs(expected - unlike) > 0.05


def test_photo_from_a_corner_with_one_from_behind(objects, tmp_path):
    few = (*FEW, "--set", "refine.sds=off", "--azimuths", "-45", "--views", "180", "--view-error", "5")
    result = call("photo", objects, "--ids", "toy_arm", "-o", tmp_path, *few)
    assert result.exit_code == 0, result.output
    document = json.loads((tmp_path / "photo.json").read_text())
    assert document["settings"]["views"] == [180] and document["settings"]["view_error_deg"] == 5
    (row,) = document["rows"]
    assert row["name"] == "toy_arm@-45" and row["azimuth_deg"] == -45 and row["export_cd"] > 0
    assert row["views"][0]["azimuth_deg"] == 180 and 0 < abs(row["views"][0]["error_deg"][0]) < 20
    folder = tmp_path / "toy_arm@-45"
    assert load_png(folder / "view_180.png").shape == (576, 576, 4)
    prepared = json.loads((folder / "workspace/1-prep/views.json").read_text())
    assert [(view["azimuth_deg"], view["elevation_deg"]) for view in prepared] == [(180, None)]
    assert (folder / "workspace/1-prep/views/1.png").exists()


def test_bad_input_is_one_sentence(objects, tmp_path):
    for args, words in (
        (("recon", tmp_path / "nowhere"), "There is no folder"),
        (("recon", tmp_path), "There are no meshes"),
        (("orbit", objects, "--ids", "gso_*"), "that match gso_*"),
        (("mesh", objects / "toy_arm.glb", tmp_path / "none.glb"), "none.glb"),
        (("recon", objects, "--set", "nerf.stepz=3"), "Did you mean nerf.steps"),
        (("photo", objects, "--azimuths", "left"), "--azimuths takes degrees"),
        (("photo", objects, "--views", "90;180"), "--views takes degrees"),
        (("photo", objects, "--view-error", "5"), "say with --views"),
    ):
        result = call(*args, "-o", tmp_path / "out")
        assert result.exit_code == 2 and words in result.stderr, result.output
        assert len(result.stderr.strip().splitlines()) == 1


def test_a_broken_object_is_named_and_the_others_are_measured(objects, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/broken.glb").write_text("not a mesh")
    (tmp_path / "in/fine.glb").write_bytes((objects / "toy_ball.glb").read_bytes())
    result = call("orbit", tmp_path / "in", "-o", tmp_path / "out", "--device", "cpu")
    assert result.exit_code == 3 and "1 of 2 objects failed: broken" in result.stderr
    document = json.loads((tmp_path / "out/orbit.json").read_text())
    assert document["failed"][0]["name"] == "broken" and document["rows"][0]["name"] == "fine"
