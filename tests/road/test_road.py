"""Run, resume and skip, on five tiny stages."""

import dataclasses
import json
import multiprocessing
import os
import signal
import time

import pytest
from road_fakes import FakeRoad

from sv3d_pipe.config import Config
from sv3d_pipe.errors import Cancelled, UserError
from sv3d_pipe.pipeline import CAPTURE_ROUTE, PHOTO_ROUTE
from sv3d_pipe.road.context import Checkpoint
from sv3d_pipe.road.report import Reporter
from sv3d_pipe.road.run import Road, Route
from sv3d_pipe.road.sources import PHOTO
from sv3d_pipe.road.workspace import STAGES, Workspace

MESH = "export(orbit(P()),refine(P(),orbit(P()),nerf(orbit(P()))))"


@pytest.fixture
def fake():
    return FakeRoad()


@pytest.fixture
def go(fake, tmp_path):
    """Run the road on one photo; returns the names of the stages that worked."""
    photo = tmp_path / "photo.png"
    photo.write_text("P")

    def run(settings=None, seed=1, reporter=None, stages=None, cancelled=None, **how):
        fake.worked.clear()
        fake.loaded.clear()
        road = Road(
            Route(PHOTO, stages or fake.stages), Workspace(tmp_path / "out"), photo,
            Config().replace(settings or {}), seed, "cpu", reporter or Reporter(),
            cancelled or (lambda: False),
        )  # fmt: skip
        go.result = road.run(**how)
        return list(fake.worked)

    go = run
    run.photo = photo
    return run


def test_the_road_has_the_stages_in_the_order_of_the_workspace():
    assert tuple(stage.name for stage in PHOTO_ROUTE.stages) == STAGES
    for index, stage in enumerate(PHOTO_ROUTE.stages):
        assert set(stage.takes) <= set(STAGES[:index])


def test_a_capture_takes_the_place_of_prep_and_orbit():
    assert CAPTURE_ROUTE.names == ("capture", "nerf", "refine", "export")
    for mine, theirs in zip(CAPTURE_ROUTE.stages[1:], PHOTO_ROUTE.stages[2:]):
        assert (mine.name, mine.version, mine.work.func) == (theirs.name, theirs.version, theirs.work.func)
    for index, stage in enumerate(CAPTURE_ROUTE.stages):
        assert set(stage.takes) <= set(("capture", "nerf", "refine", "export")[:index])


def test_a_run_works_through_all_stages_with_artifacts_as_they_were_saved(go, fake):
    assert go() == list(STAGES)
    assert fake.loaded == ["prep", "orbit", "nerf", "refine"]  # each once
    assert go.result.mesh.read_text() == MESH
    assert [run.skipped for run in go.result.stages] == [False] * 5
    record = json.loads((go.result.workspace / "2-orbit" / "stage.json").read_text())
    assert record["warnings"] == ["the orbit is odd"]
    assert record["seed"] == 1 and record["device"] == "cpu" and record["peak_memory_mb"] > 1
    assert record["config"] == dataclasses.asdict(Config().orbit)
    assert record["upstream"] == {"prep": go.result.stages[0].record.fingerprint}
    assert json.loads(json.dumps(go.result.summary()))["stages"][4]["metrics"] == {"score_db": 20.0}


def test_a_finished_run_does_no_work_and_loads_nothing(go, fake):
    go()
    mesh = go.result.mesh
    before = {path: path.stat().st_mtime_ns for path in mesh.parent.parent.glob("*/*")}
    assert go() == [] and fake.loaded == []
    assert all(run.skipped for run in go.result.stages)
    assert go.result.mesh == mesh
    assert {path: path.stat().st_mtime_ns for path in mesh.parent.parent.glob("*/*")} == before


@pytest.mark.parametrize(
    ("change", "again"),
    [
        ({"export.faces": 5000}, ["export"]),
        ({"refine.steps": 7}, ["refine", "export"]),
        ({"nerf.steps": 7}, ["nerf", "refine", "export"]),
        ({"orbit.steps": 7}, ["orbit", "nerf", "refine", "export"]),
        ({"prep.fill": 0.5}, list(STAGES)),
    ],
)
def test_a_changed_setting_runs_its_stage_and_the_later_ones(go, change, again):
    go()
    first = go.result.summary()["stages"]
    assert go(change) == again
    for old, new in zip(first, go.result.summary()["stages"]):
        assert (old["key"] == new["key"]) == (new["stage"] not in again)


def test_seed_photo_model_and_version_change_the_keys(go, fake):
    go()
    assert go(seed=2) == list(STAGES)
    assert go(seed=2) == []
    fake.model = "other weights"
    assert go(seed=2) == ["orbit", "nerf", "refine", "export"]
    bumped = tuple(dataclasses.replace(s, version=2) if s.name == "nerf" else s for s in fake.stages)
    assert go(seed=2, stages=bumped) == ["nerf", "refine", "export"]
    go.photo.write_text("Q")
    assert go(seed=2) == list(STAGES)


def test_a_copy_of_the_photo_elsewhere_does_no_work(go, tmp_path):
    go()
    (tmp_path / "b").mkdir()
    go.photo.rename(tmp_path / "b" / "photo.png")
    go.photo.symlink_to(tmp_path / "b" / "photo.png")
    assert go() == []


def test_until_from_and_start(go, fake):
    assert go(until="orbit") == ["prep", "orbit"]
    assert go.result.mesh is None
    assert go() == ["nerf", "refine", "export"]
    assert fake.loaded == ["orbit", "prep", "nerf", "refine"]
    assert go(force_from="refine") == ["refine", "export"]
    assert sorted(fake.loaded) == ["nerf", "orbit", "prep", "refine"]
    # from `start` on, earlier stages are taken as they are, whatever the settings say of them
    assert go({"prep.fill": 0.5, "refine.steps": 7}, start="refine", until="refine") == ["refine"]
    with pytest.raises(UserError, match="prep comes before nerf"):
        go(start="nerf", until="prep")


def test_a_killed_run_goes_on_where_it_died(go, fake):
    fake.fail["nerf"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        go()
    assert go() == ["nerf", "refine", "export"]
    assert go.result.mesh.read_text() == MESH


def test_a_cancelled_run_ends_at_its_next_step_and_can_be_gone_on_with(go, fake):
    asked = []

    def cancelled():
        asked.append(True)
        return len(fake.worked) == 3  # nerf has begun

    with pytest.raises(Cancelled):
        go(cancelled=cancelled)
    assert fake.worked == ["prep", "orbit", "nerf"] and len(asked) > 3
    assert not (go.photo.parent / "out" / "3-nerf").exists()
    assert go() == ["nerf", "refine", "export"]
    assert go.result.mesh.read_text() == MESH


def test_a_damaged_stage_is_run_again_and_the_rest_kept(go):
    go()
    (go.result.workspace / "3-nerf" / "mesh.glb").write_text("rotten")
    said = []

    class Listener(Reporter):
        say = staticmethod(said.append)

    assert go(reporter=Listener()) == ["nerf"]
    assert said == ["The files of the nerf stage are damaged; running it again."]
    (go.result.workspace / "3-nerf" / "mesh.glb").unlink()
    with pytest.raises(UserError, match="The nerf stage of .* is damaged; run `img2mesh nerf"):
        go(start="refine")


def test_a_stage_that_was_never_run_is_named(go):
    go(until="orbit")
    with pytest.raises(UserError, match="The nerf stage of .* is missing; run `img2mesh nerf"):
        go(start="refine")


def test_the_workspace_of_another_photo_is_refused(go, fake, tmp_path):
    go()
    go.photo = None
    other = tmp_path / "other.png"
    other.write_text("O")
    road = Road(fake.route, Workspace(tmp_path / "out"), other, Config(), 1, "cpu", Reporter())
    with pytest.raises(UserError, match="is the workspace of another photo"):
        road.run()


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("CUDA out of memory. Tried to allocate 2 GB")])
def test_the_end_of_memory_is_told_plainly(go, fake, error):
    fake.fail["nerf"] = error
    with pytest.raises(UserError, match="The nerf stage ran out of memory on cpu"):
        go()


def test_other_errors_pass_and_warnings_are_shown_all_the_same(go, fake):
    shown = []

    class Listener(Reporter):
        def warn(self, stage, sentence):
            shown.append((stage, sentence))

    fake.fail["nerf"] = RuntimeError("shapes differ")
    with pytest.raises(RuntimeError, match="shapes differ"):
        go(reporter=Listener())
    assert shown == [("orbit", "the orbit is odd")]


def test_metrics_become_plain_json(go, fake):
    import numpy as np

    def work(road, context):
        artifact, _ = fake.stages[0].work(road, context)
        return artifact, {"a_db": np.float32(1.5), "n": np.int64(3), "list": np.ones(2), "bad": float("nan")}

    go(stages=(dataclasses.replace(fake.stages[0], work=work),), until="prep")
    assert go.result.stages[0].record.metrics == {"a_db": 1.5, "n": 3, "list": [1.0, 1.0], "bad": None}


def _slow_stage(fake, step_s=0.05):
    """nerf in 40 steps, with a checkpoint of the steps done."""
    import torch

    def work(road, context):
        context.checkpoint.every_s = 0
        saved = context.checkpoint.load()
        first = int(saved["step"]) if saved else 0
        for step in range(first, 40):
            context.checkpoint.save(lambda step=step: {"step": torch.tensor(step + 1)})
            time.sleep(step_s)
        artifact, _ = fake.stages[2].work(road, context)
        return artifact, {"first": first}

    return tuple(dataclasses.replace(s, work=work) if s.name == "nerf" else s for s in fake.stages)


def test_a_process_killed_inside_a_stage_resumes_from_its_checkpoint(go, fake, tmp_path):
    go(until="orbit")
    child = multiprocessing.get_context("fork").Process(target=go, kwargs={"stages": _slow_stage(fake)})
    child.start()
    deadline = time.monotonic() + 20
    while not list((tmp_path / "out").glob(".nerf-*.checkpoint")) and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.3)
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    assert go(stages=_slow_stage(fake, 0.0)) == ["nerf", "refine", "export"]
    assert go.result.stages[2].record.metrics["first"] > 0
    assert not list((tmp_path / "out").glob(".nerf-*"))
    assert go(stages=_slow_stage(fake, 0.0), force_from="nerf") == ["nerf", "refine", "export"]
    assert go.result.stages[2].record.metrics["first"] == 0


def test_a_damaged_checkpoint_counts_as_none(tmp_path):
    (tmp_path / "c").write_bytes(b"not a checkpoint")
    assert Checkpoint(tmp_path / "c").load() is None
    assert Checkpoint(tmp_path / "missing").load() is None


def test_a_photo_that_fails_leaves_no_folder(go, fake, tmp_path):
    def fail(road, context):
        raise UserError("This is no photo.")

    with pytest.raises(UserError):
        go(stages=(dataclasses.replace(fake.stages[0], work=fail), *fake.stages[1:]))
    assert not (tmp_path / "out").exists()
    assert go(until="orbit") == ["prep", "orbit"]
    with pytest.raises(UserError):
        go(stages=(dataclasses.replace(fake.stages[0], work=fail), *fake.stages[1:]), force_from="prep")
    assert (tmp_path / "out" / "2-orbit").is_dir()
