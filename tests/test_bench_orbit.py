"""benchmarks/orbit.py: its arithmetic on made-up samples, and real orbits of tiny networks."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

from sv3d_pipe.errors import UserError

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def bench():
    """The modules of the benchmark, which lies outside the package."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        yield argparse.Namespace(
            **{name: importlib.import_module(name) for name in ("orbit", "orbit_watch", "orbit_contenders")}
        )
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.fixture
def task(bench):
    """Three frames of 64 px by networks of about a million weights."""
    network = bench.orbit.small()
    network["unet"] |= {"block_out_channels": [32] * 4, "num_attention_heads": [1] * 4}
    network["vae"] |= {"block_out_channels": [32] * 4}
    return bench.orbit_watch.Task(network, 64, 3, 2, 2.5, "cpu", "float32", False, 0, "", "")


def sample(bench, seconds: float, peak: int):
    return bench.orbit_watch.Sample(0.0, seconds, 0.0, None, peak, None, True, (1, 2), "")


def test_ratios_pair_the_rounds_before_the_median(bench):
    """2, 3 and 1 times slower: median 2. Of the seconds alone the medians would give 12 / 8."""
    ours, other = (10.0, 4.0, 8.0), (20.0, 12.0, 8.0)
    done = [{"ours": sample(bench, a, 100), "x": sample(bench, b, 150)} for a, b in zip(ours, other)]
    row = bench.orbit.row(done, "x", steps=24)
    assert row["steps/ours"] == 2.0
    assert row["peak/ours"] == 1.5
    assert row["core-s/ours"] is None and row["reserved GB"] is None
    assert row["steps/s"] == 24 / 12
    assert row["min-max"] == "8.00-20.00"
    assert bench.orbit.median_ratio([{"x": done[0]["x"]}], "x", lambda s: s.steps_s) is None


def test_rounds_alternate_and_leave_out_what_failed(bench):
    asked = []

    def attempt(name):
        asked.append(name)
        return "not installed" if name == "b" else sample(bench, 1.0, 1)

    done, failed = bench.orbit.rounds(["a", "b", "c"], 2, attempt)
    assert asked == ["a", "b", "c", "a", "c"]
    assert failed == {"b": "not installed"}
    assert [sorted(r) for r in done] == [["a", "c"], ["a", "c"]]


def test_a_program_that_is_not_there_is_a_line(bench, task, tmp_path, monkeypatch):
    assert "--port" in bench.orbit_watch.alone("port", task)
    monkeypatch.setattr(sys, "path", [*sys.path])
    with pytest.raises(ImportError, match="diffusers_sv3d") as caught:
        bench.orbit_contenders.port(dataclasses.replace(task, port=str(tmp_path)))
    assert bench.orbit_watch.reason(caught.value) == "No module named 'diffusers_sv3d'"


@pytest.mark.parametrize("low_vram", [False, True])
def test_phases_of_a_real_orbit(bench, task, low_vram):
    contender = bench.orbit_contenders.ours(dataclasses.replace(task, low_vram=low_vram))
    decode, calls = contender.decoder[0].decode, []
    contender.unet.register_forward_hook(lambda *_: calls.append(1))
    with bench.orbit_watch.stopwatch(contender, "cpu") as stamps:
        frames = contender.paint(2)
    assert frames.shape == (3, 64, 64, 3) and np.isfinite(frames).all()
    assert len(calls) == (4 if low_vram else 2)
    assert len(stamps) == 4 and stamps == sorted(stamps)
    assert contender.decoder[0].decode == decode and not contender.unet._forward_pre_hooks


def test_the_stock_pipeline_is_of_equal_size(bench, task):
    """The first layer of the extra numbers alone differs: 768 inputs for 1280, to 4 x 32 values."""
    ours, stock = (bench.orbit_contenders.ours(task), bench.orbit_contenders.stock(task))
    assert ours.weights[0] - stock.weights[0] == (1280 - 768) * 4 * 32
    measured = bench.orbit_watch.measure(stock, 2, "cpu")
    assert measured.finite and min(measured.encode_s, measured.steps_s, measured.decode_s) > 0
    assert measured.peak > 4 * stock.weights[1]


def test_no_weight_matrix_is_zero(bench, task):
    unet = bench.orbit_contenders.ours(task).unet
    assert all(p.abs().max() > 0 for p in unet.parameters() if p.ndim > 1)


@pytest.mark.parametrize(
    ("change", "word"),
    [({"size": 100}, "multiple of 64"), ({"guidance": 1.0}, "above 1"), ({"cap_gb": 12.0}, "CUDA devices")],
)
def test_wishes_that_cannot_be_compared(bench, change, word):
    options = {"network": "small", "size": 64, "frames": 3, "steps": 2, "guidance": 2.5, "device": "cpu"}
    options |= {"dtype": None, "low_vram": False, "cap_gb": 0.0, "rounds": 1, "port": "", "stability": ""}
    assert bench.orbit.task_of(argparse.Namespace(**options)).dtype == "float32"
    with pytest.raises(UserError, match=word):
        bench.orbit.task_of(argparse.Namespace(**options | change))
