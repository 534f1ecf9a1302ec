"""One table says which implementation runs where; the stages and the doctor read the same one."""

import pytest
import torch

from sv3d_pipe.backend import OPERATIONS, pick
from sv3d_pipe.doctor import _operations, examine


@pytest.mark.parametrize("operation", OPERATIONS)
def test_what_runs_anywhere_comes_last(operation):
    assert OPERATIONS[operation][-1] == ("numba" if operation == "rasterization" else "torch")
    assert pick(operation, "mps") == pick(operation, "mps", torch.float64) == OPERATIONS[operation][-1]


def test_numba_is_for_float32_on_the_cpu():
    assert pick("hash grid", "cpu", torch.float32, torch.float32) == "numba"
    assert pick("hash grid", torch.device("cpu"), torch.float32, torch.float64) == "torch"
    assert pick("ray marching", torch.device("cuda", 0)) == "torch"


def test_pictures_are_rasterized_by_boxes_on_cuda_alone():
    assert [pick("rasterization", d) for d in ("cuda:1", "cpu", "mps")] == ["boxes", "numba", "numba"]


def test_the_hash_grid_gathers_float32_on_cuda():
    assert pick("hash grid", "cuda:1", torch.float32, torch.float32) == "gather"
    assert pick("hash grid", torch.device("cuda", 0), torch.float64, torch.float32) == "torch"


def test_the_doctor_prints_what_would_be_picked(tmp_path):
    operations = examine(tmp_path)["operations"]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    assert {name: operations[name] for name in OPERATIONS} == {
        name: f"{pick(name, device)} on {device}" for name in OPERATIONS
    }


def test_the_doctor_knows_that_numba_is_on_the_cpu():
    assert _operations("mps")["rasterization"] == "numba on the CPU"
    assert _operations("cuda:1")["rasterization"] == "boxes on cuda:1"
