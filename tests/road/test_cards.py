"""A batch on several cards, made up: one process per card, deaths that cost one photo, the meshes of one process."""

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import card_work
import psutil
import pytest
from test_end_to_end import files
from typer.testing import CliRunner

from sv3d_pipe.cli import app
from sv3d_pipe.device import visible_cards
from sv3d_pipe.road.batch import run_batch, summarize
from sv3d_pipe.road.report import Reporter

WORDS = {"a": "ok", "b": "die", "c": "bad", "d": "ok", "e": "die once", "f": "ok", "g": "ok"}
TINY = (
    "orbit.steps=1 nerf.steps=20 nerf.samples=4096 nerf.levels=6 nerf.surface=48 refine.steps=4 refine.grid=16"
    " refine.render=64 refine.sds=false export.faces=500 export.texture=64 export.turntable=false"
)


class Told(Reporter):
    """Keeps what it is told."""

    def __init__(self):
        self.lines = []

    def warn(self, stage, sentence):
        self.lines.append(f"{stage}: {sentence}")

    def say(self, sentence):
        self.lines.append(sentence)


def put(folder: Path, words: dict[str, str]) -> Path:
    folder.mkdir()
    for name, word in words.items():
        (folder / f"{name}.png").write_text(word)
    return folder


@pytest.fixture(scope="module")
def batch(tmp_path_factory):
    """Seven photos on two cards and four cores: the folder, the items, what was told."""
    folder, told = tmp_path_factory.mktemp("cards"), Told()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torch.cuda.device_count", lambda: 2)
        patch.setattr("sv3d_pipe.road.batch.usable_cores", lambda: 4)
        patch.setenv("CUDA_VISIBLE_DEVICES", "5,GPU-8932f937")
        patch.chdir(folder)
        items = run_batch(card_work.make, told, put(folder / "in", WORDS), Path("out"))
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "5,GPU-8932f937"
    return folder, items, told.lines


def test_every_worker_sees_its_own_card_and_its_share_of_the_threads(batch):
    _, items, _ = batch
    seen = [item.result.stages[0].record.metrics for item in items if item.status == "done"]
    assert {one["card"] for one in seen} == {"5", "GPU-8932f937"}
    torch_at_most = min(2, os.cpu_count())  # it starts no more than there are cores
    assert {(*one["threads"], one["openblas"]) for one in seen} == {(torch_at_most, 2, 2, "2")}
    assert os.getpid() not in {one["pid"] for one in seen}


def test_deaths_and_errors_cost_only_their_photo(batch):
    folder, items, _ = batch
    tries = {name: (folder / "in" / f"{name}.tries").read_text().split() for name in WORDS}
    assert {name: len(pids) for name, pids in tries.items()} == dict.fromkeys(WORDS, 1) | {"b": 2, "e": 2}
    assert all(len(set(tries[name])) == 2 for name in "be"), "not tried again in a fresh process"
    errors = {item.photo.stem: item.error for item in items if item.status == "failed"}
    assert set(errors) == {"b", "c"} and errors["c"].endswith("c.png is not a picture.")
    assert "died twice" in errors["b"] and "smaller settings" in errors["b"]


def test_the_summary_is_that_of_one_process(batch):
    folder, items, lines = batch
    assert [item.photo.as_posix() for item in items] == [f"{name}.png" for name in WORDS]
    assert json.loads((folder / "out" / "batch.json").read_text()) == summarize(items)
    assert {item.result.workspace for item in items if item.result} == {Path("out", name) for name in "adefg"}
    numbers = [line.partition("]")[0] for line in lines if line.startswith("[")]
    assert numbers == [f"[{number}/7" for number in range(1, 8)] and lines.count("prep: ok!") == 4


@pytest.mark.parametrize(("device", "cards"), [("auto", 1), ("auto", 0), ("cuda:1", 2), ("cpu", 2)])
def test_one_card_or_a_named_device_is_this_process(tmp_path, monkeypatch, device, cards):
    monkeypatch.setattr("torch.cuda.device_count", lambda: cards)
    make = partial(card_work.Surroundings, device)
    items = run_batch(make, Reporter(), put(tmp_path / "in", {"a": "ok", "b": "ok"}), tmp_path / "out")
    assert {item.result.stages[0].record.metrics["pid"] for item in items} == {os.getpid()}


@pytest.mark.parametrize(
    ("named", "count", "cards"),
    [(None, 2, ["0", "1"]), ("3, 1", 2, ["3", "1"]), ("2,-1,0", 1, ["2"]), ("", 0, []), (None, 0, [])],
)
def test_cards_are_those_that_the_user_made_visible(monkeypatch, named, count, cards):
    monkeypatch.setattr("torch.cuda.device_count", lambda: count)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if named is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    assert visible_cards() == cards


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_workers_end_with_the_batch_and_what_is_done_is_kept(tmp_path, how):
    """Ctrl-C reaches the whole group, as in a terminal; SIGKILL only the parent."""
    put(tmp_path / "in", {"a": "ok", "b": "sleep", "c": "sleep"})
    command = [sys.executable, card_work.__file__, tmp_path / "in", tmp_path / "out"]
    run = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    while not all((tmp_path / "in" / f"{name}.tries").exists() for name in "bc"):
        assert run.poll() is None, run.stderr.read()
        time.sleep(0.02)
    workers = psutil.Process(run.pid).children(recursive=True)
    assert len(workers) >= 2
    (os.killpg if how == signal.SIGINT else os.kill)(run.pid, how)
    assert run.wait(timeout=20) == -how
    _, alive = psutil.wait_procs(workers, timeout=20)
    assert not alive, "workers outlived the batch"
    assert "Traceback" not in run.stderr.read().replace(
        "Traceback", "", how == signal.SIGINT
    )  # the script's own
    assert [item["photo"] for item in json.loads((tmp_path / "out" / "batch.json").read_text())["items"]] == [
        "a.png"
    ]


def test_the_command_makes_the_meshes_of_one_process(tmp_path, monkeypatch):
    import numba
    import numpy as np
    import torch
    from PIL import Image

    (tmp_path / "in").mkdir()
    for name, shape in (("a.jpg", (300, 200)), ("a.png", (160, 280))):
        picture = np.full((400, 400, 3), 230, np.uint8)
        picture[60 : 60 + shape[0], 60 : 60 + shape[1]] = (200, 60, 30)
        Image.fromarray(picture).save(tmp_path / "in" / name)
    settings = [word for setting in TINY.split() for word in ("--set", setting)]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("sv3d_pipe.road.batch.usable_cores", lambda: 2)

    def batch(out: str, *more: str) -> dict:
        result = CliRunner().invoke(app, ["batch", "in", "-o", out, "--json", "-q", *settings, *more])
        assert result.exit_code == 0, result.output
        return {item["photo"]: item for item in json.loads(result.stdout)["items"]}

    on_cards = batch("cards")
    threads = torch.get_num_threads(), numba.get_num_threads()
    torch.set_num_threads(1), numba.set_num_threads(1)  # sums depend on how many share them
    try:
        here = batch("here", "--device", "cpu")
    finally:
        torch.set_num_threads(threads[0]), numba.set_num_threads(threads[1])
    assert [Path(item["mesh"]).parts[1] for item in on_cards.values()] == ["a", "a-png"]
    for photo, item in on_cards.items():
        made = files(Path(item["workspace"]))
        assert "5-export/mesh.glb" in made and made == files(Path(here[photo]["workspace"]))
