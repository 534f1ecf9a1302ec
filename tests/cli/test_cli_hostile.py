"""What nobody means to type, signals at any moment, settings of any size: one line, and the right code."""

import dataclasses
import os
import signal
import time
from pathlib import Path

import pytest
from road_fakes import FakeRoad
from typer.testing import CliRunner

from sv3d_pipe.cli import app
from sv3d_pipe.config import Config
from sv3d_pipe.config_files import load_toml
from sv3d_pipe.errors import UserError
from sv3d_pipe.orbit.store.find import find_model
from sv3d_pipe.road.sources import workspace_for
from sv3d_pipe.road.workspace import FOLDERS, STAGES


def call(*args):
    return CliRunner().invoke(app, [str(arg) for arg in args])


@pytest.fixture
def fake(monkeypatch, tmp_path):
    """The fake road behind the command, in a folder with photo.png; ``fake.first`` is done in its nerf stage."""
    fake = FakeRoad()
    fake.first = lambda: None

    def work(road, context):
        fake.first()
        return fake.stages[2].work(road, context)

    stages = tuple(dataclasses.replace(s, work=work) if s.name == "nerf" else s for s in fake.stages)
    monkeypatch.setattr("sv3d_pipe.pipeline.PHOTO_ROUTE", dataclasses.replace(fake.route, stages=stages))
    monkeypatch.setattr("sv3d_pipe.orbit.store.find.find_model", lambda name: tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photo.png").write_text("P")
    return fake


def told(result, code):
    """The one line of an error."""
    assert result.exit_code == code, result.output
    lines = result.stderr.splitlines()
    assert len(lines) == 1, lines
    return lines[0]


@pytest.mark.parametrize("seed", ["100000000000000000000000000", "-1", str(2**63)])
@pytest.mark.parametrize("verb", ["run", "batch", "prep", "render", "finetune-depth"])
def test_a_seed_that_no_generator_takes_is_named(fake, verb, seed):
    assert "--seed" in told(call(verb, "photo.png", "-o", "out", "--seed", seed), 2)
    assert not Path("out").exists()


def test_the_largest_seed_is_taken(fake):
    assert call("photo.png", "--seed", 2**63 - 1, "-q").exit_code == 0


@pytest.mark.parametrize("empty", [["-o", ""], ["--out", ""], ["--out="]])
@pytest.mark.parametrize("verb", ["run", "batch", "prep", "render"])
def test_an_empty_output_is_not_the_folder_one_is_in(fake, verb, empty):
    assert told(call(verb, "photo.png", *empty), 2).startswith("Error: -o needs the name of a folder")
    assert [path.name for path in Path().iterdir()] == ["photo.png"]


def test_an_output_that_is_a_file_is_named_and_stays(fake):
    Path("in").mkdir()
    Path("in/a.png").write_text("A")
    line = told(call("photo.png", "-q", "-o", "photo.png"), 2)
    assert line == "Error: Cannot write to photo.png (it is a file); choose another folder with -o."
    assert (
        told(call("batch", "in", "-o", "photo.png"), 2)
        == "Error: photo.png is a file; choose a folder with -o."
    )
    assert "photo.png" in told(call("render", "in", "-o", "photo.png", "--procedural", "1"), 2)
    assert Path("photo.png").read_text() == "P"


def test_the_home_of_an_unknown_user_is_a_plain_path(monkeypatch):
    with pytest.raises(UserError, match="There is no orbit model '~nosuchuser/model'"):
        find_model("~nosuchuser/model")
    monkeypatch.setenv("IMG2MESH_CACHE", "~nosuchuser")
    with pytest.raises(UserError, match="sv3d-u is not here yet"):
        find_model("sv3d-u")


def test_a_photo_that_links_to_itself_is_one_sentence(fake, tmp_path):
    (tmp_path / "loop.png").symlink_to("loop.png")
    assert "loop.png" in told(call("loop.png", "-q"), 2)


@pytest.mark.parametrize("name", ["batch.json", "run.json", "error.log", *FOLDERS.values()])
def test_photos_named_like_files_of_a_batch_get_other_workspaces(fake, tmp_path, name, forked):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / f"{name}.png").write_text("A")
    assert workspace_for(tmp_path / "in" / f"{name}.png", tmp_path / "many").name == f"{name}-png"
    assert call("batch", "in", "-o", "many", "-q").exit_code == 0
    assert (tmp_path / "many" / "batch.json").is_file()
    assert (tmp_path / "many" / f"{name}-png" / "5-export" / "mesh.glb").read_text().startswith("export(")


TOMLS = {
    "[nerf]\nsteps = 1e400\n": "nerf.steps must be a whole number, not inf",
    f"[nerf]\nsteps = {'9' * 5000}\n": "is not valid TOML",
    f"[nerf]\nsteps = 0x{'f' * 5000}\n": "nerf.steps must be a whole number, not an enormous value",
    f"[nerf]\nsteps = [0x{'f' * 5000}]\n": "nerf.steps must be a whole number, not an enormous value",
    f"[prep]\nmatte = 0x{'f' * 5000}\n": "prep.matte must be one of",
    f"[refine]\nsds = 0x{'f' * 5000}\n": "refine.sds must be one of",
    f"[export]\nformat = 0x{'f' * 5000}\n": "export.format must be text",
    f"[export]\nwatertight = 0x{'f' * 5000}\n": "export.watertight must be true or false",
    f"[orbit]\nazimuths = 0x{'f' * 5000}\n": "orbit.azimuths must be text",
    f"[prep]\nfill = {'1' * 400}\n": "prep.fill must be a number",
    f"a = {'[' * 50_000}{']' * 50_000}\n": "is nested too deeply",
    f"a = {'{a = ' * 50_000}1{'}' * 50_000}\n": "is nested too deeply",
    f"[{'a.' * 3000}b]\n": "There is no option",
    "[nerf]\nsteps = 2026-01-01\n": "nerf.steps must be a whole number",
    "[nerf]\nsteps = {a = 1}\n": "nerf.steps must be a whole number",
    "nerf = 3\n": "must be a table",
    "\x00": "is not valid TOML",
    "\udcff": "is not a text in UTF-8",
}


@pytest.mark.parametrize(("text", "sentence"), TOMLS.items(), ids=range(len(TOMLS)))
def test_settings_of_any_size_and_shape_are_one_sentence(tmp_path, monkeypatch, text, sentence):
    monkeypatch.chdir(tmp_path)
    Path("my.toml").write_bytes(text.encode("utf-8", "surrogateescape"))
    line = told(call("config", "--config", "my.toml"), 2)
    assert sentence in line and len(line) < 320


def test_toml_of_windows_is_read(tmp_path):
    (tmp_path / "my.toml").write_bytes(b"\xef\xbb\xbf[nerf]\r\nsteps = 7\r\n")
    assert Config().replace(load_toml(tmp_path / "my.toml")).nerf.steps == 7
    os.mkfifo(tmp_path / "pipe.toml")
    with pytest.raises(UserError, match="regular file"):
        load_toml(tmp_path / "pipe.toml")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("becomes", [None, ImportError("the C extensions failed"), SystemError("x")])
def test_signals_say_one_line_at_any_moment_and_the_run_can_be_gone_on_with(fake, number, code, becomes):
    before = signal.getsignal(number)

    def first():
        try:
            os.kill(os.getpid(), number)
            time.sleep(5)
        except KeyboardInterrupt:  # as imports of C extensions do
            raise becomes or KeyboardInterrupt from None

    fake.first = first
    line = told(call("photo.png", "-q"), code)
    assert line.startswith("Stopped. ") and "un the same command again to continue." in line
    assert signal.getsignal(number) is before
    fake.first = lambda: None
    fake.worked.clear()
    assert call("photo.png", "-q").exit_code == 0 and fake.worked == STAGES[2:]
