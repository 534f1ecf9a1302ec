"""kill -9 at random moments: a run that is taken up again leaves the bytes of one that was never killed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import killed_work
import numpy as np
import pytest
from PIL import Image

from sv3d_pipe.road.workers import with_threads


class Killer:
    """Roads in processes of their own.

    Args:
        side: of the painted frames in pixels; hollows are looked for from 96 on.
        threads: 1 lets all kernels be loaded once, before the forks; 0 is as many as the machine has.
    """

    def __init__(self, folder: Path, side: int, threads: int):
        self.folder, self.side = folder, side
        (folder / "in").mkdir()
        for number, name in enumerate(("a", "b")):
            picture = np.zeros((80, 80, 4), np.uint8)
            picture[10:70, 10 : 60 + 5 * number] = (200, 40 + 90 * number, 60, 255)
            Image.fromarray(picture).save(folder / "in" / f"{name}.png")
        command = [sys.executable, killed_work.__file__]
        place = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        if threads:
            place |= with_threads(threads) | {"NUMBA_THREADING_LAYER": "workqueue"}  # which survives a fork
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=place
        )
        self.go("run", "warm", fork=threads != 1)

    def go(self, verb: str, out: str, kill_after_s: float | None = None, fork: bool = True) -> dict:
        source = self.folder / ("in" if verb == "batch" else "in/a.png")
        command = {"verb": verb, "source": str(source), "out": str(self.folder / out), "side": self.side}
        self.process.stdin.write(json.dumps(command | {"kill_after_s": kill_after_s, "fork": fork}) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def files(self, out: str) -> dict[str, bytes]:
        """What the stages left, but for their records: those hold times."""
        root = self.folder / out
        kept = [path for path in sorted(root.rglob("*")) if path.is_file() and path.name != "stage.json"]
        kept = [path for path in kept if any(part[0].isdigit() for part in path.relative_to(root).parts)]
        return {path.relative_to(root).as_posix(): path.read_bytes() for path in kept}

    def end(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def killed_and_resumed(killer: Killer, verb: str, times: int) -> tuple[list[str], list[str]]:
    """Out of ``times`` kills: what differed from the whole run; and the last stage that each kill left."""
    whole = killer.go(verb, f"{verb}-whole")
    assert whole["status"] == 0 and len(killer.files(f"{verb}-whole")) > 15
    moments = np.random.default_rng().uniform(0, whole["seconds"], times)
    different, left = [], []
    for number, moment in enumerate(moments):
        out = f"{verb}-{number}"
        killer.go(verb, out, float(moment))
        left.append(
            max((path.parent.name for path in (killer.folder / out).rglob("stage.json")), default="-")
        )
        assert killer.go(verb, out)["status"] == 0, f"killed after {moment} s"
        expected, found = killer.files(f"{verb}-whole"), killer.files(out)
        assert expected.keys() == found.keys()
        names = [name for name in expected if expected[name] != found[name]]
        different += [f"killed after {moment} s: {names}"] if names else []
    return different, left


@pytest.fixture(scope="module")
def killer(tmp_path_factory, request):
    killer = Killer(tmp_path_factory.mktemp("kills"), *request.param)
    yield killer
    killer.end()


@pytest.mark.parametrize("killer", [(48, 1)], indirect=True)
@pytest.mark.parametrize(("verb", "times"), [("run", 3), ("batch", 2)])
def test_five_kills_end_with_the_same_bytes(killer, verb, times):
    assert killed_and_resumed(killer, verb, times)[0] == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("killer", "verb", "times"), [((96, 0), "run", 20), ((48, 0), "batch", 10)], indirect=["killer"]
)
def test_thirty_kills_end_with_the_same_bytes(killer, verb, times):
    different, left = killed_and_resumed(killer, verb, times)
    print(verb, {stage: left.count(stage) for stage in sorted(set(left))})
    assert different == []
