"""A few seconds of fuzzing for every reader of foreign files; ``make fuzz`` takes minutes."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("hypothesis")
from readers import READERS


@pytest.mark.parametrize("name", READERS)
def test_whatever_is_thrown_at_a_reader_is_read_or_refused(name):
    command = [
        sys.executable,
        str(Path(__file__).with_name("fuzz_reader.py")),
        name,
        "--examples",
        "150",
        "--seconds",
        "30",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr[-6000:]
    assert done.stdout.startswith(f"{name}: ") and int(done.stdout.split()[1]) >= 10
