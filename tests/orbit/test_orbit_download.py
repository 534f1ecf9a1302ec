"""Downloading, against a hub on this machine; the model is the miniature sv3d-p, really converted."""

import functools
import shutil
import threading
from collections import namedtuple

import hub_fakes
import pytest
import sv3d_tiny
import torch
from huggingface_hub import constants
from typer.testing import CliRunner

from sv3d_pipe.cli import app
from sv3d_pipe.errors import UserError
from sv3d_pipe.orbit.store import cache
from sv3d_pipe.orbit.store.download import download
from sv3d_pipe.orbit.store.find import find_model, identity, list_models
from sv3d_pipe.orbit.store.known import MODELS
from sv3d_pipe.orbit.store.load import load_pipeline
from sv3d_pipe.orbit.sv3d import convert

FILE = "sv3d_p.safetensors"
Disk = namedtuple("Disk", "total used free")


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """An empty model cache, an empty hub cache, a large disk."""
    monkeypatch.setenv("IMG2MESH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Disk(10**13, 0, 10**13))
    tiny = functools.partial(convert.to_folder, heads=sv3d_tiny.HEADS)
    monkeypatch.setattr(convert, "to_folder", tiny)
    return tmp_path / "cache"


@pytest.fixture
def hub(monkeypatch, tiny_checkpoint):
    with hub_fakes.serve(monkeypatch) as hub:
        hub.files[FILE] = tiny_checkpoint.read_bytes()
        yield hub


def asked(hub):
    return [request for request in hub.asked if request[1].endswith(".safetensors")]


def ends_in_one_line(says, name="sv3d-p", **options):
    said = []
    with pytest.raises(UserError, match=says) as caught:
        download(name, say=said.append, **options)
    assert "\n" not in str(caught.value) and len(str(caught.value)) <= 300
    return said


def remains(home):
    """Files of the cache that are neither locks nor its memory."""
    files = [path.relative_to(home).as_posix() for path in home.rglob("*") if path.is_file()]
    return sorted(f for f in files if f != "cache.json" and not f.endswith(".lock"))


def test_a_download_becomes_a_model_and_leaves_nothing_else(hub, home):
    said = []
    folder = download("sv3d-p", say=said.append)
    assert folder == find_model("sv3d-p") == home / "models" / "sv3d-p"
    assert all(name.startswith("models/sv3d-p/") for name in remains(home))
    size = len(hub.files[FILE]) / 1e6
    assert said[-1].startswith(f"sv3d-p is ready: {folder}, fp16, ")
    assert said[-1].endswith(f"; the original, {size:.1f} MB, was deleted.")
    pipeline = load_pipeline("sv3d-p", "cpu", "bfloat16")
    assert pipeline.unet.dtype == pipeline.image_encoder.dtype == torch.bfloat16
    assert pipeline.vae.dtype == torch.float32


def test_a_second_download_does_nothing(hub, home):
    folder = download("sv3d-p")
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    hub.asked.clear()
    said = []
    assert download("sv3d-p", say=said.append) == folder
    assert hub.asked == [] and "is here already" in said[0] and "fp16" in said[0]
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_a_kept_original_serves_another_dtype_and_is_not_read_again(hub, home, monkeypatch):
    said, titles = [], []
    bar = cache.slow_bar
    monkeypatch.setattr(cache, "slow_bar", lambda title: titles.append(title) or bar(title))
    download("sv3d-p", keep=True, say=said.append)
    kept = home / "downloads" / FILE
    assert f"the original is kept as {kept}" in said[-1] and kept.read_bytes() == hub.files[FILE]
    assert titles == [f"Checking {FILE}", f"Converting {FILE}"]
    hub.asked.clear()
    first = identity("sv3d-p")
    folder = download("sv3d-p", "bf16", keep=True)
    assert hub.asked == [] and cache.folder_dtype(folder) == "bf16" and identity("sv3d-p") != first
    titles.clear()
    assert identity(str(kept)) == first  # the file's own conversion, in fp16
    assert titles == [f"Converting {FILE}"]


def test_the_licence_is_said_once_before_the_transfer(hub, home):
    hub.files["sv3d_u.safetensors"] = hub.files[FILE]
    said = []
    download("sv3d-p", say=lambda sentence: said.append((sentence, len(hub.fetched))))
    model = {m.name: m for m in MODELS}["sv3d-p"]
    text, fetched = said[0]
    assert text.startswith("License of sv3d-p: ")
    assert model.licence_url in text and model.consequences in text and fetched == 0
    again = []
    shutil.rmtree(home / "models")
    download("sv3d-p", say=again.append)
    download("sv3d-u", say=again.append)
    assert not any(sentence.startswith("License of") for sentence in again)


@pytest.mark.parametrize("answer", [(403, "GatedRepo"), (401, "GatedRepo"), (401, "RepoNotFound"), (403, "")])
def test_a_gate_says_where_to_accept_and_how_to_log_in(hub, home, answer):
    hub.refuses = answer
    said = ends_in_one_line(r"https://huggingface.co/stabilityai/sv3d .*accept.*`hf auth login`.*again")
    assert said == [] and hub.fetched == [] and remains(home) == []


@pytest.mark.parametrize(
    "answer, says",
    [
        ((404, "RepoNotFound"), "no longer has the repository stabilityai/sv3d"),
        ((404, "EntryNotFound"), "repository stabilityai/sv3d no longer has the file sv3d_p.safetensors"),
        ((503, ""), "answered with error 503; try again later"),
    ],
)
def test_other_refusals_are_one_sentence(hub, home, answer, says):
    hub.refuses = answer
    assert ends_in_one_line(says) == [] and remains(home) == []


def test_no_network_no_hub_and_offline_mode_are_one_sentence(hub, monkeypatch):
    hub.stated[FILE] = "abc"
    ends_in_one_line("did not come from a Hugging Face hub; check HF_ENDPOINT")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    ends_in_one_line("unset HF_HUB_OFFLINE")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", "http://127.0.0.1:9/{repo_id}/{revision}/{filename}"
    )
    ends_in_one_line("connection to the Hugging Face hub failed .*check the network")


def test_a_damaged_download_is_not_used_and_not_kept(hub, home):
    hub.stated[FILE] = "0" * 64
    ends_in_one_line("does not have the SHA-256 that the hub states")
    assert remains(home) == []
    with pytest.raises(UserError, match="models download sv3d-p"):
        find_model("sv3d-p")
    hub.stated.clear()
    assert download("sv3d-p") == find_model("sv3d-p")


class _Interrupted:
    """A file in which writing ends with Ctrl-C after ``left`` bytes."""

    def __init__(self, file, left):
        self.file, self.left = file, left

    def write(self, data):
        self.file.write(data[: self.left])
        self.left -= len(data)
        if self.left <= 0:
            raise KeyboardInterrupt

    def __getattr__(self, name):
        return getattr(self.file, name)


def test_an_interrupted_download_goes_on_where_it_stopped(hub, home, monkeypatch):
    from huggingface_hub import file_download

    real = file_download.http_get
    cut = lambda url, file, **rest: real(url, _Interrupted(file, 1_000_000), **rest)  # noqa: E731
    monkeypatch.setattr(file_download, "http_get", cut)
    with pytest.raises(KeyboardInterrupt):
        download("sv3d-p")
    (partial,) = remains(home)
    assert (home / partial).stat().st_size == 1_000_000
    monkeypatch.setattr(file_download, "http_get", real)
    hub.fetched.clear()
    said = []
    download("sv3d-p", keep=True, say=said.append)
    assert "1.0 MB of it here already" in said[0]
    assert hub.fetched == [("GET", FILE, "bytes=1000000-")]
    assert (home / "downloads" / FILE).read_bytes() == hub.files[FILE]


def test_a_broken_connection_is_taken_up_again(hub, home, monkeypatch):
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)
    hub.breaks_after = 500_000
    download("sv3d-p", keep=True)
    assert [span for _, _, span in hub.fetched] == [None, "bytes=500000-"]
    assert (home / "downloads" / FILE).read_bytes() == hub.files[FILE]


def test_the_rest_of_another_version_is_thrown_away(hub, home):
    old = home / "downloads" / f".{FILE}.{'1' * 16}.partial"
    old.parent.mkdir(parents=True)
    old.write_bytes(b"old")
    too_long = old.with_name(f".{FILE}.{hub.sha256(FILE)[:16]}.partial")
    too_long.write_bytes(bytes(len(hub.files[FILE]) + 1))
    download("sv3d-p")
    assert [span for _, _, span in hub.fetched] == [None]
    assert not old.exists() and not too_long.exists()


def test_a_file_in_the_hubs_own_cache_is_used_and_left_there(hub, home, tmp_path):
    shared = tmp_path / "hub" / "models--stabilityai--sv3d" / "snapshots" / hub_fakes.COMMIT / FILE
    shared.parent.mkdir(parents=True)
    shared.write_bytes(hub.files[FILE])
    said = []
    assert cache.is_model(download("sv3d-p", say=said.append))
    assert hub.fetched == [] and shared.exists() and "stays in the hub's cache" in said[-1]


def test_too_little_disk_is_said_before_anything_is_fetched(hub, home, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Disk(10**13, 0, 3_200_000_000))
    needed = {"to download": 9_370_000_000, "converted to fp16": 4_680_000_000}
    with pytest.raises(UserError) as caught:
        cache.check_disk(needed, "sv3d-p")
    assert str(caught.value) == (
        "sv3d-p needs 14.05 GB of disk (9.37 GB to download and 4.68 GB converted to fp16), but 3.20 GB are free "
        f"at {home.parent}; free 10.85 GB or set IMG2MESH_CACHE to a folder on another disk."
    )
    ends_in_one_line("sv3d-p needs 4.69 GB of disk")  # 2 342 222 549 numbers of 2 bytes, and 6 MB
    assert hub.fetched == [] and remains(home) == []
    with pytest.raises(UserError, match="choose a folder on another disk"):
        cache.check_disk(needed, "sv3d-p", home)


@pytest.mark.parametrize("error", [RuntimeError("boom"), KeyboardInterrupt(), UserError("unlike SV3D")])
def test_a_conversion_that_fails_midway_leaves_the_checked_file_only(hub, home, monkeypatch, error):
    whole = convert.to_folder

    def half(source, out, dtype, on_bytes):
        (out / "unet").mkdir(parents=True)
        (out / "model_index.json").write_text("{}")
        raise error

    monkeypatch.setattr(convert, "to_folder", half)
    with pytest.raises(type(error)):
        download("sv3d-p")
    assert remains(home) == [f"downloads/{FILE}"]
    with pytest.raises(UserError, match="models download sv3d-p"):
        find_model("sv3d-p")
    monkeypatch.setattr(convert, "to_folder", whole)
    hub.asked.clear()
    assert download("sv3d-p") == find_model("sv3d-p") and hub.asked == []


def test_a_failed_change_of_dtype_leaves_the_model_as_it_was(hub, home, monkeypatch):
    download("sv3d-p", keep=True)
    before = identity("sv3d-p")

    def fail(*_, **__):
        raise RuntimeError("boom")

    monkeypatch.setattr(convert, "to_folder", fail)
    with pytest.raises(RuntimeError):
        download("sv3d-p", "fp32")
    assert identity("sv3d-p") == before


def test_two_at_a_time_fetch_once(hub, home):
    found = []
    threads = [threading.Thread(target=lambda: found.append(download("sv3d-p"))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [home / "models" / "sv3d-p"] * 2 and len(hub.fetched) == 1


def test_svd_stays_a_file_and_says_how_to_go_on(hub, home):
    hub.files["svd_xt.safetensors"] = b"svd"
    said = []
    file = download("svd-xt", say=said.append)
    assert file.read_bytes() == b"svd"
    assert f"`img2mesh models convert {file} OUT --start p`" in said[-1]
    hub.asked.clear()
    assert download("svd-xt") == file and hub.asked == []
    with pytest.raises(UserError, match=f"convert {file} OUT --start p"):
        find_model("svd-xt")


@pytest.mark.parametrize(
    "name, says", [("mini", "built in"), ("sv4d", "choose one of sv3d-u, sv3d-p, svd-xt")]
)
def test_what_cannot_be_downloaded(name, says):
    ends_in_one_line(says, name)


def test_the_list_tells_what_is_here(hub, home):
    assert {row["name"]: row["path"] for row in list_models()}["sv3d-p"] is None
    folder = download("sv3d-p")
    row = {row["name"]: row for row in list_models()}["sv3d-p"]
    assert row["path"] == str(folder) and row["bytes"] == sum(
        f.stat().st_size for f in folder.rglob("*.*") if f.is_file()
    )
    assert row["available"].startswith(f"{folder}, fp16, ")


def test_on_the_command_line_there_and_back(hub, home, tmp_path, monkeypatch):
    def call(*args):
        result = CliRunner().invoke(app, ["models", *(str(arg) for arg in args)])
        assert result.exit_code == 0, result.output
        return result.stdout

    monkeypatch.chdir(tmp_path)
    folder = call("download", "sv3d-p", "--dtype", "fp32").strip()
    assert f"{folder}, fp32, " in call("list")
    assert call("convert", folder, "back.safetensors", "--dtype", "fp32").startswith(
        "back.safetensors: one file"
    )
    assert call("convert", "back.safetensors", "again", "--dtype", "fp32").startswith("again: sv3d-p, fp32, ")
    assert identity("again") == identity("sv3d-p") == identity(folder)
    assert find_model("back.safetensors").parent == home / "models"
