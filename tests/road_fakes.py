"""Five tiny stages that count their work: each artifact is a text made of those it takes."""

import mmap
from dataclasses import dataclass
from pathlib import Path

from sv3d_pipe.road.run import Route, Stage
from sv3d_pipe.road.sources import PHOTO
from sv3d_pipe.road.workspace import STAGES

TAKES = {
    "prep": (),
    "orbit": ("prep",),
    "nerf": ("orbit",),
    "refine": ("prep", "orbit", "nerf"),
    "export": ("orbit", "refine"),
}


@dataclass
class Text:
    text: str

    def save(self, folder: Path) -> None:
        (folder / "mesh.glb").write_text(self.text)

    @classmethod
    def load(cls, folder: Path):
        return cls((folder / "mesh.glb").read_text())


class Log:
    """A list of words that forked processes share."""

    def __init__(self):
        self._shared = mmap.mmap(-1, 2**16)

    def append(self, word: str) -> None:
        end = self._shared.find(b"\0")
        self._shared[end : end + len(word) + 1] = f"{word} ".encode()

    def clear(self) -> None:
        self._shared[:] = bytes(len(self._shared))

    def words(self) -> list[str]:
        return self._shared[: self._shared.find(b"\0")].decode().split()

    def __iter__(self):
        return iter(self.words())

    def __len__(self) -> int:
        return len(self.words())

    def __eq__(self, other) -> bool:
        return self.words() == list(other)


class FakeRoad:
    """The stages, and what was done in which order.

    Attributes:
        worked, loaded: names of stages, in order. fail: stage -> exception that its next work raises.
        model: stands for the orbit model's weights.
    """

    def __init__(self):
        self.worked, self.loaded, self.fail, self.model = Log(), [], {}, "weights"
        self.stages = tuple(self._stage(name) for name in STAGES)
        self.route = Route(PHOTO, self.stages)

    def _stage(self, name):
        def work(road, context):
            if name in self.fail:
                raise self.fail.pop(name)
            self.worked.append(name)
            if name == "orbit":
                context.warn("the orbit is odd")
                context.warn("the orbit is odd")
            with context.bar(name, 2) as bar:
                bar.update(2, "done")
            taken = [road.artifact(taken).text for taken in TAKES[name]]
            start = road.source.read_text() if name == "prep" else name
            return Text(f"{start}({','.join(taken)})"), {"score_db": 20.0}

        def load(folder):
            self.loaded.append(name)
            return Text.load(folder)

        identity = {
            "prep": lambda road: {"photo": road.source.read_text()},
            "orbit": lambda road: {"model": self.model},
        }.get(name, lambda road: {})
        return Stage(name, 1, TAKES[name], work, load, identity)
