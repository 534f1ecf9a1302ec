"""Finished workspaces that were damaged, and batches of mixed folders."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from inputs.case import Case
from inputs.pictures import disc, is_the_disc

PREP = ("prep", "{here}/photo.png", "-o", "{here}/out", "--size", "128")


def workspace(here: Path) -> Path:
    """A photo and its workspace after prep."""
    from sv3d_pipe import Image2Mesh
    from sv3d_pipe.road.report import make_reporter

    disc().save(here / "photo.png")
    to_mesh = Image2Mesh.from_preset(
        "draft", {"prep.size": 128}, device="cpu", reporter=make_reporter(quiet=True)
    )
    to_mesh(here / "photo.png", here / "out", until="prep")
    return here / "out"


def harmed(harm: Callable[[Path], object]) -> Callable[[Path], object]:
    return lambda here: harm(workspace(here))


def _replace(name: str, content: str | bytes):
    def harm(out: Path) -> None:
        (out / name).write_bytes(content if isinstance(content, bytes) else content.encode())

    return harm


def _edit(name: str, **fields):
    def harm(out: Path) -> None:
        document = json.loads((out / name).read_text())
        (out / name).write_text(json.dumps(document | fields))

    return harm


def _flip(name: str):
    def harm(out: Path) -> None:
        content = bytearray((out / name).read_bytes())
        content[len(content) // 2] ^= 4
        (out / name).write_bytes(content)

    return harm


def _elsewhere(name: str):
    def harm(out: Path) -> None:
        (out / name).rename(out.parent / "elsewhere")
        (out / name).symlink_to(out.parent / "elsewhere")

    return harm


def _photos(here: Path, *more: Callable[[Path], object]) -> None:
    (here / "photos").mkdir()
    disc().save(here / "photos" / "good.png")
    for write in more:
        write(here / "photos")


def _made(*names: str):
    """Workspaces of a batch whose objects are discs."""

    def right(here: Path) -> str | None:
        found = sorted(path.parent.parent.name for path in here.glob("out/**/1-prep/photo.png"))
        return None if found == sorted(names) else f"made {found}, not {sorted(names)}"

    return right


def cases() -> Iterator[Case]:
    def healed(name, harm):
        return Case("workspaces", name, PREP, harmed(harm), "", is_the_disc())

    stage, run, photo = "1-prep/stage.json", "run.json", "1-prep/photo.png"
    for file in (stage, run):
        for what, content in (
            ("empty", ""),
            ("a list", "[]"),
            ("null", "null"),
            ("a number", "7"),
            ("text", '"x"'),
            ("cut short", '{"stage": "pr'),
            ("NUL bytes", bytes(50)),
            ("100,000 brackets deep", "[" * 100_000),
        ):
            yield healed(f"{file} is {what}", _replace(file, content))
    for field, value in (
        ("files", []),
        ("files", None),
        ("files", {"photo.png": 3}),
        ("files", {}),
        ("metrics", 3),
        ("key", None),
        ("config", []),
        ("upstream", 3),
        ("seconds", "long"),
        ("warnings", {}),
        ("version", "x"),
    ):
        yield healed(f"stage.json: {field} is {json.dumps(value)}", _edit(stage, **{field: value}))
    for field, value in (
        ("config", 3),
        ("config", {"prep.size": "x"}),
        ("config", {"prep.nope": 3}),
        ("seed", "x"),
        ("photo", 3),
    ):
        yield healed(f"run.json: {field} is {json.dumps(value)}", _edit(run, **{field: value}))
    yield healed("the stage's picture is gone", lambda out: (out / photo).unlink())
    yield healed("a bit of the stage's picture is flipped", _flip(photo))
    yield healed("the stage's picture is empty", _replace(photo, b""))
    yield healed("stage.json is gone", lambda out: (out / stage).unlink())
    yield healed("run.json is gone", lambda out: (out / run).unlink())
    yield healed("the stage is a symlink to a folder elsewhere", _elsewhere("1-prep"))
    yield healed(
        "half a stage was left behind", lambda out: shutil.copytree(out / "1-prep", out / ".1-prep.partial")
    )
    yield Case(
        "workspaces",
        "a workspace whose photo is gone",
        ("prep", "{here}/out"),
        harmed(lambda out: (out.parent / "photo.png").unlink()),
        "photo.png",
    )
    yield Case(
        "workspaces", "a folder that is no workspace", ("nerf", "{here}"), lambda h: (h / "x.txt").touch()
    )

    def batch(name, *more, right=None, says=""):
        arguments = (
            "batch",
            "{here}/photos",
            "-o",
            "{here}/out",
            "--until",
            "prep",
            "--set",
            "prep.size=128",
        )
        return Case("batches", name, arguments, lambda h: _photos(h, *more), says, right)

    yield batch("one good photo", right=_made("good"))
    yield batch(
        "photos and texts", lambda f: (f / "readme.txt").touch(), right=_made("good"), says="left out|1"
    )
    yield batch(
        "a photo in a folder",
        lambda f: ((f / "sub").mkdir(), disc().save(f / "sub" / "other.png")),
        right=_made("good", "other"),
    )
    yield batch(
        "a photo named batch.json.png",
        lambda f: disc().save(f / "batch.json.png"),
        right=_made("good", "batch.json-png"),
    )
    yield batch("a named pipe among photos", lambda f: os.mkfifo(f / "pipe.png"), right=_made("good"))
    yield batch(
        "a linked folder",
        lambda f: (
            (f.parent / "far").mkdir(),
            disc().save(f.parent / "far" / "far.png"),
            (f / "link").symlink_to(f.parent / "far"),
        ),
        right=_made("good"),
        says="link",
    )
    yield Case(
        "batches",
        "an empty folder",
        ("batch", "{here}/photos", "-o", "{here}/out"),
        lambda h: (h / "photos").mkdir(),
        "no ",
    )
    yield Case(
        "batches",
        "a folder that does not exist",
        ("batch", "{here}/photos", "-o", "{here}/out"),
        lambda h: None,
        "photos",
    )
