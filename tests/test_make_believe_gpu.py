"""The tests of on_make_believe_gpu.py and of the budgets on that device, in processes of their own."""

import subprocess
import sys
from pathlib import Path

import pytest

ROADS, SV3D = "road or capture", "sv3d or prior"


@pytest.mark.parametrize("part", [ROADS, SV3D, f"not ({ROADS} or {SV3D})"])
def test_a_part_of_them(part):
    run("on_make_believe_gpu.py", "-k", part)


def test_the_budgets_of_nerf():
    run("gpu_budgets_nerf.py")


def test_the_budgets_of_refinement():
    run("gpu_budgets_refine.py")


def run(name: str, *options: str) -> None:
    file = Path(__file__).with_name(name)
    command = [sys.executable, "-m", "pytest", "-n", "0", "--tb", "short", *options, str(file)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=file.parents[1])
    assert done.returncode == 0, done.stdout[-6000:]
