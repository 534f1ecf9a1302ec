"""Runs small roads in forked processes and kills them: started once, because imports take longer than the roads.

Reads commands, one line of JSON each: the arguments of :func:`work`, ``kill_after_s`` (null: let it end), and
``fork`` (false: work in this process, so that all that is loaded late is there for the forks). Answers each with a line of JSON: the seconds it took, and the exit status.
"""

import functools
import json
import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path

from third_kinds import Billiards

from sv3d_pipe import Config, Image2Mesh, pipeline
from sv3d_pipe.export import export  # noqa: F401  (what the stages import late)
from sv3d_pipe.nerf import fit_field  # noqa: F401
from sv3d_pipe.orbit import paint  # noqa: F401
from sv3d_pipe.prep import frame  # noqa: F401
from sv3d_pipe.refine import fit_mesh  # noqa: F401
from sv3d_pipe.road import run, workers
from sv3d_pipe.road.batch import run_batch
from sv3d_pipe.road.report import Reporter

SMALL = {
    "prep.size": 96,
    "orbit.azimuths": "45,90,135,180,225,270,315,360",
    "nerf.steps": 50,
    "nerf.levels": 4,
    "nerf.table_log2": 10,
    "nerf.samples": 2048,
    "nerf.surface": 32,
    "refine.steps": 15,
    "refine.grid": 16,
    "refine.render": 48,
    "refine.sds": "on",
    "refine.sds_every": 2,
    "refine.lighting": True,
    "export.format": "glb,obj",
    "export.faces": 500,
    "export.texture": 64,
}


class Converter(Image2Mesh):
    """The real stages with a painter of balls, and a checkpoint every tenth of a second."""

    def __init__(self, side, reporter):
        super().__init__(
            Config().replace(SMALL | {"export.turntable": side >= 96}),
            23,
            "cpu",
            reporter,
            model=Billiards(side),
        )


def work(verb: str, source: str, out: str, side: int) -> None:
    """One photo (``run``) or a folder of them (``batch``), painted ``side`` pixels wide."""
    if verb == "run":
        Converter(side, Reporter())(Path(source), Path(out))
    else:
        items = run_batch(functools.partial(Converter, side), Reporter(), Path(source), Path(out))
        assert all(item.error is None for item in items), items


def serve() -> None:
    run.Checkpoint = functools.partial(run.Checkpoint, every_s=0.1)
    workers.SPAWN = multiprocessing.get_context("fork")  # a batch's process, too, has all this
    pipeline.refuse_forks = lambda: None  # forks are quick, and safe with one thread
    for line in sys.stdin:
        command = json.loads(line)
        kill_after_s, fork = command.pop("kill_after_s"), command.pop("fork")
        began, process = time.monotonic(), os.fork() if fork else None
        if process is None:
            work(**command)
            print("{}", flush=True)
            continue
        if process == 0:
            status = 1
            try:
                work(**command)
                status = 0
            finally:
                os._exit(status)
        if kill_after_s is not None:
            time.sleep(kill_after_s)
            os.kill(process, signal.SIGKILL)
        _, status = os.waitpid(process, 0)
        print(json.dumps({"seconds": time.monotonic() - began, "status": status}), flush=True)


if __name__ == "__main__":
    serve()
