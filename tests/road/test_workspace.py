"""The artifact store: whole commits, verification, recovery, locks."""

import json
import multiprocessing
import shutil
import time
from pathlib import Path

import pytest

from sv3d_pipe.capture.transforms import capture_folder
from sv3d_pipe.errors import UserError
from sv3d_pipe.road.records import DAMAGED, StageRecord
from sv3d_pipe.road.sources import PHOTO, SourceKind, images_below, workspace_for
from sv3d_pipe.road.workspace import FREE_BYTES, Workspace


def record(stage="prep", key="k1"):
    return StageRecord(stage, 1, key, {}, {"size": 8}, 23, "cpu", {}, 0.5, 10.0, {"psnr_db": 20.0}, [])


def save_text(text):
    def save(folder: Path):
        (folder / "deep").mkdir()
        (folder / "deep" / "a.txt").write_text(text)

    return save


@pytest.fixture
def workspace(tmp_path):
    workspace = Workspace(tmp_path / "photo")
    with workspace.lock():
        yield workspace


def test_commit_writes_files_and_their_record(workspace):
    kept = workspace.commit(record(), save_text("hello"))
    folder = workspace.root / "1-prep"
    assert (folder / "deep" / "a.txt").read_text() == "hello"
    # printf hello | sha256sum
    sha256 = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    assert kept.files == {"deep/a.txt": {"size": 5, "sha256": sha256}}
    assert json.loads((folder / "stage.json").read_text())["metrics"] == {"psnr_db": 20.0}
    assert workspace.trouble("prep") is None and workspace.record("prep") == kept


def test_commit_replaces_the_whole_folder_and_drops_checkpoints(workspace):
    workspace.commit(record(key="k1"), save_text("one"))
    (workspace.root / "1-prep" / "stray.txt").write_text("left over")
    mine, other = (workspace.checkpoint_path(stage, "k2") for stage in ("prep", "nerf"))
    mine.write_text("half way")
    mine.with_suffix(".partial").write_text("half written")
    other.write_text("half way")
    workspace.commit(record(key="k2"), save_text("two"))
    assert workspace.record("prep").key == "k2"
    assert sorted(p.name for p in (workspace.root / "1-prep").iterdir()) == ["deep", "stage.json"]
    assert not mine.exists() and not mine.with_suffix(".partial").exists() and other.exists()


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failed_save_leaves_the_old_version(workspace, error):
    old = workspace.commit(record(key="k1"), save_text("one"))

    def save(folder):
        (folder / "half.txt").write_text("ha")
        raise error

    with pytest.raises(error):
        workspace.commit(record(key="k2"), save)
    assert workspace.trouble("prep") is None and workspace.record("prep") == old
    assert [p.name for p in workspace.root.glob(".1-prep*")] == []


@pytest.mark.parametrize("damage", ["change", "shorten", "remove", "record"])
def test_damage_is_found(workspace, damage):
    workspace.commit(record(), save_text("hello"))
    folder = workspace.root / "1-prep"
    if damage == "record":
        (folder / "stage.json").write_text('{"stage": "prep"')
    elif damage == "remove":
        (folder / "deep" / "a.txt").unlink()
    else:
        (folder / "deep" / "a.txt").write_text({"change": "jello", "shorten": "hell"}[damage])
    assert workspace.trouble("prep") == DAMAGED


def test_lock_repairs_a_commit_that_was_killed_between_its_renames(tmp_path):
    workspace = Workspace(tmp_path / "photo")
    with workspace.lock():
        old = workspace.commit(record(), save_text("one"))
        workspace.folder("prep").rename(workspace.root / ".1-prep.old")
        save = workspace.root / ".1-prep.new"
        save.mkdir()
        (save / "half.txt").write_text("ha")
    with workspace.lock():
        assert workspace.trouble("prep") is None and workspace.record("prep") == old
        assert not (workspace.root / ".1-prep.new").exists()


def test_lock_removes_the_old_version_of_a_commit_that_was_killed_late(tmp_path):
    workspace = Workspace(tmp_path / "photo")
    with workspace.lock():
        workspace.commit(record(key="k1"), save_text("one"))
        shutil.copytree(workspace.folder("prep"), workspace.root / ".1-prep.old")
        workspace.commit(record(key="k2"), save_text("two"))
    with workspace.lock():
        assert workspace.record("prep").key == "k2"
        assert not (workspace.root / ".1-prep.old").exists()


def _hold(root, held, release):
    with Workspace(root).lock():
        held.set()
        release.wait(10)


def test_a_second_process_waits_and_says_for_whom(tmp_path):
    fork = multiprocessing.get_context("fork")
    held, release = fork.Event(), fork.Event()
    holder = fork.Process(target=_hold, args=(tmp_path / "photo", held, release))
    holder.start()
    try:
        assert held.wait(10)
        said = []

        def say(sentence):
            said.append((sentence, time.monotonic()))
            release.set()

        with Workspace(tmp_path / "photo").lock(say):
            assert time.monotonic() >= said[0][1]
        assert len(said) == 1 and f"process {holder.pid} " in said[0][0]
    finally:
        release.set()
        holder.join(10)
    assert holder.exitcode == 0


def test_an_output_that_cannot_be_written_is_a_user_error(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(UserError, match="Cannot write to .*choose another folder"):
        with Workspace(tmp_path / "file" / "photo").lock():
            pass


def test_a_full_disk_is_a_user_error(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=FREE_BYTES - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UserError, match="free at least 256 MB"):
        with Workspace(tmp_path / "photo").lock():
            pass


def _photo(path, content=b"x"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def _claim(photo, parent):
    workspace = Workspace(workspace_for(photo, parent))
    with workspace.lock():
        workspace.write_run(PHOTO.identity(photo) | {"seed": 1, "config": {}})
    return workspace.root.name


def test_photos_with_one_stem_get_different_workspaces_and_find_their_own_again(tmp_path):
    png, jpg = _photo(tmp_path / "a.png", b"1"), _photo(tmp_path / "a.jpg", b"2")
    other = _photo(tmp_path / "other" / "a.jpg", b"3")
    out = tmp_path / "out"
    names = [_claim(photo, out) for photo in (png, jpg, other)]
    assert names == ["a", "a-jpg", "a-jpg-2"]
    assert [_claim(photo, out) for photo in (other, png, jpg)] == ["a-jpg-2", "a", "a-jpg"]


def test_photos_asked_for_before_any_is_run_get_different_workspaces(tmp_path):
    photos = [_photo(tmp_path / f"a.{suffix}", suffix.encode()) for suffix in ("png", "jpg", "webp", "bmp")]
    names = [workspace_for(photo, tmp_path / "out").name for photo in photos]
    assert names == ["a", "a-jpg", "a-webp", "a-bmp"]
    assert [workspace_for(photo, tmp_path / "out").name for photo in photos] == names
    assert [Workspace(tmp_path / "out" / name).read_run() for name in names] == [None] * 4


def test_processes_that_ask_at_once_get_different_workspaces(tmp_path):
    suffixes = ("png", "jpg", "webp", "bmp", "gif", "tif")
    photos = [_photo(tmp_path / str(i) / f"a.{s}", bytes([i])) for i, s in enumerate(suffixes * 5)]
    context = multiprocessing.get_context("fork")
    start, found = context.Event(), context.Queue()

    def ask(photo):
        start.wait()
        found.put((str(photo), workspace_for(photo, tmp_path / "out").name))

    processes = [context.Process(target=ask, args=(photo,)) for photo in photos]
    for process in processes:
        process.start()
    start.set()
    names = dict(found.get(timeout=30) for _ in processes)
    for process in processes:
        process.join()
    assert len(set(names.values())) == len(photos)
    assert {str(photo): workspace_for(photo, tmp_path / "out").name for photo in photos} == names


def test_a_reserved_workspace_that_was_never_used_goes_away_again(tmp_path):
    root = workspace_for(_photo(tmp_path / "a.png"), tmp_path / "out")
    assert root.is_dir()
    Workspace(root).remove_if_empty()
    assert not root.exists()


def test_a_moved_photo_finds_its_workspace_and_an_edited_one_keeps_it(tmp_path):
    photo = _photo(tmp_path / "a.png", b"1")
    assert _claim(photo, tmp_path / "out") == "a"
    (tmp_path / "elsewhere").mkdir()
    moved = photo.rename(tmp_path / "elsewhere" / "a.png")
    assert _claim(moved, tmp_path / "out") == "a"
    moved.write_bytes(b"2")
    assert _claim(moved, tmp_path / "out") == "a"


def test_a_capture_and_a_photo_of_one_name_get_different_workspaces(tmp_path):
    photo = _photo(tmp_path / "toy.png")
    assert _claim(photo, tmp_path / "out") == "toy"
    folder = tmp_path / "toy"
    folder.mkdir()

    kind = SourceKind("capture", lambda path: "1", capture_folder)
    root = workspace_for(folder, tmp_path / "out", kind)
    assert root.name == "toy-capture"
    with Workspace(root).lock() as workspace:
        workspace.write_run(kind.identity(folder) | {"seed": 1, "config": {}})
    assert workspace_for(folder, tmp_path / "out", kind) == root
    file = _photo(folder / "transforms.json")
    assert workspace_for(file, tmp_path / "fresh", kind).name == "toy"


def test_images_below_knows_suffixes_and_leaves_out_results(tmp_path):
    wanted = ["B.JPG", "a.png", "deep/er/c.Tiff"]
    for name in [*wanted, "notes.txt", ".hidden.png", "a.matte.png", "out/x/1-prep/photo.png", "w/frame.png"]:
        _photo(tmp_path / name)
    (tmp_path / "w" / "run.json").write_text("{}")
    found = images_below(tmp_path, tmp_path / "out", ("*.matte.png",))
    assert [path.relative_to(tmp_path).as_posix() for path in found] == wanted
