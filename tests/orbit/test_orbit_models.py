"""Finding models, telling them apart, and the cache that keeps them."""

import io
import os
import shutil
import sys

import pytest

import sv3d_pipe
from sv3d_pipe.errors import UserError
from sv3d_pipe.orbit.store import cache
from sv3d_pipe.orbit.store import find as models
from sv3d_pipe.orbit.store.find import find_model, identity, list_models
from sv3d_pipe.orbit.store.load import is_sv3d, load_pipeline
from sv3d_pipe.orbit.sv3d import convert

pytestmark = pytest.mark.usefixtures("home")


def test_mini_is_found_from_any_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert (find_model("mini") / "model_index.json").is_file()


def test_the_packaged_mini_comes_before_the_source_tree(tmp_path, monkeypatch):
    package = tmp_path / "site" / "sv3d_pipe"
    for root in (package, package.parent):
        (root / "checkpoints" / "mini").mkdir(parents=True)
        (root / "checkpoints" / "mini" / "model_index.json").write_text("{}")
    monkeypatch.setattr(sv3d_pipe, "__file__", str(package / "__init__.py"))
    assert find_model("mini") == package / "checkpoints" / "mini"
    shutil.rmtree(package / "checkpoints")
    assert find_model("mini") == package.parent / "checkpoints" / "mini"
    shutil.rmtree(package.parent / "checkpoints")
    with pytest.raises(UserError, match="install img2mesh again"):
        find_model("mini")


def test_a_folder_is_a_model(folder):
    assert find_model(str(folder)) == folder


@pytest.mark.parametrize(
    "name, says",
    [
        ("sv3d-u", "`img2mesh models download sv3d-u`, or give the path of sv3d_u.safetensors"),
        ("sv3d-p", "`img2mesh models download sv3d-p`, or give the path of sv3d_p.safetensors"),
        (
            "svd-xt",
            "paints videos, not orbits; .* download svd-xt`, then .* convert svd_xt.safetensors OUT --start p",
        ),
        ("maxi", "choose one of mini, sv3d-u, sv3d-p, or give the path"),
        ("sv3d_p.safetensors", "There is no file sv3d_p.safetensors; check the path"),
    ],
)
def test_what_is_not_here_is_said_in_one_sentence(name, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=says) as caught:
        find_model(name)
    assert "\n" not in str(caught.value)


def test_a_folder_without_model_is_named(tmp_path):
    with pytest.raises(UserError, match="model_index.json"):
        find_model(str(tmp_path))


def test_identity_follows_the_content(folder, tmp_path):
    before = identity(str(folder))
    copy = shutil.copytree(folder, tmp_path / "elsewhere")
    assert identity(str(copy)) == before
    (copy / "README.md").write_text("words")
    assert identity(str(copy)) == before
    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert identity(str(copy)) != before


def test_identity_of_large_files_samples_them(tmp_path, monkeypatch):
    monkeypatch.setattr(models, "WHOLE_FILE_BYTES", 1000)
    monkeypatch.setattr(models, "SAMPLE_BYTES", 100)
    (tmp_path / "model_index.json").write_text("{}")
    weights = tmp_path / "weights.safetensors"
    data = bytearray(os.urandom(6000))
    weights.write_bytes(data)
    before = identity(str(tmp_path))
    for place in (0, 2999, 5999):
        changed = data.copy()
        changed[place] ^= 1
        weights.write_bytes(changed)
        assert identity(str(tmp_path)) != before


def test_listing_names_every_licence():
    rows = list_models()
    assert [row["name"] for row in rows] == ["mini", "sv3d-u", "sv3d-p", "svd-xt"]
    assert all(row["licence"] and row["licence_url"].startswith("https://") and row["source"] for row in rows)
    assert rows[0]["available"].startswith("built in, ") and rows[0]["bytes"] > 10_000_000
    assert all("models download" in row["available"] and row["path"] is None for row in rows[1:])


def test_an_original_file_is_a_model_by_its_content(tiny_checkpoint, home, tmp_path, monkeypatch):
    read, made = [], []
    bar, whole = cache.slow_bar, convert.to_folder
    monkeypatch.setattr(cache, "slow_bar", lambda title: read.append(title) or bar(title))
    monkeypatch.setattr(
        convert, "to_folder", lambda *args, **named: made.append(args) or whole(*args, **named)
    )
    folder = find_model(str(tiny_checkpoint))
    assert is_sv3d(str(tiny_checkpoint)) and is_sv3d(str(folder)) and not is_sv3d("mini")
    assert folder.parent == home / "models" and folder.name.endswith("-fp16") and len(folder.name) == 16 + 5
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    assert find_model(str(tiny_checkpoint)) == folder
    assert read == ["Reading sv3d_p.safetensors", "Converting sv3d_p.safetensors"]
    copy = shutil.copy(tiny_checkpoint, tmp_path / "mine.safetensors")
    assert find_model(str(copy)) == folder and len(made) == 1
    assert identity(str(copy)) == identity(str(folder))
    assert load_pipeline(str(copy), "cpu").takes_pose


def test_a_changed_file_is_read_and_converted_again(tiny_checkpoint, tmp_path):
    path = tmp_path / "model.safetensors"
    shutil.copy(tiny_checkpoint, path)
    first = find_model(str(path))
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert path.stat().st_size == tiny_checkpoint.stat().st_size
    assert find_model(str(path)) != first


def test_a_file_is_read_once_while_its_time_and_size_stay(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"one")
    stat = path.stat()
    one = "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"  # echo -n one | sha256sum
    assert cache.content_sha256(path) == one
    path.write_bytes(b"two")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert cache.content_sha256(path) == one
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert cache.content_sha256(path) != one
    (tmp_path / "link").symlink_to(path)
    assert cache.content_sha256(tmp_path / "link") == cache.content_sha256(path)
    assert list(cache.recall("sha256")) == [str(path.resolve())]


def test_what_was_remembered_of_files_that_are_gone_is_forgotten(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    cache.content_sha256(tmp_path / "a")
    (tmp_path / "a").unlink()
    cache.content_sha256(tmp_path / "b")
    assert list(cache.recall("sha256")) == [str(tmp_path / "b")]
    (cache.cache_folder() / "cache.json").write_text("{damaged")
    assert cache.recall("sha256") == {}


@pytest.mark.parametrize(
    "name, content, says",
    [
        ("model.ckpt", b"\x80\x02", "is not a .safetensors file; .* never loaded"),
        ("model.safetensors", b"\x80\x02pickle", "is a pickle with another name"),
        ("model.safetensors", b"\x10" + bytes(7) + b"{}", "is not a whole safetensors file"),
    ],
)
def test_files_that_are_no_models_leave_nothing(name, content, says, tmp_path, home):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=says):
        find_model(str(tmp_path / name))
    assert not (home / "models").exists() or list((home / "models").iterdir()) == []


def test_what_a_killed_conversion_left_is_cleared_away(tiny_checkpoint, home):
    name = f"{cache.content_sha256(tiny_checkpoint)[:16]}-fp16"
    left = home / "models" / f".{name}.partial" / "new"
    left.mkdir(parents=True)
    (left / "model_index.json").write_text("{}")
    folder = find_model(str(tiny_checkpoint))
    assert [path.name for path in (home / "models").iterdir()] == [folder.name] == [name]
    assert (folder / "unet" / "config.json").is_file()


def test_where_the_cache_is(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("IMG2MESH_CACHE", "~/mine")
    assert cache.cache_folder() == tmp_path / "mine"
    monkeypatch.delenv("IMG2MESH_CACHE")
    assert cache.cache_folder() == tmp_path / "xdg" / "img2mesh"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache.cache_folder() == tmp_path / ".cache" / "img2mesh"


def test_a_cache_that_cannot_be_written_is_named(tiny_checkpoint, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("IMG2MESH_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(UserError, match="set IMG2MESH_CACHE to another folder"):
        find_model(str(tiny_checkpoint))


class _Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    "stderr, patience, shows",
    [
        (io.StringIO, 0, "Reading x, 2.0 MB, ...\n"),
        (io.StringIO, 1000, ""),
        (_Terminal, 0, "Reading x"),
        (_Terminal, 1000, ""),
        (lambda: None, 0, None),
    ],
)
def test_slow_work_is_shown_and_a_program_without_stderr_is_left_alone(stderr, patience, shows, monkeypatch):
    screen = stderr()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(cache, "PATIENCE_S", patience)
    with cache.slow_bar("Reading x") as on_bytes:
        on_bytes(1_000_000, 2_000_000)
        on_bytes(2_000_000, 2_000_000)
    if screen is not None:
        written = screen.getvalue()
        assert written.count("\n") == 1 if shows.endswith("\n") else True
        assert shows in written if shows else written == ""
