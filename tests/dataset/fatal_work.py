"""Work for a worker process that one job kills; a module of its own so that workers can import it."""

import os
from pathlib import Path


def touch_or_die(folder: Path, job: int) -> None:
    if job == 2:
        os._exit(7)
    (folder / str(job)).touch()
