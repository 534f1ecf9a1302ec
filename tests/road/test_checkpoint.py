"""The state inside a stage: whole, hashed, and the one before when the last is damaged."""

import numpy as np
import pytest
import torch

from sv3d_pipe.road.context import Checkpoint


def written(folder, steps) -> Checkpoint:
    checkpoint = Checkpoint(folder / ".nerf-0123.checkpoint", every_s=0)
    for step in steps:
        checkpoint.save(lambda step=step: {"step": step, "table": torch.arange(64.0) + step})
    return checkpoint


def test_the_last_state_is_read_back(tmp_path):
    checkpoint = written(tmp_path, [1, 2, 3])
    assert checkpoint.load()["step"] == 3 and checkpoint.load()["table"][0] == 3
    assert Checkpoint(checkpoint.path).load()["step"] == 3
    assert Checkpoint().load() is None and Checkpoint(tmp_path / "none").load() is None


@pytest.mark.parametrize("damage", ["bit", "cut", "empty", "gone"])
def test_a_damaged_state_is_never_taken_and_the_one_before_is(tmp_path, damage):
    checkpoint = written(tmp_path, [1, 2])
    content = bytearray(checkpoint.path.read_bytes())
    if damage == "gone":
        checkpoint.path.unlink()
    for place in np.random.default_rng(0).integers(0, len(content), 40):
        if damage == "bit":
            checkpoint.path.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
        elif damage == "cut":
            checkpoint.path.write_bytes(content[:place])
        elif damage == "empty":
            checkpoint.path.write_bytes(b"")
        assert checkpoint.load()["step"] == 1
    for path in tmp_path.glob("*.checkpoint"):
        path.write_bytes(b"\x80\x04K\x01.")  # a pickle
    assert checkpoint.load() is None


def test_files_lie_where_the_workspace_drops_them(tmp_path):
    written(tmp_path, [1, 2])
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [".nerf-0123.before.checkpoint", ".nerf-0123.checkpoint"]
