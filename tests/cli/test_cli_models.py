"""The verbs about models: what they print, where, and their errors. The conversion itself is a stand-in."""

import json
import shutil
import subprocess
import sys
from collections import namedtuple

import hub_fakes
import pytest
from huggingface_hub import constants
from typer.testing import CliRunner

from sv3d_pipe.cli import app
from sv3d_pipe.errors import UserError
from sv3d_pipe.orbit.store.known import MODELS
from sv3d_pipe.orbit.sv3d import convert


def call(*args):
    return CliRunner().invoke(app, ["models", *(str(arg) for arg in args)])


def assert_one_line(result, sentence, code=2):
    assert result.exit_code == code, result.output
    assert sentence in result.stderr and result.stdout == ""
    assert result.stderr.startswith("Error: ") and result.stderr.count("\n") == 1


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """The working directory, with a file to convert, a folder to convert back, and the model cache."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IMG2MESH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    (tmp_path / "sv3d_p.safetensors").write_bytes(b"weights")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "model_index.json").write_text("{}")
    return tmp_path


@pytest.fixture
def converter(monkeypatch):
    """What the conversions were asked, as (source, dtype, start)."""
    asked = []

    def to_folder(source, out, dtype="fp16", start=None, on_bytes=None):
        asked.append((source.name, dtype, start))
        on_bytes(1, 1)
        (out / "unet").mkdir(parents=True)
        (out / "unet" / "w.safetensors").write_bytes(bytes(1_499_998))
        (out / "model_index.json").write_text("{}")
        return f"sv3d-{start or 'p'}"

    def to_file(folder, out, dtype="fp16", on_bytes=None):
        asked.append((folder.name, dtype, None))
        out.write_bytes(bytes(2_500_000))

    monkeypatch.setattr(convert, "to_folder", to_folder)
    monkeypatch.setattr(convert, "to_file", to_file)
    return asked


def test_list_tells_licence_source_and_place(home):
    text = call("list").stdout
    for model in MODELS:
        assert f"{model.name}: {model.about}" in text and model.licence in text
    assert "`img2mesh models download sv3d-p`" in text
    assert f"The model cache is {home / 'cache'}, empty" in text
    rows = json.loads(call("list", "--json").stdout)
    assert [row["name"] for row in rows] == [model.name for model in MODELS]
    assert rows[0]["path"] and rows[0]["bytes"] > 0 and rows[1]["path"] is rows[1]["bytes"] is None


def test_licences_of_all_and_of_one():
    text = call("licences").stdout
    assert all(
        f"{m.name}: {m.licence}" in text and m.licence_url in text and m.consequences in text for m in MODELS
    )
    one = call("licences", "svd-xt").stdout
    assert one.startswith("svd-xt: ") and "sv3d" not in one
    assert_one_line(call("licences", "sv4d"), "choose one of mini, sv3d-u, sv3d-p, svd-xt")


def test_convert_prints_one_line_with_kind_size_and_seconds(converter):
    result = call("convert", "sv3d_p.safetensors", "new/model")
    assert result.exit_code == 0 and result.stderr == ""
    assert result.stdout.startswith("new/model: sv3d-p, fp16, 1.5 MB, converted in 0.")
    assert result.stdout.count("\n") == 1 and result.stdout.endswith(" s.\n")
    result = call("convert", "sv3d_p.safetensors", "start", "--dtype", "fp32", "--start", "u")
    assert result.stdout.startswith("start: a start for fine-tuning as sv3d-u, fp32, ")
    result = call("convert", "folder", "back.safetensors", "--dtype", "bf16")
    assert result.stdout.startswith("back.safetensors: one file in the original layout, bf16, 2.5 MB, ")
    assert converter == [
        ("sv3d_p.safetensors", "fp16", None),
        ("sv3d_p.safetensors", "fp32", "u"),
        ("folder", "bf16", None),
    ]


@pytest.mark.parametrize(
    "args, sentence",
    [
        (["sv3d_p.safetensors", "folder"], "folder already exists; choose another name."),
        (["nothing.safetensors", "out"], "There is no file or folder nothing.safetensors"),
        (
            ["folder", "out"],
            "A folder becomes one .safetensors file; choose a name with that ending, not out.",
        ),
        (["folder", "out.safetensors", "--start", "p"], "--start is for SVD's single .safetensors file"),
        (["cache", "out.safetensors"], "cache holds no model_index.json"),
        (["sv3d_p.safetensors", "out", "--dtype", "int8"], "--dtype"),
        (["sv3d_p.safetensors", "out", "--start", "c"], "--start"),
        (["sv3d_p.safetensors"], "OUT"),
    ],
)
def test_wrong_use_of_convert_is_one_line(converter, home, args, sentence):
    (home / "cache").mkdir()
    assert_one_line(call("convert", *args), sentence)
    assert converter == [] and not (home / "out").exists()


def test_convert_looks_at_the_disk_of_its_target(converter, home, monkeypatch):
    import torch
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1000), "b": torch.zeros(10, 50)}, home / "small.safetensors")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: namedtuple("Disk", "free")(1000))
    assert_one_line(  # 1500 numbers of 2 bytes
        call("convert", "small.safetensors", "out"),
        f"small.safetensors needs 3.0 kB of disk (3.0 kB to write), but 1.0 kB are free at {home}; free 2.0 kB",
    )


def test_errors_of_the_conversion_are_one_line(monkeypatch):
    def fail(*_, **__):
        raise UserError("This is another model.")

    monkeypatch.setattr(convert, "to_folder", fail)
    assert_one_line(call("convert", "sv3d_p.safetensors", "out"), "This is another model.")


def test_download_keeps_stdout_for_the_place(converter, home, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: namedtuple("Disk", "free")(10**13))
    with hub_fakes.serve(monkeypatch) as hub:
        hub.files["sv3d_p.safetensors"] = b"weights"
        result = call("download", "sv3d-p", "--keep")
        assert result.exit_code == 0 and result.stdout == f"{home / 'cache' / 'models' / 'sv3d-p'}\n"
        assert result.stderr.startswith("License of sv3d-p: Stability AI Community License")
        assert "sv3d-p is ready" in result.stderr and converter == [("sv3d_p.safetensors", "fp16", None)]
        hub.refuses = (403, "GatedRepo")
        assert_one_line(call("download", "sv3d-u"), "https://huggingface.co/stabilityai/sv3d")
    assert_one_line(call("download", "mini"), "mini is built in")
    assert_one_line(call("download", "sv4d"), "choose one of sv3d-u, sv3d-p, svd-xt")


def test_ctrl_c_says_how_to_go_on(home, monkeypatch):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("sv3d_pipe.orbit.store.download.download", stopped)
    result = call("download", "sv3d-p")
    assert result.exit_code == 130
    assert result.stderr == (
        f"Stopped. What is finished is kept in {home / 'cache'}; run the same command again to continue.\n"
    )


def test_the_verbs_that_tell_import_nothing_heavy():
    code = (
        "import sys; from typer.testing import CliRunner; from sv3d_pipe.cli import app;"
        "[CliRunner().invoke(app, ['models', *verb.split()]) for verb in ('--help', 'list', 'licences')];"
        "print([m for m in ('torch', 'numpy', 'diffusers', 'huggingface_hub') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"
