"""Work shared out over processes that survive bad work, obey Ctrl-C and never outlive their parent."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, TypeVar

T, R = TypeVar("T"), TypeVar("R")
THREADS = (
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENCV_FOR_THREADS_NUM",
)  # fmt: skip
GRACE_S = 5.0  # what a process that is told to end has for it
SPAWN = multiprocessing.get_context("spawn")
_to_parent: Connection  # in a worker


def each(
    jobs: Iterable[T],
    work: Callable[[T], R],
    give_up: Callable[[T], R],
    places: Sequence[Mapping[str, str]],
    hear: Callable[[Any], None] = lambda message: None,
) -> Generator[tuple[T, R], None, None]:
    """The jobs and what ``work`` makes of them as they are done, in any order; no places are this process.

    Work may kill its process, or that of several jobs at once may want too much memory. The job of a process that
    died is tried once more, in a fresh process, alone and after all the others. Closing the generator ends the
    processes.

    Args:
        jobs: a job is taken from them when a process is free for it.
        work: what it is, gives and raises must be picklable; what it raises ends everything, and is raised here.
        give_up: makes the result of a job that killed two processes.
        places: for each process, what it finds in its environment from the first import on.
        hear: gets what the work hands to :func:`tell`.
    """
    if not places:
        for job in jobs:
            yield job, work(job)
        return
    suspects: list[T] = []
    yield from _together(jobs, work, places, suspects, hear)
    for job in suspects:
        culprit: list[T] = []
        yield from _together([job], work, places[:1], culprit, hear)
        if culprit:
            yield job, give_up(job)


def with_threads(count: int) -> dict[str, str]:
    """The environment of a process in which torch, numba, OpenCV and linear algebra use ``count`` threads."""
    return dict.fromkeys(THREADS, str(count))


def tell(message: Any) -> None:
    """Send something picklable from the work in a process to who hears it, before its result."""
    _to_parent.send(_Told(message))


def _together(
    jobs: Iterable[T],
    work: Callable[[T], R],
    places: Sequence[Mapping[str, str]],
    died: list[T],
    hear: Callable[[Any], None],
) -> Iterator[tuple[T, R]]:
    """The jobs that processes finish, and their results; ``died`` gets those whose process died."""
    waiting = iter(jobs)
    workers = [_Worker(work, place) for place in places]
    idle, busy = list(workers), {}
    try:
        while True:
            while idle and (job := next(waiting, None)) is not None:
                worker = idle.pop(0)
                busy[worker.begin(job)] = worker
            if not busy:
                return
            for pipe in wait(list(busy)):
                worker = busy[pipe]
                answer = worker.answer()
                if isinstance(answer, _Told):
                    hear(answer.message)
                    continue
                idle.append(busy.pop(pipe))
                if answer is None:
                    died.append(worker.job)
                else:
                    yield worker.job, answer[0]
    finally:
        for worker in workers:
            worker.tell_to_end()
        for worker in workers:
            worker.end()


class _Worker(Generic[T, R]):
    """A process that does one job after the other; it starts with the first, and anew with the next after it died.

    Attributes:
        job: the one that was begun last.
    """

    job: T

    def __init__(self, work: Callable[[T], R], place: Mapping[str, str]):
        self.work, self.place = work, place
        self._process: Any = None

    def begin(self, job: T) -> Connection:
        """Hand out a job; what is returned can be waited for."""
        if self._process is None:
            self._pipe, theirs = SPAWN.Pipe()
            arguments = (self.work, theirs, os.getcwd())
            self._process = SPAWN.Process(target=_serve, args=arguments, daemon=True)
            with _environment(self.place):
                self._process.start()
            theirs.close()
        self.job = job
        with suppress(OSError):  # it died since the last job: answer() will tell
            self._pipe.send(job)
        return self._pipe

    def answer(self) -> tuple[R] | _Told | None:
        """What the work made of the job, or tells; None if it killed the process. Raises what the work raised."""
        try:
            answer = self._pipe.recv()
        except (EOFError, OSError):
            self.tell_to_end()
            self.end()
            return None
        if isinstance(answer, _Told):
            return answer
        result, error, trace = answer
        if error is not None:
            raise error from _InWorker(trace)
        return (result,)

    def tell_to_end(self) -> None:
        if self._process is not None:
            self._process.terminate()

    def end(self) -> None:
        """Wait until the process has ended, by force if need be."""
        if self._process is not None:
            self._process.join(GRACE_S)
            self._process.kill()
            self._process.join()
            self._pipe.close()
            self._process = None


@dataclass(frozen=True)
class _Told:
    message: Any


class _InWorker(Exception):
    """Where in the worker's code an error was raised: the traceback as text."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Variables that a process started meanwhile inherits."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _serve(work: Callable[[T], R], pipe: Connection, folder: str) -> None:
    """A worker's life: (result, error, traceback) for every job that comes."""
    global _to_parent
    _to_parent = pipe
    _obey_the_parent()
    os.chdir(folder)  # spawned processes start where the parent once started
    while True:
        try:
            job = pipe.recv()
        except EOFError:
            return
        try:
            answer = work(job), None, ""
        except Exception as error:
            answer = None, error, traceback.format_exc()
        pipe.send(answer)


def _obey_the_parent() -> None:
    """In a new worker: Ctrl-C is the parent's business, its word ends all work, and there is no life without it."""

    def follow() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # locks are released, children of the work ended
    threading.Thread(target=follow, daemon=True).start()
