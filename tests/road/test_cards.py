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
import numpy as np
import psutil
import pytest
from card_balls import Balls
from PIL import Image
from test_end_to_end import files
from typer.testing import CliRunner

from sv3d_pipe.cli import app
from sv3d_pipe.device import visible_cards
from sv3d_pipe.road.batch import run_batch, summarize
from sv3d_pipe.road.report import Reporter
from sv3d_pipe.road.workers import with_threads

WORDS = {"a": "ok", "b": "die", "c": "bad", "d": "ok", "e": "die once", "f": "ok", "g": "ok"}


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
def test_one_card_or_a_named_device_is_one_process_beside_this(tmp_path, monkeypatch, device, cards):
    monkeypatch.setattr("torch.cuda.device_count", lambda: cards)
    make = partial(card_work.Surroundings, device)
    items = run_batch(make, Reporter(), put(tmp_path / "in", {"a": "ok", "b": "ok"}), tmp_path / "out")
    processes = {item.result.stages[0].record.metrics["pid"] for item in items}
    assert len(processes) == 1 and os.getpid() not in processes


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
    hears = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # as what is run in the background may not
    run = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, start_new_session=True, preexec_fn=hears
    )
    asleep = [tmp_path / "in" / f"{name}.tries" for name in "bc"]
    while not all(tries.exists() and tries.read_text().endswith("\n") for tries in asleep):
        assert run.poll() is None, run.stderr.read()
        time.sleep(0.02)
    children = psutil.Process(run.pid).children(recursive=True)
    assert {child.pid for child in children} >= {int(tries.read_text()) for tries in asleep}
    (os.killpg if how == signal.SIGINT else os.kill)(run.pid, how)
    assert run.wait(timeout=240) == -how
    _, alive = psutil.wait_procs(children, timeout=20)
    assert not alive, "workers outlived the batch"
    assert run.stderr.read().count("Traceback") == (how == signal.SIGINT), "more than the script's own"
    kept = json.loads((tmp_path / "out" / "batch.json").read_text())["items"]
    assert [item["photo"] for item in kept] == ["a.png"]


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    """Two cut-outs of one name, for two cards and two cores."""
    (tmp_path / "in").mkdir()
    for number, name in enumerate(("a.webp", "a.png")):
        picture = np.zeros((96, 96, 4), np.uint8)
        picture[10:80, 10 : 60 + 10 * number] = (200, 30 + 90 * number, 60, 255)
        Image.fromarray(picture).save(tmp_path / "in" / name, lossless=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("sv3d_pipe.road.batch.usable_cores", lambda: 2)
    return Path("in")


def test_the_meshes_are_those_of_one_process(pictures):
    def batch(device: str, out: Path) -> dict[str, dict[str, bytes]]:
        items = run_batch(partial(Balls, device), Reporter(), pictures, out)
        assert [item.error for item in items] == [None] * 2
        return {item.result.workspace.relative_to(out).name: files(item.result.workspace) for item in items}

    with pytest.MonkeyPatch.context() as patch:
        for name, value in with_threads(1).items():  # sums depend on how many share them
            patch.setenv(name, value)
        here = batch("cpu", Path("here"))
    assert all("5-export/mesh.glb" in made for made in here.values())
    assert len({made["5-export/mesh.glb"] for made in here.values()}) == 2
    assert batch("auto", Path("cards")) == here


def test_the_command_tells_of_every_photo_once(pictures):
    (pictures / "c.png").write_text("no picture")
    result = CliRunner().invoke(app, ["batch", "in", "-o", "out", "--until", "prep", "--json"])
    assert result.exit_code == 3, result.output
    summary = json.loads(result.stdout)
    assert (summary["done"], summary["failed"]) == (2, 1) and summary["items"][2]["photo"] == "c.png"
    told = [line for line in result.stderr.splitlines() if line.startswith("[")]
    assert sorted(line.split()[1] for line in told) == ["a.png", "a.webp", "c.png"]
    assert sum("done: " in line for line in told) == 2 and sum("c.png failed: " in line for line in told) == 1
    assert Path("out/a/1-prep/photo.png").exists() and Path("out/a-webp/1-prep/photo.png").exists()
