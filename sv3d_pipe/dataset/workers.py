"""Work shared out over processes that survive bad work, obey Ctrl-C and never outlive their parent."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

T = TypeVar("T")


def each(jobs: list[T], work: Callable[[T], None], give_up: Callable[[T], None], workers: int) -> Iterator[T]:
    """The jobs as they are done, in any order; one worker is this very process.

    A mesh may kill the process that reads it, or several at once may want too much memory. What was under
    way when a worker died is tried again, one by one; ``give_up`` is called for what kills a
    worker that has nothing else to do.
    """
    if workers == 1 or len(jobs) < 2:
        for job in jobs:
            work(job)
            yield job
        return
    waiting = iter(jobs)
    while True:
        suspects: list[T] = []
        yield from _together(waiting, work, min(workers, len(jobs)), suspects)
        if not suspects:
            return
        for job in suspects:
            culprit: list[T] = []
            yield from _together(iter([job]), work, 1, culprit)
            if culprit:
                give_up(job)
                yield job


def _together(
    waiting: Iterator[T], work: Callable[[T], None], workers: int, suspects: list[T]
) -> Iterator[T]:
    """The jobs as processes finish them, until all are done or a process dies: then ``suspects`` says in what."""
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _start_worker)
    running: dict[Future, T] = {}
    try:
        while True:
            while len(running) < 2 * workers and (job := next(waiting, None)) is not None:
                suspects.append(job)
                running[pool.submit(work, job)] = job
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                future.result()
                suspects.remove(running[future])
                yield running.pop(future)
    except BrokenProcessPool:
        return
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start_worker() -> None:
    """In a new worker: Ctrl-C is the parent's business, and there is no life without a parent."""

    def follow() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=follow, daemon=True).start()


def one_thread_if_worker() -> None:
    """Processes share the processors already: in a worker numba and torch get one thread."""
    if multiprocessing.parent_process() is not None:
        import numba
        import torch

        numba.set_num_threads(1)
        torch.set_num_threads(1)
