"""Number formats, free memory, and the ways in which memory runs out."""

import pytest
import torch

from sv3d_pipe.device import free_bytes, is_out_of_memory, network_dtype


@pytest.mark.parametrize(
    "wanted, device, fast, expected",
    [
        ("auto", "cuda:1", True, "float16"),
        ("auto", "cpu", True, "bfloat16"),
        ("auto", "cpu", False, "float32"),
        ("auto", "mps", False, "float32"),
        ("bfloat16", "cuda", True, "bfloat16"),
        ("float32", "cpu", True, "float32"),
    ],
)
def test_number_format(monkeypatch, wanted, device, fast, expected):
    monkeypatch.setattr("sv3d_pipe.device.prefers_bfloat16", lambda device: fast)
    assert network_dtype(wanted, device) == expected


def test_free_memory():
    assert 0 < free_bytes("cpu") < 2**50


def test_free_memory_of_a_device_counts_what_the_allocator_holds_unused(monkeypatch):
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda device: (1000, 9000))
    monkeypatch.setattr("torch.cuda.memory_reserved", lambda device: 300)
    monkeypatch.setattr("torch.cuda.memory_allocated", lambda device: 200)
    assert free_bytes("cuda") == 1100


@pytest.mark.parametrize(
    "error, expected",
    [
        (torch.cuda.OutOfMemoryError("CUDA out of memory."), True),
        (MemoryError(), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_ways_of_running_out_of_memory(error, expected):
    assert is_out_of_memory(error) == expected
