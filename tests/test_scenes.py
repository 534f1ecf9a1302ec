"""Several objects of one photo: each goes the road by itself, and a scene holds them all."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import trimesh
from PIL import Image
from road_fakes import FakeRoad
from typer.testing import CliRunner

from sv3d_pipe import pipeline
from sv3d_pipe.cli import app
from sv3d_pipe.config import Config
from sv3d_pipe.errors import UserError
from sv3d_pipe.export.asset import Asset
from sv3d_pipe.export.formats import encode_glb
from sv3d_pipe.pictures import read_focal_35mm
from sv3d_pipe.placing.build import Scene
from sv3d_pipe.prep import finding
from sv3d_pipe.road.report import Reporter
from sv3d_pipe.scenes import Image2Scene, finished_scene

LEFT, RIGHT = (60, 120, 160, 260), (250, 150, 350, 250)  # of a picture of 400 x 300


class Box:
    """An artifact of export: a box as wide and high as the object in the photo."""

    def __init__(self, alpha):
        height, width = (np.ptp(np.flatnonzero(alpha.any(axis))) for axis in (1, 0))
        mesh = trimesh.creation.box(np.array([width, height, width]) / max(width, height))
        vertices, faces = mesh.vertices.astype(np.float32), mesh.faces.astype(np.int64)
        uv, texture = np.zeros((len(vertices), 2), np.float32), np.full((4, 4, 3), 128, np.uint8)
        self.glb = encode_glb(Asset(vertices, faces, uv, texture, np.arange(len(vertices))))

    def save(self, folder):
        (folder / "mesh.glb").write_bytes(self.glb)


@pytest.fixture
def road(monkeypatch, tmp_path):
    """Real prep, and an export that needs nothing but its picture; the stages between only count their work.

    An object whose longer side has no 90 pixels fails in orbit.
    """
    fake = FakeRoad()
    prep = next(stage for stage in pipeline.PHOTO_ROUTE.stages if stage.name == "prep")

    def prepare(road, context):
        fake.worked.append("prep")
        return prep.work(road, context)

    def export(road, context):
        fake.worked.append("export")
        return Box(road.artifact("prep").rgba[..., 3] > 0.5), {"score_db": 20.0}

    def orbit(road, context):
        if road.workspace.record("prep").metrics["object_pixels"] < 90:
            raise UserError("It is too small.")
        fake.worked.append(f"orbit:{road.config.orbit.elevation_deg}")
        return fake_artifact, {"score_db": 20.0}

    fake_artifact = type("Nothing", (), {"save": lambda self, folder: (folder / "mesh.glb").write_text("")})()
    stages = [dataclasses.replace(stage, identity=lambda road: {}) for stage in fake.stages]
    works = {"orbit": orbit, "nerf": lambda *_: (fake_artifact, {}), "refine": lambda *_: (fake_artifact, {})}
    stages = [
        dataclasses.replace(prep, work=prepare),
        *(dataclasses.replace(stage, work=works[stage.name]) for stage in stages[1:4]),
        dataclasses.replace(stages[4], work=export),
    ]
    monkeypatch.setattr(
        "sv3d_pipe.pipeline.PHOTO_ROUTE", dataclasses.replace(fake.route, stages=tuple(stages))
    )
    monkeypatch.chdir(tmp_path)
    return fake


@pytest.fixture
def photo(tmp_path):
    rgba = np.zeros((300, 400, 4), np.uint8)
    for left, top, right, bottom in (LEFT, RIGHT):
        rgba[top:bottom, left:right] = (200, 100, 50, 255)
    Image.fromarray(rgba).save(tmp_path / "two.png")
    return tmp_path / "two.png"


def scenes(config=None):
    return Image2Scene(config, device="cpu", reporter=Reporter())


def run(*args):
    return CliRunner().invoke(app, ["run", *map(str, args), "--device", "cpu"])


def test_every_object_has_a_workspace_and_a_node(road, photo, tmp_path):
    result = scenes()(photo, tmp_path / "out")
    assert [run.name for run in result.objects] == ["object-1", "object-2"] and not result.failures
    assert result.mesh == tmp_path / "out" / "scene.glb"
    for name in ("object-1", "object-2"):
        assert (tmp_path / "out" / name / "5-export" / "mesh.glb").exists()
    scene = trimesh.load(result.mesh)
    assert sorted(scene.graph.nodes_geometry) == ["object-1", "object-2"]
    assert scene.extents.max() == pytest.approx(1, abs=1e-3)
    assert scene.bounds.sum(0) == pytest.approx(0, abs=1e-3)
    first, second = (scene.graph[name][0][:3, 3] for name in ("object-1", "object-2"))
    assert first[0] < second[0] and first[2] > second[2]  # lower in the photo: nearer


def test_the_record_says_how_well_the_scene_fits(road, photo, tmp_path):
    scenes()(photo, tmp_path / "out")
    record = finished_scene(tmp_path / "out")
    assert record.metrics["silhouette_iou"] > 0.85
    places = record.metrics["objects"]
    assert all(place["silhouette_iou"] > 0.85 and place["on_ground"] for place in places.values())
    scene = trimesh.load(tmp_path / "out" / "scene.glb")
    for name, place in places.items():
        assert scene.graph[name][0][:3, 3] == pytest.approx(place["position"], abs=1e-5)


def test_the_scene_has_the_camera_of_the_photo_and_no_other(road, photo, tmp_path):
    """The photo has 400 x 300 pixels; 33.8 degrees across the longer side are assumed."""
    scenes()(photo, tmp_path / "out")
    data = (tmp_path / "out" / "scene.glb").read_bytes()
    document = json.loads(data[20 : 20 + int.from_bytes(data[12:16], "little")])
    (camera,) = document["cameras"]
    assert [node["name"] for node in document["nodes"]] == ["object-1", "object-2", "photo"]
    assert document["scenes"][0]["nodes"] == [0, 1, 2] and document["nodes"][2]["camera"] == 0
    matrix = np.reshape(document["nodes"][2]["matrix"], (4, 4), order="F")
    assert np.allclose(matrix, finished_scene(tmp_path / "out").metrics["camera"]["c2w"])
    lens = camera["perspective"]
    assert lens["aspectRatio"] == pytest.approx(4 / 3)
    assert np.tan(lens["yfov"] / 2) == pytest.approx(np.tan(np.radians(33.8) / 2) * 3 / 4)


def test_each_object_is_told_from_where_the_camera_saw_it(road, photo, tmp_path):
    scenes()(photo, tmp_path / "out", until="orbit")
    elevations = [float(word.partition(":")[2]) for word in road.worked if word.startswith("orbit")]
    focal = 200 / np.tan(np.radians(33.8 / 2))
    lower = np.degrees(np.arctan((np.array([190, 200]) - 150) / focal))  # at the edges a little less
    assert elevations == pytest.approx(10 + lower, abs=0.6)
    assert not (tmp_path / "out" / "scene.glb").exists()


def test_a_second_run_skips_all_and_finds_nothing_anew(road, photo, tmp_path, monkeypatch):
    scenes()(photo, tmp_path / "out")
    before = (tmp_path / "out" / "scene.glb").read_bytes()
    road.worked.clear()
    monkeypatch.setattr(finding, "find_boxes", None)
    again = scenes()(photo, tmp_path / "out")
    assert list(road.worked) == [] and all(stage.skipped for stage in again.stages)
    assert (tmp_path / "out" / "scene.glb").read_bytes() == before


def test_an_interrupted_run_goes_on_where_it_was(road, photo, tmp_path):
    whole = scenes()(photo, tmp_path / "whole")
    road.worked.clear()

    class Stop(BaseException):
        pass

    class Reporting(Reporter):
        def finish(self, record):
            if record.stage == "prep" and len([word for word in road.worked if word == "prep"]) == 2:
                raise Stop

    with pytest.raises(Stop):
        Image2Scene(device="cpu", reporter=Reporting())(photo, tmp_path / "out")
    road.worked.clear()
    result = scenes()(photo, tmp_path / "out")
    assert [word.partition(":")[0] for word in road.worked] == ["orbit", "export"]
    assert result.mesh.read_bytes() == whole.mesh.read_bytes()


@pytest.mark.parametrize("harm", ["scene", "record", "object"])
def test_what_is_damaged_is_made_again(road, photo, tmp_path, harm):
    result = scenes()(photo, tmp_path / "out")
    right = result.mesh.read_bytes()
    if harm == "scene":
        result.mesh.write_bytes(b"no scene")
    elif harm == "record":
        (tmp_path / "out" / "scene.json").write_text("{}")
    else:
        shutil.rmtree(tmp_path / "out" / "object-2" / "5-export")
    road.worked.clear()
    again = scenes()(photo, tmp_path / "out")
    assert again.mesh.read_bytes() == right
    assert list(road.worked) == (["export"] if harm == "object" else [])
    assert again.stages[-1].skipped == (harm == "object")  # the same mesh came out


def test_one_object_fails(road, photo, tmp_path):
    result = run(
        photo,
        "-o",
        "out",
        "--objects",
        "each",
        "--box",
        "300,200,340,240",
        "--box",
        "40,100,180,280",
        "--json",
    )
    assert result.exit_code == 3
    summary = json.loads(result.stdout)
    assert [item["error"] for item in summary["objects"]] == ["It is too small.", None]
    assert summary["scene"]["metrics"]["silhouette_iou"] > 0.9
    assert list(trimesh.load(tmp_path / "out" / "scene.glb").graph.nodes_geometry) == ["object-2"]
    assert "object-1 failed: It is too small." in result.stderr


def test_all_objects_fail(road, photo, tmp_path):
    result = run(photo, "-o", "out", "--objects", "each", "--box", "300,200,340,240")
    assert result.exit_code == 2 and "object-1: It is too small." in result.stderr
    assert not (tmp_path / "out" / "scene.glb").exists()


def test_a_finder_says_which_objects_there_are(road, tmp_path, monkeypatch):
    colors = np.random.default_rng(0).integers(0, 255, (30, 40, 3), np.uint8)
    picture = colors.repeat(10, 0).repeat(10, 1)  # no plain background
    for left, top, right, bottom in (LEFT, RIGHT):
        picture[top:bottom, left:right] = (200, 100, 50)
    Image.fromarray(picture).save(tmp_path / "desk.png")

    def find(rgb):
        alpha = np.zeros(rgb.shape[:2], np.float32)
        left, top, right, bottom = RIGHT
        alpha[top:bottom, left:right] = 1
        return [alpha]

    monkeypatch.setattr(finding, "objects_in", find)
    result = scenes()(tmp_path / "desk.png", tmp_path / "out")
    (only,) = result.objects
    assert only.box == "248,148,352,252"
    record = only.result.stages[0].record
    assert record.metrics["matte"] == "net" and record.metrics["object_pixels"] == pytest.approx(100, abs=6)


def test_a_batch_of_scenes(road, photo, tmp_path, forked, monkeypatch):
    scene = Scene(b"a scene", {"silhouette_iou": 0.9}, [])  # what draws one does not survive the fork
    monkeypatch.setattr("sv3d_pipe.scenes.build", lambda *_: scene)
    (tmp_path / "in").mkdir()
    shutil.copy(photo, tmp_path / "in" / "two.png")
    small = np.array(Image.open(photo))
    small[150:250, 310:350] = 0
    small[230:250, 250:350] = 0
    Image.fromarray(small).save(tmp_path / "in" / "three.png")
    args = ["batch", "in", "-o", "out", "--objects", "each", "--device", "cpu"]
    result = CliRunner().invoke(app, args)
    assert result.exit_code == 3, result.stderr
    items = {
        item["photo"]: item for item in json.loads((tmp_path / "out" / "batch.json").read_text())["items"]
    }
    assert items["two.png"]["status"] == "done"
    assert (
        items["three.png"]["status"] == "partial"
        and "object-2: It is too small." == items["three.png"]["error"]
    )
    for stem in ("two", "three"):
        assert (tmp_path / "out" / stem / "scene.glb").exists()
    again = CliRunner().invoke(app, args)
    items = json.loads((tmp_path / "out" / "batch.json").read_text())
    assert again.exit_code == 3 and (items["skipped"], items["partial"]) == (1, 1)


@pytest.mark.parametrize(
    "args, words",
    [
        (["--box", "1,2,30,40", "--box", "50,60,70,80"], "add --objects each"),
        (["--objects", "each", "--point", "100,200"], "A point means one object"),
        (["--objects", "each", "--box", "1,2,3"], "four numbers"),
        (["--objects", "each", "--box", "1,2,3000,40"], "reaches outside of two.png"),
    ],
)
def test_errors(road, photo, tmp_path, args, words):
    result = run(photo, "-o", "out", *args)
    assert result.exit_code == 2 and words in result.stderr
    assert not (tmp_path / "out").exists()


def test_the_folder_of_another_photo_is_refused(road, photo, tmp_path):
    scenes()(photo, tmp_path / "out")
    shutil.copy(photo, tmp_path / "other.png")
    with pytest.raises(UserError, match="workspace of another photo"):
        scenes()(tmp_path / "other.png", tmp_path / "out")


def test_main_takes_one_box(road, photo, tmp_path):
    result = run(photo, "-o", "out", "--box", "240,140,360,260")
    assert result.exit_code == 0, result.stderr
    metrics = json.loads((tmp_path / "out" / "1-prep" / "stage.json").read_text())["metrics"]
    assert metrics["parts_kept"] == 1 and metrics["object_pixels"] == 100


def test_a_scene_needs_a_glb_of_each(road, photo, tmp_path):
    result = scenes(Config().replace({"export.format": "obj"}))(photo, tmp_path / "out")
    assert result.objects[0].result.stages[-1].record.config["format"] == "glb,obj"


def test_focal_lengths_are_read_from_exif(tmp_path):
    picture = Image.new("RGB", (64, 48))
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA405] = 26
    picture.save(tmp_path / "phone.jpg", exif=exif)
    picture.save(tmp_path / "plain.png")
    assert read_focal_35mm(tmp_path / "phone.jpg") == 26
    assert read_focal_35mm(tmp_path / "plain.png") is None
