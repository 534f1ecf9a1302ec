import functools
import io
import json
import os
import shutil
import socket
import sys
from pathlib import Path

import pytest
import sv3d_tiny
import torch
from orbit_fakes import formula_pipeline

from sv3d_pipe.errors import UserError
from sv3d_pipe.orbit.store import cache, load
from sv3d_pipe.orbit.store import find as models
from sv3d_pipe.orbit.store.find import find_model, identity, list_models
from sv3d_pipe.orbit.store.load import is_sv3d, load_pipeline
from sv3d_pipe.orbit.sv3d import convert


@pytest.fixture(autouse=True)
def home(tmp_path_factory, monkeypatch):
    """An empty model cache, and the head widths of the miniature checkpoint."""
    home = tmp_path_factory.mktemp("home") / "cache"
    monkeypatch.setenv("IMG2MESH_CACHE", str(home))
    tiny = functools.partial(convert.to_folder, heads=sv3d_tiny.HEADS)
    monkeypatch.setattr(convert, "to_folder", tiny)
    return home


@pytest.fixture
def folder(tmp_path):
    formula_pipeline().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_mini_is_found_from_any_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert (find_model("mini") / "model_index.json").is_file()


def test_the_packaged_mini_comes_before_the_source_tree(tmp_path, monkeypatch):
    package = tmp_path / "site" / "sv3d_pipe"
    for root in (package, package.parent):
        (root / "checkpoints" / "mini").mkdir(parents=True)
        (root / "checkpoints" / "mini" / "model_index.json").write_text("{}")
    monkeypatch.setattr(models.sv3d_pipe, "__file__", str(package / "__init__.py"))
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


def test_loading_is_done_once(folder):
    first = load_pipeline(str(folder), "cpu")
    assert load_pipeline(str(folder), "cpu") is first
    assert first.size == 8


def test_a_broken_folder_is_a_users_error(folder):
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(UserError, match="cannot be loaded"):
        load_pipeline(str(folder), "cpu")


@pytest.mark.parametrize(
    "part", [["unet", "Evil"], ["diffusers", "Evil"], ["os", "system"], ["unet"], [1, 2]]
)
def test_no_class_that_a_folder_brings_along_is_loaded(folder, part, tmp_path):
    ran = tmp_path / "ran"
    for place in (folder / "unet.py", folder / "unet" / "unet.py"):
        place.write_text(f"open({str(ran)!r}, 'w')\nclass Evil: pass\n")
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"unet": part}))
    with pytest.raises(UserError, match="as its unet; only classes of"):
        load_pipeline(str(folder), "cpu")
    assert not ran.exists()


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


def test_the_vae_stays_in_float32(tiny_folder):
    assert load.load_pipeline(str(tiny_folder), "cpu").unet.dtype == torch.float32
    pipeline = load_pipeline(str(tiny_folder), "cpu", "bfloat16")
    assert {p.dtype for p in pipeline.unet.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in pipeline.image_encoder.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in pipeline.vae.parameters()} == {torch.float32}


def test_a_model_without_vae_stays_in_float32(folder):
    assert load_pipeline(str(folder), "cpu", "float16").unet.gain.dtype == torch.float32


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    "part, changes, says",
    [
        (
            "vae/config.json",
            {"_class_name": "AutoencoderKLTemporalDecoder"},
            "paints videos, not orbits.*--start p",
        ),
        (
            "unet/config.json",
            {"projection_class_embeddings_input_dim": 768},
            "paints videos, not orbits.*--start p",
        ),
        ("model_index.json", {"_class_name": "FluxPipeline"}, "holds a FluxPipeline.*original .safetensors"),
    ],
)
def test_other_kinds_of_folders_are_named(tiny_folder, tmp_path, part, changes, says):
    folder = shutil.copytree(tiny_folder, tmp_path / "model")
    edit(folder / part, **changes)
    with pytest.raises(UserError, match=says) as caught:
        load_pipeline(str(folder), "cpu")
    assert "\n" not in str(caught.value)


def cut(path):
    path.write_bytes(path.read_bytes()[:-1000])


@pytest.mark.parametrize(
    "part, harm, says",
    [
        ("model_index.json", lambda path: path.write_text("{"), "model_index.json is damaged"),
        ("unet/config.json", os.unlink, "cannot be loaded"),
        ("unet", shutil.rmtree, "cannot be loaded"),
        ("vae/diffusion_pytorch_model.safetensors", os.unlink, "cannot be loaded"),
        ("vae/diffusion_pytorch_model.safetensors", cut, "cannot be loaded"),
        ("image_encoder/model.safetensors", os.unlink, "cannot be loaded"),
        ("image_encoder/model.safetensors", cut, "cannot be loaded"),
        ("scheduler/scheduler_config.json", os.unlink, "cannot be loaded"),
        (
            "unet/config.json",
            lambda path: edit(path, layers_per_block=2),
            r"\d+ weights of its unet are missing",
        ),
        (
            "image_encoder/config.json",
            lambda path: edit(path, num_hidden_layers=3),
            "weights of its image_encoder",
        ),
        ("image_encoder/config.json", lambda path: edit(path, projection_dim=7), "cannot be loaded"),
    ],
)
def test_an_incomplete_folder_is_one_sentence(tiny_folder, tmp_path, part, harm, says, capfd):
    folder = shutil.copytree(tiny_folder, tmp_path / "model")
    harm(folder / part)
    with pytest.raises(UserError, match=says) as caught:
        load_pipeline(str(folder), "cpu")
    assert "\n" not in str(caught.value) and capfd.readouterr() == ("", "")


@pytest.fixture
def asked(monkeypatch):
    """The hosts that something tried to reach; none answers."""
    hosts = []

    def refuse(host, *_, **__):
        hosts.append(host)
        raise OSError("no network")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", lambda _, address: refuse(address))
    return hosts


@pytest.mark.parametrize("part", ["unet", "vae", "image_encoder", "scheduler"])
@pytest.mark.parametrize("whole", [True, False], ids=["folder", "configuration"])
def test_what_a_local_folder_lacks_is_not_looked_for_elsewhere(
    tiny_folder, tmp_path, part, whole, asked, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    folder = shutil.copytree(tiny_folder, Path("model"))  # with its part it reads like a repository on a hub
    if whole:
        shutil.rmtree(folder / part)
    else:
        next(folder.glob(f"{part}/*config.json")).unlink()
    with pytest.raises(UserError, match="cannot be loaded"):
        load_pipeline(str(folder), "cpu")
    if part != "scheduler":  # of which an original file has nothing
        with pytest.raises(UserError, match="not a diffusers folder"):
            convert.to_file(folder, tmp_path / "back.safetensors")
    assert asked == []
