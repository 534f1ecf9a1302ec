"""Models name public classes, not files; models saved before they did still load."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import EulerDiscreteScheduler

import sv3d_pipe
from sv3d_pipe import (
    DepthGuesser,
    MiniPipeline,
    PixelCodec,
    StableVideo3DPipeline,
    StableVideo3DUNet,
    VolumeDenoiser,
)
from sv3d_pipe.orbit.store.find import find_model
from sv3d_pipe.orbit.store.load import load_pipeline

OLD = Path(__file__).parent / "saved_by_0.1.0" / "model_index.json"  # of a converted sv3d-p


def tiny_mini() -> MiniPipeline:
    network = VolumeDenoiser(size=16, grid=8, channels=(8, 8), width=16, depth=1, heads=2, ray_samples=4)
    return MiniPipeline(PixelCodec(16), network, EulerDiscreteScheduler(), depth=DepthGuesser(1, 8), steps=1)


def test_a_saved_model_names_no_file(tmp_path):
    pipeline = tiny_mini()
    pipeline.save_pretrained(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert index["_class_name"] == "MiniPipeline"
    assert index["unet"] == ["sv3d_pipe", "VolumeDenoiser"]
    assert index["vae"] == ["sv3d_pipe", "PixelCodec"]
    assert index["depth"] == ["sv3d_pipe", "DepthGuesser"]
    again = MiniPipeline.from_pretrained(tmp_path)
    for name in ("unet", "depth"):
        before, after = getattr(pipeline, name).state_dict(), getattr(again, name).state_dict()
        assert before.keys() == after.keys() and all(torch.equal(before[k], after[k]) for k in before)


def test_the_names_in_saved_models_are_public():
    for name in (
        "StableVideo3DPipeline",
        "MiniPipeline",
        "StableVideo3DUNet",
        "VolumeDenoiser",
        "PixelCodec",
        "DepthGuesser",
    ):
        assert name in sv3d_pipe.__all__ and getattr(sv3d_pipe, name).__module__ == "sv3d_pipe"


def test_mini_was_saved_before_and_loads():
    index = json.loads((find_model("mini") / "model_index.json").read_text())
    assert index["unet"] == ["sv3d_pipe.orbit.volume", "VolumeDenoiser"]
    pipeline = load_pipeline("mini", "cpu")
    assert type(pipeline.unet) is VolumeDenoiser and type(pipeline.depth) is DepthGuesser


@pytest.mark.parametrize("index", ["as it is saved now", "as 0.1.0 saved it"])
def test_a_converted_model_loads_whoever_converted_it(tiny_folder, tmp_path, index):
    folder = shutil.copytree(tiny_folder, tmp_path / "sv3d-p")
    assert json.loads((folder / "model_index.json").read_text())["unet"][0] == "sv3d_pipe"
    if index == "as 0.1.0 saved it":
        shutil.copy(OLD, folder / "model_index.json")
    pipeline = StableVideo3DPipeline.from_pretrained(folder)
    assert type(pipeline.unet) is StableVideo3DUNet and pipeline.takes_pose
