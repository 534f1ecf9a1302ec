"""Checkpoints that are none, or not whole, or of shapes that no model has: one sentence each."""

import json

import pytest
import torch
from safetensors.torch import save_file
from sv3d_tiny import HEADS, converted

from sv3d_pipe.errors import UserError
from sv3d_pipe.orbit.store.cache import safetensors_header
from sv3d_pipe.orbit.sv3d.convert import to_folder
from sv3d_pipe.orbit.sv3d.convert.checkpoint import folder_checkpoint
from sv3d_pipe.orbit.sv3d.convert.layout import CLIP, DECODER, ENCODER, UNET


def drop(key):
    return lambda state: state.pop(key)


def add(key):
    return lambda state: state.update({key: torch.zeros(2)})


def reshape(key):
    return lambda state: state.update({key: torch.zeros(7, 7)})


@pytest.mark.parametrize(
    "change, says",
    [
        (drop(f"{UNET}middle_block.1.time_mixer.mix_factor"), "lacks .*middle_block.1.time_mixer.mix_factor"),
        (
            drop("first_stage_model.decoder.conv_in.weight"),
            "lacks .*first_stage_model.decoder.conv_in.weight",
        ),
        (drop(f"{UNET}input_blocks.0.0.weight"), "not an SV3D checkpoint"),
        (add("model_ema.decay"), "has tensors that no SV3D model has: model_ema.decay"),
        (add("first_stage_model.post_quant_conv.weight"), "has tensors that no SV3D model has"),
        (
            reshape(f"{UNET}time_embed.0.weight"),
            r"unexpected shapes, first .*time_embed.0.weight, \[7, 7\] instead",
        ),
        (reshape(f"{UNET}label_emb.0.0.weight"), "takes a condition of 7 numbers"),
    ],
)
def test_whatever_does_not_fit_is_named_in_one_line(state, tmp_path, change, says):
    change(state)
    with pytest.raises(UserError, match=says) as caught:
        converted(state, tmp_path)
    assert "\n" not in str(caught.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.safetensors"]


def test_heads_must_divide_the_width(tiny_checkpoint, tmp_path):
    with pytest.raises(UserError, match="64 channels wide, which its heads of 80 do not divide"):
        to_folder(tiny_checkpoint, tmp_path / "out")


def test_files_that_are_no_checkpoints(tiny_checkpoint, tmp_path):
    data = tiny_checkpoint.read_bytes()
    files = {
        "short": data[: len(data) // 2],
        "header": data[:5000],
        "empty": b"",
        "text": b"hello, this is not a model at all",
    }
    for name, content in files.items():
        path = tmp_path / f"{name}.safetensors"
        path.write_bytes(content)
        with pytest.raises(UserError, match="not a whole safetensors file"):
            to_folder(path, tmp_path / "out", heads=HEADS)
    with pytest.raises(UserError, match="Cannot read"):
        to_folder(tmp_path / "missing.safetensors", tmp_path / "out")


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_is_never_loaded(tmp_path, zipped):
    path = tmp_path / "model.safetensors"
    torch.save({"weight": torch.zeros(3)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(UserError, match="is a pickle with another name"):
        to_folder(path, tmp_path / "out")


SIZED = (
    f"{UNET}input_blocks.0.0.weight", f"{UNET}label_emb.0.0.weight", f"{UNET}out.2.weight", f"{CLIP}conv1.weight",
    f"{CLIP}positional_embedding", f"{CLIP}proj", f"{DECODER}conv_in.weight",
    f"{ENCODER}encoder.down.0.block.0.conv1.weight", f"{UNET}input_blocks.1.0.out_layers.0.weight",
    f"{UNET}middle_block.1.transformer_blocks.0.attn2.to_k.weight",
)  # fmt: skip


@pytest.mark.parametrize("shape", [(), (3,), (0, 0), (0, 0, 0, 0), (7, 5, 3, 2, 1)])
def test_tensors_of_strange_shapes_are_one_sentence(state, tmp_path, shape):
    for number, key in enumerate(SIZED):
        assert key in state
        path = tmp_path / f"{number}.safetensors"
        save_file(state | {key: torch.zeros(shape)}, path)
        with pytest.raises(UserError):
            to_folder(path, tmp_path / f"out{number}", heads=HEADS)
        path.unlink()


@pytest.mark.parametrize(
    "index",
    ["[]", "{", "{}", '{"weight_map": 3}', '{"weight_map": {"a": "../b"}}', '{"weight_map": {"a": []}}'],
)
def test_strange_indexes_are_one_sentence(tmp_path, index):
    (tmp_path / "model.safetensors.index.json").write_text(index)
    with pytest.raises(UserError):
        folder_checkpoint(tmp_path)


@pytest.mark.parametrize(
    "header",
    [
        {"a": 3}, {"a": {"dtype": "F32", "shape": 3}}, {"a": {"dtype": "F32", "shape": ["x"]}},
        {"a": {"dtype": [], "shape": []}}, {"a": {"dtype": "F32", "shape": [-1]}}, [1], {"a": {"dtype": "F32"}},
    ],
)  # fmt: skip
def test_strange_headers_hold_no_tensors(tmp_path, header):
    text = json.dumps(header).encode()
    (tmp_path / "a.safetensors").write_bytes(len(text).to_bytes(8, "little") + text)
    assert safetensors_header(tmp_path / "a.safetensors") == {}
    with pytest.raises(UserError):
        to_folder(tmp_path / "a.safetensors", tmp_path / "out")
