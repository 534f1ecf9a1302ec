import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest
import trimesh
import typer
from fatal_work import touch_or_die
from typer.testing import CliRunner

from sv3d_pipe.cli.render_command import render
from sv3d_pipe.dataset.collect import collect
from sv3d_pipe.dataset.engine import DataSet, render_data_set
from sv3d_pipe.dataset.orbit_set import OrbitSet
from sv3d_pipe.dataset.shoot import Shoot
from sv3d_pipe.errors import UserError
from sv3d_pipe.road.workers import each

LOOK = Shoot(size=16, views=3)
OBJECTS = 10
SCRIPT = f"""
import sys
from pathlib import Path
from sv3d_pipe.dataset.collect import collect
from sv3d_pipe.dataset.engine import DataSet, render_data_set
from sv3d_pipe.dataset.photograph import Shoot
if __name__ == "__main__":
    jobs = collect(Path(sys.argv[2]), {OBJECTS}, 1, 0)
    data = DataSet(Path(sys.argv[1]), jobs, Shoot(size=16, views=3), 0, per_shard=4)
    render_data_set(data, workers=int(sys.argv[3]))
"""


@pytest.fixture(scope="module")
def meshes(tmp_path_factory) -> Path:
    """Three good meshes and three bad ones, in sub-folders."""
    folder = tmp_path_factory.mktemp("meshes")
    (folder / "toys").mkdir()
    trimesh.creation.box((1, 2, 3)).export(folder / "toys" / "box.v1.ply")
    trimesh.creation.icosphere(subdivisions=2).export(folder / "toys" / "ball.stl")
    trimesh.creation.cone(1, 2).export(folder / "cone.obj")
    (folder / "broken.glb").write_text("not a mesh")
    (folder / "character.fbx").write_text("an FBX file")
    (folder / "points.ply").write_text(
        "ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nproperty float y\nproperty float z\nend_header\n0 0 0\n"
    )
    return folder


def data_set(folder: Path, meshes: Path | None, **look) -> DataSet:
    return DataSet(folder, collect(meshes, OBJECTS, 1, 0), replace(LOOK, **look), 0, per_shard=4)


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, meshes) -> dict[str, bytes]:
    """The files of a data set rendered in one go by one process."""
    folder = tmp_path_factory.mktemp("unbroken")
    render_data_set(data_set(folder, meshes))
    return files(folder)


def kill_when(folder: Path, meshes: Path, workers: int, is_time) -> None:
    """Start a run in a process of its own and kill it, SIGKILL, as soon as ``is_time`` says so."""
    path = tmp_script(folder)
    run = subprocess.Popen([sys.executable, path, folder, meshes, str(workers)])
    children: list[psutil.Process] = []
    while not is_time():
        assert run.poll() is None, "the run was over before it could be killed"
        time.sleep(0.002)
    children = psutil.Process(run.pid).children(recursive=True)
    os.kill(run.pid, signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL
    _, alive = psutil.wait_procs(children, timeout=20)
    assert not alive, "workers outlived the process that started them"


def tmp_script(folder: Path) -> Path:
    path = folder.with_suffix(".py")
    path.write_text(SCRIPT)
    return path


def test_a_run_killed_twice_gives_the_bytes_of_an_unbroken_one(tmp_path, meshes, unbroken):
    folder = tmp_path / "data"
    kill_when(folder, meshes, 2, lambda: len(list(folder.glob("unfinished/*.s*"))) >= 2)
    assert not (folder / "manifest.json").exists()
    before = {path.name for path in folder.glob("*.tar")}
    kill_when(folder, meshes, 1, lambda: {path.name for path in folder.glob("*.tar")} > before)
    assert not (folder / "manifest.json").exists()
    render_data_set(data_set(folder, meshes))
    assert files(folder) == unbroken


def test_a_data_set_that_does_not_know_of_a_setting_was_begun_with_its_default(tmp_path, meshes):
    data = data_set(tmp_path / "data", meshes)
    before = render_data_set(data)
    plan = data.plan()
    del plan["stretch"]
    (data.folder / "render.json").write_text(json.dumps(plan))
    assert render_data_set(data) == before
    with pytest.raises(UserError, match="stretch"):
        render_data_set(data_set(data.folder, meshes, stretch=1.5))


def test_stretched_objects_have_other_proportions_within_the_factor(tmp_path, meshes):
    render_data_set(data_set(tmp_path / "plain", meshes))
    render_data_set(data_set(tmp_path / "stretched", meshes, stretch=2.0))
    plain, stretched = (OrbitSet(tmp_path / name) for name in ("plain", "stretched"))
    ratios = np.concatenate([stretched[i].depth / plain[i].depth for i in range(len(plain))])
    assert len(plain) == len(stretched) and 1 / 2.01 < ratios.min() < 0.8 < 1.25 < ratios.max() < 2.01


def test_bad_meshes_are_listed_with_a_sentence_and_skipped(unbroken):
    manifest = json.loads(unbroken["manifest.json"])
    reasons = {skipped["name"]: skipped["reason"] for skipped in manifest["skipped"]}
    assert set(reasons) == {"broken", "character", "points"}
    assert "broken.glb" in reasons["broken"] and "/" not in reasons["points"]
    assert "--renderer blender" in reasons["character"]
    assert manifest["rendered"] == 3 + OBJECTS and manifest["views_in_all"] == 3 * (3 + OBJECTS)
    assert [shard["objects"] for shard in manifest["shards"]] == [1, 4, 4, 4]


def test_what_kills_its_process_is_given_up_and_the_rest_is_done(tmp_path):
    given_up: list[int] = []
    done = list(each([0, 1, 2, 3, 4], partial(touch_or_die, tmp_path), given_up.append, [{}, {}]))
    assert given_up == [2] and sorted(job for job, _ in done) == [0, 1, 2, 3, 4]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1", "3", "4"]


def test_names_follow_paths_and_never_clash(tmp_path):
    for name in ("a/b.obj", "a__b.obj", "a/b.ply", "c.d.stl", "e f.glb"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    names = [job.name for job in collect(tmp_path, 1, 1, 7)]
    assert names == ["a__b", "a__b-2", "a__b-3", "c_d", "e_f", "procedural_7_000000"]
    twice = collect(tmp_path, 0, 2, 7)
    assert [job.name for job in twice[:2]] == ["a__b--0", "a__b--1"] and twice[0].seed != twice[1].seed


def test_a_finished_data_set_is_checked_and_a_damaged_shard_made_again(tmp_path, meshes, unbroken):
    for name, content in unbroken.items():
        (tmp_path / name).write_bytes(content)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.tar")}
    (tmp_path / "00001.tar").write_bytes(unbroken["00001.tar"][:-2000] + bytes(2000))
    counts = []
    render_data_set(data_set(tmp_path, meshes), on_object=counts.append)
    assert files(tmp_path) == unbroken
    assert counts == [12, 1, 1, 1, 1]
    untouched = [path for path, stamp in times.items() if path.stat().st_mtime_ns == stamp]
    assert len(untouched) == 3


def test_interrupted_by_the_keyboard_nothing_is_lost(tmp_path, meshes, unbroken):
    done = []

    def stop_after_five(count):
        done.append(count)
        if sum(done) == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        render_data_set(data_set(tmp_path, meshes), on_object=stop_after_five)
    counts = []
    render_data_set(data_set(tmp_path, meshes), on_object=counts.append)
    assert counts[0] == 5
    assert files(tmp_path) == unbroken


def test_other_settings_or_objects_ask_for_another_folder(tmp_path, meshes):
    folder = tmp_path / "data"
    render_data_set(data_set(folder, None))
    with pytest.raises(UserError, match="views: 3, now 4"):
        render_data_set(data_set(folder, None, views=4))
    with pytest.raises(UserError, match="objects: 10, now 16"):
        render_data_set(data_set(folder, meshes))


def test_two_processes_do_not_render_into_one_folder(tmp_path):
    from filelock import FileLock

    with FileLock(tmp_path / ".lock"):
        with pytest.raises(UserError, match="Another process"):
            render_data_set(data_set(tmp_path, None))


def test_when_nothing_can_be_rendered_the_first_reason_is_said(tmp_path, meshes):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "broken.glb").write_text("not a mesh")
    data = DataSet(tmp_path / "data", collect(tmp_path / "bad", 0, 1, 0), LOOK, 0)
    with pytest.raises(UserError, match="Not one of 1 objects.*broken.glb"):
        render_data_set(data)


@pytest.mark.parametrize(
    "choice",
    [
        {"orbit": "random"},
        {"distance": "sphere"},
        {"lighting": "none"},
        {"textures": "keep"},
        {"background": "white"},
    ],
)
def test_every_choice_changes_what_it_says(tmp_path, meshes, choice):
    """One mesh with and without the choice: the other random streams stay."""
    (tmp_path / "one").mkdir()
    trimesh.load(meshes / "cone.obj").export(tmp_path / "one" / "cone.obj")
    records = []
    for number, look in enumerate((LOOK, replace(LOOK, **choice))):
        jobs = collect(tmp_path / "one", 0, 1, 1)
        render_data_set(DataSet(tmp_path / f"{number}", jobs, look, 1))
        records.append(OrbitSet(tmp_path / f"{number}")[0])
    a, b = records
    same_views = (a.rgba == b.rgba).all().item()
    same_path = (a.elevation_deg == b.elevation_deg).all().item()
    key = next(iter(choice))
    assert same_views == (key == "background")
    assert same_path == (key != "orbit")
    assert (a.background == b.background) == (key != "background")
    assert (a.radius == b.radius) == (key not in ("distance", "orbit"))


def test_the_command_makes_a_data_set_and_says_what_was_skipped(tmp_path, meshes):
    app = typer.Typer()
    app.command()(render)
    arguments = [str(meshes), "--procedural", "1", "--size", "16", "--views", "2", "--orbit", "dynamic"]
    result = CliRunner().invoke(app, [*arguments, "--workers", "1", "-o", str(tmp_path / "data")])
    assert result.exit_code == 0, result.output
    assert "4 objects (0 textured), 8 views of 16 pixels in 1 shards; 3 skipped" in result.output
    assert "Skipped broken: " in result.output
    assert len(OrbitSet(tmp_path / "data")) == 4
