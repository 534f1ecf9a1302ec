"""Stands for Image2Mesh in worker processes; a module of its own so that they can import it."""

import os
import signal
import sys
import time
from pathlib import Path

from sv3d_pipe.errors import UserError
from sv3d_pipe.road.batch import run_batch
from sv3d_pipe.road.records import StageRecord
from sv3d_pipe.road.report import Reporter
from sv3d_pipe.road.run import Result, StageRun


class Surroundings:
    """Does what the photo, a text, says; the metrics tell of the process that did it.

    ``ok``, ``bad`` (a user's error), ``die``, ``die once`` or ``sleep``. Every try leaves a line in the photo's
    ``.tries``.
    """

    def __init__(self, device, reporter):
        self.device, self.reporter = device, reporter

    def check(self, start="prep", until="export"):
        pass

    def __call__(self, photo, out, **run):
        word, tries = photo.read_text(), photo.with_suffix(".tries")
        with tries.open("a") as file:
            file.write(f"{os.getpid()}\n")
        if word == "bad":
            raise UserError(f"{photo} is not a picture.")
        if word == "die" or (word == "die once" and len(tries.read_text().split()) == 1):
            os.kill(os.getpid(), signal.SIGKILL)
        if word == "sleep":
            time.sleep(600)
        record = StageRecord("prep", 1, "key", {}, {}, 23, "cpu", {}, 0.1, 1.0, surroundings(), [f"{word}!"])
        return Result(out, None, (StageRun(record, skipped=False),), 0.1)


def surroundings() -> dict:
    import cv2
    import numba
    import torch

    return {
        "card": os.environ.get("CUDA_VISIBLE_DEVICES"),
        "threads": [torch.get_num_threads(), numba.get_num_threads(), cv2.getNumThreads()],
        "openblas": os.environ.get("OPENBLAS_NUM_THREADS"),
        "pid": os.getpid(),
    }


def make(reporter):
    return Surroundings("auto", reporter)


if __name__ == "__main__":
    import torch
    from card_work import make  # as the workers know it

    torch.cuda.device_count = lambda: 2
    run_batch(make, Reporter(), Path(sys.argv[1]), Path(sys.argv[2]))
