"""A few seconds of fuzzing for every reader of foreign files; ``make fuzz`` takes minutes."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("hypothesis")
HERE = Path(__file__).parent
# By name, so that nothing is imported that the child would import again: the keys of readers.READERS.
NAMES = ("pictures", "transforms", "settings", "meshes", "checkpoints", "records", "weights")


@pytest.mark.parametrize("name", NAMES)
def test_whatever_is_thrown_at_a_reader_is_read_or_refused(name):
    command = [sys.executable, str(HERE / "fuzz_reader.py"), name, "--examples", "150", "--seconds", "30"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr[-6000:]
    assert done.stdout.startswith(f"{name}: ") and int(done.stdout.split()[1]) >= 10
