"""What a stage is given besides its config and inputs: device, seed, progress, a place to resume from."""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from sv3d_pipe.errors import Cancelled
from sv3d_pipe.files import sync

if TYPE_CHECKING:
    import torch

DIGEST_BYTES = hashlib.sha256().digest_size  # of the content, at the beginning of a checkpoint


class Bar(Protocol):
    """One progress bar. ``metric`` is the short text shown behind it, e.g. ``"31.2 dB"``."""

    def update(self, advance: int = 1, metric: str | None = None) -> None: ...


def _unheard(sentence: str) -> None:
    pass


def _never() -> bool:
    return False


class SilentBar:
    def update(self, advance: int = 1, metric: str | None = None) -> None:
        pass


@contextmanager
def _silent_bar(title: str, total: int):
    yield SilentBar()


@dataclass(frozen=True)
class _Watched:
    """A bar that also asks, at every step, whether to stop."""

    bar: Bar
    check: Callable[[], None]

    def update(self, advance: int = 1, metric: str | None = None) -> None:
        self.bar.update(advance, metric)
        self.check()


def resume_generator(generator: torch.Generator, state: torch.Tensor) -> None:
    """Put a generator where a checkpoint's :meth:`torch.Generator.get_state` left it.

    A CPU and a GPU know different kinds of state; on another kind of device its numbers go on from another seed.
    """
    if len(state) == len(generator.get_state()):
        generator.set_state(state.cpu())
    else:
        generator.manual_seed(generator.initial_seed() + 1)


def _on_cpu(state: Any) -> Any:
    """Nested dictionaries and lists with their tensors on the CPU."""
    if isinstance(state, dict):
        return {key: _on_cpu(value) for key, value in state.items()}
    if isinstance(state, (list, tuple)):
        return type(state)(map(_on_cpu, state))
    return state.cpu() if hasattr(state, "cpu") else state


class Checkpoint:
    """State inside one long stage, so that a killed run continues where it was.

    Args:
        path: file to keep the state in; None keeps nothing.
        every_s: seconds between two writes.
    """

    def __init__(self, path: Path | None = None, every_s: float = 20.0):
        self.path = path
        self.every_s = every_s
        self._last = time.monotonic()

    def load(self) -> dict[str, Any] | None:
        """The last state saved, its tensors on the CPU; the one before if that is damaged; None if both are.

        Only tensors and plain values are read back, never code.
        """
        if self.path is None:
            return None
        states = (self._read(path) for path in (self.path, self._before))
        return next((state for state in states if state is not None), None)

    @property
    def _before(self) -> Path:
        return self.path.with_suffix(f".before{self.path.suffix}")

    @staticmethod
    def _read(path: Path) -> dict[str, Any] | None:
        """A state, if the file is there and its content has the hash that it begins with."""
        import pickle

        import torch

        try:
            content = path.read_bytes()
            digest, body = content[:DIGEST_BYTES], content[DIGEST_BYTES:]
            if hashlib.sha256(body).digest() != digest:
                return None
            return torch.load(io.BytesIO(body), weights_only=True, map_location="cpu")
        except (OSError, EOFError, RuntimeError, ValueError, KeyError, pickle.UnpicklingError):
            return None

    def save(self, state: Callable[[], dict[str, Any]]) -> None:
        """Write ``state()`` if the last write is long enough ago: whole, hashed, and the one before is kept.

        Tensors are written as the CPU's, so that a run may go on where there is no such device.
        """
        import torch

        if self.path is None or time.monotonic() - self._last < self.every_s:
            return
        written = io.BytesIO()
        torch.save(_on_cpu(state()), written)
        body = written.getbuffer()
        partial = self.path.with_suffix(".partial")
        partial.unlink(missing_ok=True)
        try:
            with partial.open("xb") as file:  # a link in its place would be followed
                file.write(hashlib.sha256(body).digest())
                file.write(body)
            sync(partial)
        except OSError:  # a full disk
            partial.unlink(missing_ok=True)
            raise
        if self.path.exists():
            self.path.replace(self._before)
        partial.replace(self.path)
        self._last = time.monotonic()


@dataclass
class Context:
    """The surroundings of a stage.

    Attributes:
        device: "cpu", "cuda" or "cuda:N".
        seed: every random number of a stage comes from :meth:`generator`.
        open_bar: (title, total) -> a progress bar, as :meth:`bar` hands it on.
        say: tells the user a sentence that is not a warning.
        warnings: sentences for the user; printed and kept in the stage's record.
        checkpoint: in-stage state for resuming.
        cancelled: whether the run should end; :meth:`bar` asks after every step.
    """

    device: str = "cpu"
    seed: int = 23
    open_bar: Callable[[str, int], Any] = _silent_bar
    say: Callable[[str], None] = _unheard
    warnings: list[str] = field(default_factory=list)
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    cancelled: Callable[[], bool] = _never

    @contextmanager
    def bar(self, title: str, total: int):
        """A progress bar: ``with context.bar("nerf", total=600) as bar: bar.update(1, "31 dB")``.

        Its steps raise :class:`Cancelled` once the run is.
        """
        self.stop_if_cancelled()
        with self.open_bar(title, total) as bar:
            yield _Watched(bar, self.stop_if_cancelled)

    def stop_if_cancelled(self) -> None:
        """For long work without a bar. Raises Cancelled."""
        if self.cancelled():
            raise Cancelled("The run was canceled. What is finished is kept.")

    def warn(self, sentence: str) -> None:
        self.warnings.append(sentence)

    def generator(self, name: str, device: str | None = None) -> torch.Generator:
        """A torch generator on ``device``, seeded by the run's seed and ``name`` (stage, purpose).

        Args:
            device: another one than the context's.
        """
        import torch

        digest = hashlib.sha256(f"{self.seed}:{name}".encode()).digest()
        return torch.Generator(device or self.device).manual_seed(int.from_bytes(digest[:7], "big"))
