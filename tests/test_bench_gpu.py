"""benchmarks/gpu.py: what it writes, in which order, and when it stops; the numbers themselves need a GPU."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sv3d_pipe.errors import UserError

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def gpu():
    """The script, which lies outside the package."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        import gpu

        yield gpu
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))


def bench_of(gpu, folder: Path, seconds: float = 100):
    log = gpu.Log(folder / "numbers.jsonl", time.monotonic())
    return gpu.Bench("cpu", True, log, seconds)


def rows(bench) -> list[dict]:
    return [json.loads(line) for line in bench.log.path.read_text().splitlines()]


def test_a_section_fails_alone_and_none_starts_without_time(gpu, tmp_path, monkeypatch):
    def broken(bench):
        raise ValueError("no such luck")

    def working(bench):
        bench.log.say("answer", number=42)

    sections = {
        "broken": gpu.Section(broken, 0),
        "long": gpu.Section(working, 1000),
        "short": gpu.Section(working, 1),
    }
    monkeypatch.setattr(gpu, "SECTIONS", sections)
    bench = bench_of(gpu, tmp_path)
    assert gpu.measure(bench, list(sections)) == []
    assert [row["what"] for row in rows(bench)] == ["failed", "skipped", "answer"]
    assert rows(bench)[0]["error"] == "ValueError: no such luck"


def test_where_the_device_no_longer_answers_the_rest_is_left_to_a_new_process(gpu, tmp_path, monkeypatch):
    def broken(bench):
        raise RuntimeError("an illegal memory access was encountered")

    monkeypatch.setattr(gpu, "SECTIONS", {name: gpu.Section(broken, 0) for name in ("a", "b", "c")})
    monkeypatch.setattr(gpu, "answers", lambda bench: False)
    assert gpu.measure(bench_of(gpu, tmp_path), ["a", "b", "c"]) == ["b", "c"]


def test_it_ends_itself_at_the_given_second(tmp_path):
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), "--tiny", "--device", "cpu"]
    command += ["--seconds", "1", "--only", "road", "-o", str(tmp_path / "numbers.jsonl")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    said = [json.loads(line)["what"] for line in (tmp_path / "numbers.jsonl").read_text().splitlines()]
    assert said[-1] in ("stopped: time is up", "done")  # the second may pass while it is still importing
    assert "nerf" not in said


def test_the_table_needs_a_card(gpu, monkeypatch):
    with pytest.raises(UserError, match="--tiny"):
        gpu.arguments(["--device", "cpu"])


def test_steps_are_clocked_and_looked_at_by_number(gpu):
    from gpu_watch import Steps

    seen = []
    steps = Steps("cpu", "fit", {n: lambda n=n: seen.append(n) for n in (0, 2, 9)})
    with steps.context.bar("fit", 3) as bar:
        for _ in range(3):
            bar.update()
    with replace(steps.context, device="cpu").bar("other", 1) as bar:
        bar.update()
    assert seen == [0, 2]
    assert steps.bars["fit"].done == 3 and steps.bars["other"].done == 1
    assert len(steps.bars["fit"].stamps) == 4 and steps.bars["fit"].median_ms(first=0) >= 0


def test_errors_are_shares_of_the_largest_value(gpu):
    from gpu_parity import error

    assert error(torch.tensor([4.0, 0.5]), torch.tensor([4.0, 0.1])) == pytest.approx(0.1)
