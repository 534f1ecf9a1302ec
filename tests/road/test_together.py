"""Several processes on one folder, folders of the user's, and links in the places of the store's own files."""

import dataclasses
import multiprocessing
import os
import random
import time
from pathlib import Path

import pytest
from road_fakes import FakeRoad
from test_damage import Listener, Place

from sv3d_pipe.config import Config
from sv3d_pipe.errors import UserError
from sv3d_pipe.files import write_atomically
from sv3d_pipe.road.context import Checkpoint
from sv3d_pipe.road.run import Road, Route
from sv3d_pipe.road.sources import PHOTO, workspace_for
from sv3d_pipe.road.workspace import STAGES, Workspace

FORK = multiprocessing.get_context("fork")


def bad_road(folder: Path, out: Path | None) -> str:
    """What a run on a photo says whose first stage finds that it is none."""
    fake = FakeRoad()

    def fail(road, context):
        time.sleep(random.uniform(0, 0.02))
        raise UserError("This is no photo.")

    stages = (dataclasses.replace(fake.stages[0], work=fail), *fake.stages[1:])
    try:
        photo = folder / "photo.png"
        root = Workspace(out or workspace_for(photo, folder / "out"))
        Road(Route(PHOTO, stages), root, photo, Config(), 1, "cpu", Listener()).run()
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    return "done"


def at_once(count, target, *args) -> list:
    start, found = FORK.Event(), FORK.Queue()

    def work():
        random.seed(os.getpid())
        start.wait()
        found.put(target(*args))

    processes = [FORK.Process(target=work) for _ in range(count)]
    for process in processes:
        process.start()
    start.set()
    answers = [found.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    return answers


@pytest.mark.parametrize("given", [False, True])
def test_five_processes_on_a_bad_photo_all_say_so_and_leave_nothing(tmp_path, given):
    (tmp_path / "photo.png").write_text("P")
    for _ in range(4):
        out = tmp_path / "W" if given else None
        assert at_once(5, bad_road, tmp_path, out) == ["UserError: This is no photo."] * 5
        assert not (tmp_path / "W").exists() and not list((tmp_path / "out").glob("*"))


def good_road(folder: Path) -> str:
    fake = FakeRoad()
    road = Road(fake.route, Workspace(folder / "W"), folder / "photo.png", Config(), 1, "cpu", Listener())
    result = road.run()
    return f"{len(fake.worked)} {result.mesh.read_text()}"


def test_five_processes_on_a_good_photo_share_one_result(tmp_path):
    (tmp_path / "photo.png").write_text("P")
    answers = sorted(at_once(5, good_road, tmp_path))
    assert [answer[0] for answer in answers] == ["0", "0", "0", "0", "5"] and len(
        {a[2:] for a in answers}
    ) == 1


def write_often(path: Path) -> None:
    for number in range(200):
        write_atomically(path, f"{number}" * 1000)


def test_a_file_that_many_write_at_once_is_always_one_of_theirs(tmp_path):
    at_once(4, write_often, tmp_path / "batch.json")
    assert (tmp_path / "batch.json").read_text() == "199" * 1000
    assert [path.name for path in tmp_path.iterdir()] == ["batch.json"]


def test_a_folder_of_the_users_stays(tmp_path):
    (tmp_path / "photo.png").write_text("P")
    (tmp_path / "mine").mkdir()
    (tmp_path / "out" / "photo").mkdir(parents=True)
    for out in (tmp_path / "mine", None):
        assert bad_road(tmp_path, out) == "UserError: This is no photo."
    assert (tmp_path / "mine").is_dir() and (tmp_path / "out" / "photo").is_dir()


def test_a_stage_folder_that_is_a_link_is_replaced_and_what_it_leads_to_stays(tmp_path):
    place = Place(tmp_path)
    place.go()
    folder, elsewhere = place.root / "3-nerf", tmp_path / "elsewhere"
    folder.rename(elsewhere)
    folder.symlink_to(elsewhere)
    assert place.go() == []
    assert place.go(force_from="nerf") == ["nerf", "refine", "export"]
    assert not folder.is_symlink() and folder.is_dir() and (elsewhere / "mesh.glb").exists()
    (place.root / "4-refine" / "mesh.glb").unlink()
    folder.rename(tmp_path / "gone")
    folder.symlink_to(tmp_path / "nowhere")  # leads nowhere
    assert place.go() == ["nerf", "refine"]
    (place.root / ".4-refine.old").symlink_to(elsewhere)
    (place.root / ".4-refine.new").symlink_to(elsewhere)
    assert place.go(force_from="refine") == ["refine", "export"]
    assert sorted(path.name for path in elsewhere.iterdir()) == ["mesh.glb", "stage.json"]
    folder.with_name("5-export").rename(tmp_path / "old")
    folder.with_name("5-export").write_text("a file")
    assert place.go() == ["export"]


@pytest.mark.parametrize("name", [".holder.json", "run.json", ".lock", ".source.json", ".made"])
def test_links_in_the_places_of_the_stores_files_are_not_written_through(tmp_path, name):
    place = Place(tmp_path)
    victim = tmp_path / "victim"
    victim.write_text("mine")
    place.root.mkdir()
    (place.root / name).symlink_to(victim)
    assert place.go() == list(STAGES)
    assert victim.read_text() == "mine"


def test_checkpoints_and_logs_are_not_written_through_links(tmp_path):
    from sv3d_pipe.errors import write_log

    victim = tmp_path / "victim"
    victim.write_text("mine")
    for name in ("c.partial", "c.checkpoint", "error.log"):
        (tmp_path / name).symlink_to(victim)
    Checkpoint(tmp_path / "c.checkpoint", every_s=0).save(lambda: {"step": 1})
    assert Checkpoint(tmp_path / "c.checkpoint").load() == {"step": 1}
    assert write_log(ValueError("x"), tmp_path) == tmp_path / "error.log"
    assert "ValueError" in (tmp_path / "error.log").read_text() and victim.read_text() == "mine"
