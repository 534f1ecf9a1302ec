"""Loading models: number formats, and folders that are incomplete, foreign or hostile."""

import json
import os
import shutil
import socket
from pathlib import Path

import pytest
import torch

from sv3d_pipe.errors import UserError
from sv3d_pipe.orbit.store import load
from sv3d_pipe.orbit.store.load import load_pipeline
from sv3d_pipe.orbit.sv3d import convert

pytestmark = pytest.mark.usefixtures("home")


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
