"""A disk that is full or may only be read: one sentence, nothing lost, and what is finished can still be had."""

import dataclasses
import errno
import json
import os
import resource
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from road_fakes import FakeRoad, Text
from safetensors.torch import save_file
from typer.testing import CliRunner

from sv3d_pipe.cli import app
from sv3d_pipe.errors import explain, is_foreseen
from sv3d_pipe.road.workspace import FREE_BYTES, STAGES, Workspace

LIMIT = 4096  # bytes that a file may have in the limited process; everything below writes more


def write_file(path):
    path.write_bytes(bytes(2 * LIMIT))


def write_array(path):
    np.save(path, np.zeros(LIMIT))


def write_safetensors(path):
    save_file({"a": torch.zeros(LIMIT)}, path)


def write_torch(path):
    torch.save({"a": torch.zeros(LIMIT)}, path)


def write_picture(path):
    from PIL import Image

    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(path, "PNG")


def write_mesh(path):
    import trimesh

    trimesh.creation.icosphere(3).export(path.with_suffix(".ply"))


WRITERS = (write_file, write_array, write_safetensors, write_torch, write_picture, write_mesh)


@pytest.mark.parametrize("write", WRITERS)
def test_whatever_library_writes_a_file_that_cannot_be_is_told_plainly(tmp_path, write):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, before[1]))
    try:
        with pytest.raises(Exception) as caught:
            write(tmp_path / "file")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert is_foreseen(caught.value), caught.value
    assert explain(caught.value, None).startswith("The system refused to read or write a file: ")


@pytest.fixture
def command(monkeypatch, tmp_path, forked):
    """The fake road behind the command, and what calls it; ``command.fake.broken`` is hit by ``command.fake.error``."""
    fake = FakeRoad()
    fake.broken = fake.error = None

    def work_of(stage):
        def work(road, context):
            artifact, metrics = stage.work(road, context)
            if fake.broken == (stage.name, "work"):
                raise fake.error
            return Fragile(artifact.text, fake, stage.name), metrics

        return work

    stages = tuple(dataclasses.replace(stage, work=work_of(stage)) for stage in fake.stages)
    monkeypatch.setattr("sv3d_pipe.pipeline.PHOTO_ROUTE", dataclasses.replace(fake.route, stages=stages))
    monkeypatch.setattr("sv3d_pipe.orbit.store.find.find_model", lambda name: tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photo.png").write_text("P")

    def call(*args):
        fake.worked.clear()
        return CliRunner().invoke(app, list(args))

    call.fake = fake
    return call


@dataclasses.dataclass
class Fragile(Text):
    fake: FakeRoad
    stage: str

    def save(self, folder):
        super().save(folder)
        if self.fake.broken == (self.stage, "save"):
            raise self.fake.error


@pytest.mark.parametrize("where", ["work", "save"])
@pytest.mark.parametrize("stage", STAGES)
def test_a_disk_that_fills_up_at_any_moment_is_one_sentence_and_can_be_gone_on_from(command, stage, where):
    assert command("photo.png", "-o", "whole").exit_code == 0
    command.fake.broken = (stage, where)
    command.fake.error = RuntimeError(
        "Error while serializing: I/O error: No space left on device (os error 28)"
    )
    result = command("photo.png", "-o", "W", "-q")
    told = (
        "No space left on device. Free some space and run the same command again; what is finished is kept."
    )
    assert result.exit_code == 2
    assert result.stderr == f"Error: The system refused to read or write a file: {told}\n"
    command.fake.broken = None
    assert command("photo.png", "-o", "W").exit_code == 0
    assert command.fake.worked == list(STAGES[STAGES.index(stage) :])
    for name in STAGES:
        mesh = Workspace(Path("W")).folder(name) / "mesh.glb"
        assert mesh.read_bytes() == (Path("whole") / mesh.relative_to("W")).read_bytes()


def tree(folder):
    return {
        path: (path.stat().st_mtime_ns, path.is_file() and path.read_bytes()) for path in folder.rglob("*")
    }


@pytest.fixture(params=[errno.ENOSPC, errno.EROFS])
def unwritable(request, monkeypatch):
    """Makes all folders ones that nothing can be written to: full, or read-only."""

    def no(*_, **__):
        raise OSError(request.param, os.strerror(request.param))

    def make():
        usage = shutil.disk_usage(".")._replace(free=0 if request.param == errno.ENOSPC else 2**40)
        monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
        monkeypatch.setattr("filelock.FileLock.acquire", no)
        for name in ("road.batch", "road.workspace"):
            monkeypatch.setattr(f"sv3d_pipe.{name}.write_atomically", no)

    return make


def test_what_is_finished_can_be_had_where_nothing_can_be_written(command, unwritable, tmp_path):
    assert command("photo.png").exit_code == 0
    assert command("batch", ".", "-o", "many").exit_code == 0
    before = tree(tmp_path)
    unwritable()
    result = command("photo.png")
    assert result.exit_code == 0 and result.stdout == "out/photo/5-export/mesh.glb\n"
    assert command("export", "out/photo").exit_code == 0
    result = command("batch", ".", "-o", "many", "--json")
    assert result.exit_code == 0 and json.loads(result.stdout)["skipped"] == 1
    assert "batch.json was not written (" in result.stderr
    assert command.fake.worked == [] and tree(tmp_path) == before
    result = command("photo.png", "--faces", "500")
    assert result.exit_code == 2 and "Cannot write to out/photo (" in result.stderr
    assert command.fake.worked == [] and tree(tmp_path) == before


def test_a_full_disk_is_told_before_a_stage_works(command, monkeypatch):
    assert command("photo.png", "--until", "orbit").exit_code == 0
    usage = shutil.disk_usage(".")._replace(free=FREE_BYTES - 1)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    result = command("photo.png")
    assert result.exit_code == 2 and "free at least 256 MB" in result.stderr and command.fake.worked == []
    assert command("photo.png", "--until", "orbit").exit_code == 0
    assert command("photo.png", "-o", "new").exit_code == 2 and not Path("new").exists()


def test_a_batch_on_a_disk_that_fills_up_keeps_what_is_finished(command, tmp_path):
    for name in "abc":
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / f"{name}.png").write_text(name)
    assert command("batch", "in", "--exclude", "[bc].png").exit_code == 0
    command.fake.broken, command.fake.error = (
        ("nerf", "save"),
        OSError(errno.ENOSPC, "No space left on device"),
    )
    result = command("batch", "in", "--json")
    items = {item["photo"]: item for item in json.loads(result.stdout)["items"]}
    assert [item["status"] for item in items.values()] == ["skipped", "failed", "failed"]
    assert "No space left on device" in items["b.png"]["error"]
    command.fake.broken = None
    assert command("batch", "in").exit_code == 0
    assert command.fake.worked == ["nerf", "refine", "export"] * 2


def test_an_error_that_cannot_be_logged_is_still_told(monkeypatch, tmp_path):
    def no(*_, **__):
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(tempfile, "NamedTemporaryFile", no)
    assert explain(ZeroDivisionError("x"), tmp_path / "gone").endswith("run it with --debug for the details.")
    with pytest.raises(FileNotFoundError) as caught:
        tempfile.NamedTemporaryFile()
    assert is_foreseen(caught.value)
