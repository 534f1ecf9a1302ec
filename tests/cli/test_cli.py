"""The command: verbs, options, exit codes, one line per error."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from road_fakes import FakeRoad
from typer.testing import CliRunner

from sv3d_pipe.cli import app
from sv3d_pipe.config import Config
from sv3d_pipe.config_files import load_toml
from sv3d_pipe.road.workspace import STAGES, Workspace


def call(*args):
    return CliRunner().invoke(app, [str(arg) for arg in args])


@pytest.fixture
def fake(monkeypatch, tmp_path):
    """The fake road behind the command, in a folder with photo.png."""
    fake = FakeRoad()
    monkeypatch.setattr("sv3d_pipe.pipeline.PHOTO_ROUTE", fake.route)
    monkeypatch.setattr("sv3d_pipe.orbit.store.find.find_model", lambda name: tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photo.png").write_text("P")
    return fake


def worked(fake):
    names = list(fake.worked)
    fake.worked.clear()
    return names


def settings(root="out/photo"):
    return Workspace(root).read_run()["config"]


def test_a_bare_path_is_run_and_the_mesh_is_all_of_stdout(fake, tmp_path):
    result = call("photo.png")
    assert result.exit_code == 0
    assert result.stdout == "out/photo/5-export/mesh.glb\n"
    assert (tmp_path / "out/photo/5-export/mesh.glb").exists()
    assert worked(fake) == list(STAGES)
    assert "orbit: warning: the orbit is odd" in result.stderr
    assert result.stderr.count("the orbit is odd") == 1
    for stage in STAGES:
        assert re.search(rf"^{stage}: \d+\.\d s", result.stderr, re.MULTILINE)
    assert "score 20 dB" in result.stderr and "peak memory" in result.stderr


def test_options_may_come_before_the_photo(fake):
    assert call("--seed", "3", "photo.png", "-q").exit_code == 0
    assert Workspace("out/photo").read_run()["seed"] == 3


def test_json_is_all_of_stdout_and_quiet_leaves_stderr_empty(fake):
    result = call("run", "photo.png", "--json", "--quiet")
    summary = json.loads(result.stdout)
    assert summary["mesh"] == "out/photo/5-export/mesh.glb" and result.stderr == ""
    assert [stage["skipped"] for stage in summary["stages"]] == [False] * 5
    again = call("run", "photo.png", "--json")
    assert [stage["skipped"] for stage in json.loads(again.stdout)["stages"]] == [True] * 5
    assert again.stderr.count("skipped, finished before") == 5


def test_settings_come_from_preset_file_set_and_options_in_this_order(fake, tmp_path):
    (tmp_path / "my.toml").write_text("[nerf]\nsteps = 11\nlevels = 7\n[export]\nfaces = 1000\n")
    result = call(
        "photo.png", "--preset", "quality", "--config", "my.toml", "--set", "nerf.steps=12",
        "--set", "export.faces=1100", "--faces", "1200", "--sds", "off", "--elevation-deg", "-5",
    )  # fmt: skip
    assert result.exit_code == 0
    known = settings()
    assert (known["nerf.steps"], known["nerf.levels"], known["export.faces"]) == (12, 7, 1200)
    assert known["refine.sds"] == "off" and known["orbit.elevation_deg"] == -5.0
    assert known["refine.steps"] == Config.preset("quality").refine.steps


def test_from_until_and_force(fake):
    assert call("photo.png", "--until", "orbit").stdout == "out/photo/2-orbit\n"
    assert worked(fake) == ["prep", "orbit"]
    call("photo.png")
    worked(fake)
    call("photo.png", "--from", "refine")
    assert worked(fake) == ["refine", "export"]
    call("photo.png", "--force")
    assert worked(fake) == list(STAGES)


def test_stage_verbs_remember_the_settings_of_the_last_run(fake):
    call("photo.png", "--set", "nerf.steps=50", "--set", "export.faces=900", "--seed", "5", "-o", "W")
    worked(fake)
    result = call("refine", "W", "--steps", "7")
    assert result.exit_code == 0 and result.stdout == "W/4-refine\n"
    assert "Continue with `img2mesh export W`." in result.stderr
    assert worked(fake) == ["refine"]
    call("refine", "W", "--steps", "7", "--until", "export")
    assert worked(fake) == ["export"]
    known = settings("W")
    assert (known["nerf.steps"], known["refine.steps"], known["export.faces"]) == (50, 7, 900)
    assert Workspace("W").read_run()["seed"] == 5
    call("export", "W")
    assert worked(fake) == []
    call("export", "W", "--force")
    assert worked(fake) == ["export"]


def test_stage_by_stage_is_the_same_as_a_run(fake):
    call("photo.png", "-o", "A")
    worked(fake)
    assert call("prep", "photo.png", "-o", "B").exit_code == 0
    for stage in STAGES[1:]:
        assert call(stage, "B").exit_code == 0
    assert worked(fake) == list(STAGES)
    for stage in STAGES:
        assert Workspace("A").record(stage).key == Workspace("B").record(stage).key
    assert call("prep", "B", "--fill", "0.5").stdout == "B/1-prep\n"
    assert worked(fake) == ["prep"] and settings("B")["prep.fill"] == 0.5


def test_a_stage_verb_cannot_change_earlier_stages(fake):
    call("photo.png", "-o", "W")
    result = call("refine", "W", "--set", "orbit.steps=3")
    assert_one_line(result, "orbit.steps belongs to an earlier stage")
    worked(fake)
    call("refine", "W", "--preset", "quality")
    assert worked(fake) == ["refine"]
    assert settings("W")["nerf.steps"] == Config().nerf.steps
    assert settings("W")["refine.steps"] == Config.preset("quality").refine.steps


def assert_one_line(result, sentence, code=2):
    assert result.exit_code == code, result.output
    assert sentence in result.stderr
    assert result.stderr.startswith("Error: ") and result.stderr.count("\n") == 1
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["missing.png"], "There is no file missing.png; check the path."),
        (["doctr"], "did you mean `img2mesh doctor`?"),
        (["finetune-deep"], "did you mean `img2mesh finetune-depth`?"),
        (["config", "out", "--preset", "draft"], "Give a workspace or --preset, not both."),
        (["photo.png", "photo.png"], "use `img2mesh batch FOLDER -o OUT`"),
        (["folder"], "use `img2mesh batch folder -o out`"),
        (["batch", "folder"], "There are no pictures in folder"),
        (["photo.png", "--preset", "best"], "choose one of draft, standard, quality"),
        (["photo.png", "--set", "nerf.stepz=3"], "Did you mean nerf.steps?"),
        (["photo.png", "--set", "nerf.steps"], "--set takes STAGE.NAME=VALUE"),
        (["photo.png", "--set", "prep.matte=magic"], "prep.matte must be one of"),
        (["photo.png", "--matte", "magic"], "magic"),
        (["photo.png", "--format", "usdx"], "export.format takes glb, obj, ply, stl"),
        (["photo.png", "--faces", "3"], "--faces"),
        (["photo.png", "--seed", "x"], "--seed"),
        (["photo.png", "--nonsense"], "--nonsense"),
        (["photo.png", "--until", "bake"], "bake"),
        (["photo.png", "--config", "no.toml"], "Cannot read the config file no.toml"),
        (["photo.png", "--device", "tpu"], "The device must be auto, cpu, cuda, cuda:N or mps"),
        (["photo.png", "--device", "cuda:99"], "There is no device cuda:99 here"),
        (["photo.png", "-o", "photo.png/x"], "choose another folder with -o"),
        (["refine", "folder"], "folder is not a workspace"),
        (["run"], "PHOTO"),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(fake, tmp_path, args, sentence):
    (tmp_path / "folder").mkdir()
    assert_one_line(call(*args), sentence)


def test_an_unknown_model_is_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photo.png").write_text("P")
    assert_one_line(call("photo.png", "--model", "sv4d"), "There is no orbit model 'sv4d'")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("name", "content"), [("text.png", "hello"), ("empty.png", "")])
def test_a_file_that_is_no_picture_is_one_line(tmp_path, monkeypatch, name, content):
    pytest.importorskip("sv3d_pipe.prep.frame")
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_text(content)
    assert_one_line(call("prep", name, "--quiet"), name)


def test_the_disk_saying_no_is_one_line(fake):
    import errno

    fake.fail["nerf"] = OSError(errno.ENOSPC, "No space left on device", "out/photo/x")
    result = call("photo.png", "--quiet")
    assert_one_line(result, "out/photo/x: No space left on device")


def test_a_crash_is_one_line_and_a_log(fake, tmp_path, monkeypatch):
    fake.fail["nerf"] = ZeroDivisionError("division\nby zero")
    assert_one_line(call("photo.png", "--quiet"), "the details are in out/photo/error.log", code=1)
    assert "ZeroDivisionError: division" in (tmp_path / "out/photo/error.log").read_text()
    fake.fail["nerf"] = ZeroDivisionError("division by zero")
    result = call("photo.png", "--quiet", "--debug")
    assert result.exit_code == 1 and "Traceback" in result.stderr


def test_ctrl_c_says_how_to_go_on(fake):
    fake.fail["nerf"] = KeyboardInterrupt()
    result = call("photo.png", "--quiet")
    assert result.exit_code == 130
    assert result.stderr == (
        "Stopped. What is finished is kept in out/photo; run the same command again to continue.\n"
    )
    worked(fake)
    assert call("photo.png").exit_code == 0
    assert worked(fake) == ["nerf", "refine", "export"]


def test_config_prints_toml_that_it_reads(fake, tmp_path):
    text = call("config", "--preset", "standard", "--set", "nerf.steps=5").stdout
    (tmp_path / "my.toml").write_text(text)
    expected = Config.preset("standard").replace({"nerf.steps": 5})
    assert Config().replace(load_toml(tmp_path / "my.toml")) == expected
    assert "# Training steps." in text
    assert json.loads(call("config", "--config", "my.toml", "--json").stdout) == expected.flat()
    call("photo.png", "--config", "my.toml")
    assert call("config", "out/photo").stdout == text


@pytest.mark.parametrize(
    "verb", [*STAGES, "run", "batch", "render", "finetune", "finetune-depth", "config", "doctor", "models"]
)
def test_every_verb_has_help(verb):
    result = call(verb, "--help")
    assert result.exit_code == 0 and "Usage: " in result.stdout


def test_stage_help_shows_every_setting():
    from dataclasses import fields

    text = call("refine", "--help").stdout
    for spec in fields(Config().refine):
        assert f"--{spec.name.replace('_', '-')}" in text
    assert "--sds" in text


def test_version_and_models():
    import sv3d_pipe

    assert call("--version").stdout == f"img2mesh {sv3d_pipe.__version__}\n"
    assert [model["name"] for model in json.loads(call("models", "list", "--json").stdout)][0] == "mini"
    assert "licence" in call("models", "list").stdout


def test_doctor_tells_backends_and_finds_what_is_missing(monkeypatch):
    found = json.loads(call("doctor", "--json").stdout)
    assert set(found["stages"]) == set(STAGES)
    assert found["packages"]["torch"] != "not installed"
    monkeypatch.setattr("sv3d_pipe.doctor.PACKAGES", ("torch", "no-such-package"))
    result = call("doctor")
    assert result.exit_code == 1 and "Problem: no-such-package is not installed" in result.stdout


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from typer.testing import CliRunner; from sv3d_pipe.cli import app;"
        "CliRunner().invoke(app, ['--help']); CliRunner().invoke(app, ['run', '--help']);"
        "print([m for m in ('torch', 'numpy', 'numba', 'cv2', 'trimesh', 'diffusers') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_the_installed_command_starts(tmp_path):
    command = Path(sys.executable).with_name("img2mesh")  # where pip puts it, on PATH or not
    if not command.exists():
        pytest.skip("img2mesh is not installed as a command here")
    done = subprocess.run([command, "--version"], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0 and done.stdout.startswith("img2mesh ")
    missing = subprocess.run([command, "missing.png"], capture_output=True, text=True, cwd=tmp_path)
    assert (
        missing.returncode == 2 and missing.stderr == "Error: There is no file missing.png; check the path.\n"
    )
