"""A folder of photos: all are tried, bad ones named, good ones kept."""

import dataclasses
import json
import multiprocessing
import os
import signal

import pytest
from road_fakes import FakeRoad
from typer.testing import CliRunner

from sv3d_pipe.cli import app


@pytest.fixture
def fake(monkeypatch, tmp_path, forked):
    """The fake road behind the command; the photo "bad" fails in it, "bug" crashes, "die" kills the process."""
    from sv3d_pipe.errors import UserError

    fake = FakeRoad()
    prep = fake.stages[0]

    def work(road, context):
        text = road.source.read_text()
        if text == "bad":
            raise UserError(f"{road.source} is not a picture.")
        if text == "bug":
            raise ZeroDivisionError("division by zero")
        if text == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        return prep.work(road, context)

    stages = (dataclasses.replace(prep, work=work), *fake.stages[1:])
    monkeypatch.setattr("sv3d_pipe.pipeline.PHOTO_ROUTE", dataclasses.replace(fake.route, stages=stages))
    monkeypatch.setattr("sv3d_pipe.orbit.store.find.find_model", lambda name: tmp_path)
    monkeypatch.chdir(tmp_path)
    return fake


def put(folder, **photos):
    for name, content in photos.items():
        path = folder / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def batch(*args):
    return CliRunner().invoke(app, ["batch", *map(str, args)])


def test_good_photos_are_kept_and_bad_ones_named(fake, tmp_path):
    put(tmp_path / "in", a_png="A", a_jpg="B", b_png="bad", deep__c_png="bug", notes_txt="no picture")
    result = batch("in", "-o", "out", "--json", "--device", "cpu")
    assert result.exit_code == 3
    summary = json.loads(result.stdout)
    assert summary == json.loads((tmp_path / "out" / "batch.json").read_text())
    assert (summary["photos"], summary["done"], summary["failed"]) == (4, 2, 2)
    by_photo = {item["photo"]: item for item in summary["items"]}
    assert by_photo["b.png"]["error"] == "in/b.png is not a picture."
    assert "ZeroDivisionError" in by_photo["deep/c.png"]["error"]
    assert "ZeroDivisionError" in (tmp_path / "out" / "deep" / "c" / "error.log").read_text()
    meshes = {by_photo[name]["mesh"] for name in ("a.png", "a.jpg")}
    assert meshes == {"out/a/5-export/mesh.glb", "out/a-png/5-export/mesh.glb"}
    assert "b.png failed: in/b.png is not a picture." in result.stderr and "Traceback" not in result.stderr


def test_a_second_batch_skips_what_is_finished(fake, tmp_path):
    put(tmp_path / "in", a_png="A", deep__a_png="B")
    assert batch("in", "-o", "in/out").exit_code == 0
    fake.worked.clear()
    put(tmp_path / "in", deep__b_png="C")
    result = batch("in", "-o", "in/out", "--json")
    assert result.exit_code == 0
    assert fake.worked == ["prep", "orbit", "nerf", "refine", "export"]
    statuses = {item["photo"]: item["status"] for item in json.loads(result.stdout)["items"]}
    assert statuses == {"a.png": "skipped", "deep/a.png": "skipped", "deep/b.png": "done"}
    assert (tmp_path / "in" / "out" / "deep" / "b" / "5-export" / "mesh.glb").exists()


def test_pictures_can_be_left_out(fake, tmp_path):
    put(tmp_path / "in", a_png="A", b_matte_png="B")
    result = batch("in", "--exclude", "*.matte.png", "--json", "-q")
    assert json.loads(result.stdout)["photos"] == 1 and result.stderr == ""


def test_ctrl_c_stops_with_a_sentence_and_keeps_what_is_done(fake, tmp_path, monkeypatch):
    put(tmp_path / "in", a_png="A")

    def stopped(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("sv3d_pipe.road.workers._Worker.answer", stopped)
        result = batch("in")
    assert result.exit_code == 130 and "run the same command again to continue" in result.stderr
    assert batch("in").exit_code == 0


def test_a_photo_that_kills_the_interpreter_is_named_and_the_rest_is_done(fake, tmp_path):
    put(tmp_path / "in", a_png="A", b_png="die", c_png="C", d_png="D")
    for again in (False, True):
        fake.worked.clear()
        result = batch("in", "--json")
        assert result.exit_code == 3
        items = {item["photo"]: item for item in json.loads(result.stdout)["items"]}
        kept = "skipped" if again else "done"
        assert [items[f"{name}.png"]["status"] for name in "abcd"] == [kept, "failed", kept, kept]
        assert items["b.png"]["error"].startswith("The process that worked on it died twice")
        assert len(fake.worked) == (0 if again else 15)
    put(tmp_path / "in", b_png="B")
    assert batch("in").exit_code == 0


def test_progress_is_that_of_the_stages(fake, tmp_path):
    put(tmp_path / "in", a_png="A", b_png="bad")
    lines = batch("in").stderr.splitlines()
    assert lines[0] == "[1/2] a.png" and lines[1].startswith("prep: 0.")
    assert "orbit: warning: the orbit is odd" in lines
    assert lines.index("[2/2] b.png") + 1 == lines.index("b.png failed: in/b.png is not a picture.")


@pytest.mark.parametrize(
    ("photos", "sentence"),
    [
        ({"notes_txt": "x"}, "There are no pictures in in;"),
        ({"a_png": "bad", "b_png": "bad"}, "a.png failed: in/a.png is not a picture."),
    ],
)
def test_nothing_usable_is_exit_code_2(fake, tmp_path, photos, sentence):
    put(tmp_path / "in", **photos)
    result = batch("in")
    assert result.exit_code == 2 and sentence in result.stderr


def test_a_missing_folder_is_told(fake):
    result = batch("nowhere")
    assert result.exit_code == 2 and "There is no folder nowhere" in result.stderr


def test_what_is_left_out_is_counted_and_named(fake, tmp_path):
    put(tmp_path / "in", a_png="A", b_heic="B", c_tga="C", d_AVIF="D", notes_txt="no picture")
    put(tmp_path / "elsewhere", e_png="E")
    (tmp_path / "in" / "link").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(tmp_path / "in" / "f.png")
    result = batch("in", "--json")
    assert [item["photo"] for item in json.loads(result.stdout)["items"]] == ["a.png", "d.AVIF"]
    assert "4 left out in in (" in result.stderr and ": b.heic, c.tga, f.png, link/" in result.stderr


def test_two_batches_on_one_folder_both_end_well(fake, tmp_path):
    put(tmp_path / "in", a_png="A", a_jpg="B", b_png="bad", deep__c_png="C", d_png="D")
    found = multiprocessing.get_context("fork").Queue()

    def work():
        result = batch("in", "--json", "-q")
        found.put((result.exit_code, json.loads(result.stdout)))

    processes = [multiprocessing.get_context("fork").Process(target=work) for _ in range(3)]
    for process in processes:
        process.start()
    answers = [found.get(timeout=120) for _ in processes]
    for process in processes:
        process.join()
    for code, summary in answers:
        assert code == 3 and (summary["photos"], summary["failed"]) == (5, 1)
        assert [item["error"] for item in summary["items"] if item["error"]] == ["in/b.png is not a picture."]
    assert json.loads((tmp_path / "out" / "batch.json").read_text()) in [summary for _, summary in answers]
    assert sum(item["status"] == "done" for _, summary in answers for item in summary["items"]) == 4
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "a",
        "a-png",
        "batch.json",
        "d",
        "deep",
    ]
