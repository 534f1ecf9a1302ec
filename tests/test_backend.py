"""One table says which implementation runs where; the stages and the doctor read the same one."""

import pytest
import torch

from sv3d_pipe import backend
from sv3d_pipe.backend import OPERATIONS, pick
from sv3d_pipe.doctor import examine


@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_reference_runs_anywhere_and_comes_last(operation, monkeypatch):
    monkeypatch.setattr(backend, "kaolin_march", lambda: None)
    assert OPERATIONS[operation][-1] == "torch"
    assert pick(operation, "mps") == pick(operation, "cpu", torch.float64) == "torch"


def test_numba_is_for_float32_on_the_cpu():
    assert pick("hash grid", "cpu", torch.float32, torch.float32) == "numba"
    assert pick("hash grid", torch.device("cpu"), torch.float32, torch.float64) == "torch"
    assert pick("ray marching", torch.device("cuda", 0)) == "torch"


def test_the_hash_grid_gathers_float32_on_cuda():
    assert pick("hash grid", "cuda:1", torch.float32, torch.float32) == "gather"
    assert pick("hash grid", torch.device("cuda", 0), torch.float64, torch.float32) == "torch"


def test_kaolin_is_for_cuda_where_it_works(monkeypatch):
    monkeypatch.setattr(backend, "kaolin_march", lambda: print)
    assert pick("marching tetrahedra", "cuda:1") == "kaolin"
    assert pick("marching tetrahedra", "cpu") == "torch"


def test_the_doctor_prints_what_would_be_picked(tmp_path):
    operations = examine(tmp_path)["operations"]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    assert {name: operations[name] for name in OPERATIONS} == {
        name: f"{pick(name, device)} on {device}" for name in OPERATIONS
    }
    assert operations["rasterization"] == "numba on the CPU"
