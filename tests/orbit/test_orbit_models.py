import os
import shutil

import pytest
from orbit_fakes import formula_pipeline

from sv3d_pipe.errors import UserError
from sv3d_pipe.orbit import models
from sv3d_pipe.orbit.models import find_model, identity, list_models, load_pipeline


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
    "name, says", [("sv3d-u", "licence"), ("sv3d-p", "diffusers folder"), ("maxi", "choose mini")]
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


def test_listing_names_every_licence():
    rows = list_models()
    assert [row["name"] for row in rows] == ["mini", "sv3d-u", "sv3d-p"]
    assert all(row["licence"] and row["source"] and row["available"] for row in rows)
