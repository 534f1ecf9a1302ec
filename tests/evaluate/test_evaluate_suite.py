"""A suite with a measurement that costs nothing: what is kept, what is measured again, what is written."""

import json

import numpy as np
import pytest

from sv3d_pipe.config import Config
from sv3d_pipe.errors import UserError
from sv3d_pipe.evaluate.display import Display
from sv3d_pipe.evaluate.suite import Options, Suite, run_suite, tables


class Counting:
    """Measures the length of a file; remembers which files it was asked for."""

    def __init__(self):
        self.measured = []
        self.trouble = {}

    def __call__(self, path, folder, options, display):
        self.measured.append(path.stem)
        if path.stem in self.trouble:
            raise self.trouble[path.stem]
        size = len(path.read_text())
        picture = np.full((8, 32, 3), size / 10)
        return {"good_cd": np.float64(size), "bad_cd": float("inf"), "options_size": options.size}, picture


@pytest.fixture
def counting():
    return Counting()


@pytest.fixture
def suite(counting):
    return Suite(
        "toy", "Toy", counting, ("nerf",), ("good", "bad"), ("cd",), ("good_cd",), "good_cd", False,
        ("cd",), "heading",
    )  # fmt: skip


@pytest.fixture
def objects(tmp_path):
    for name, text in (("a", "1"), ("b", "333"), ("c", "22")):
        (tmp_path / f"{name}.stl").write_text(text)
    return {name: tmp_path / f"{name}.stl" for name in "abc"}


def options(size=64, steps=5, **more):
    return Options(Config().replace({"nerf.steps": steps}), size, 0, "cpu", **more)


def go(suite, objects, out, given=None):
    return run_suite(suite, objects, given or options(), out, Display(quiet=True))


def test_scores_summary_and_worst(suite, objects, tmp_path):
    document = go(suite, objects, tmp_path / "out")
    assert [r["name"] for r in document["rows"]] == ["a", "b", "c"]
    assert document["summary"]["good"]["cd"] == {"mean": 2.0, "median": 2.0, "n": 3}
    assert document["summary"]["bad"] == {} and document["rows"][0]["bad_cd"] is None
    assert [w["name"] for w in document["worst"]] == ["b", "c", "a"]
    assert document["failed"] == [] and "0, 1]" in document["about"]["psnr, ssim, mse"]


def test_what_is_written(suite, objects, tmp_path):
    document = go(suite, objects, tmp_path / "out")
    assert json.loads((tmp_path / "out/toy.json").read_text()) == document
    text = (tmp_path / "out/toy.md").read_text()
    assert "| cd  | 2.00 / 2.00 |" in text and text.index("| b ") < text.index("| c ") < text.index("| a ")
    assert (tmp_path / "out/toy.png").read_bytes().startswith(b"\x89PNG")
    assert not list((tmp_path / "out").rglob("*.partial*"))
    assert [t.title for t in tables(suite, document, every_object=False)] == [
        "Toy, 3 objects, mean / median",
        "The 3 worst objects by good_cd",
    ]


def test_nothing_is_measured_twice(suite, counting, objects, tmp_path):
    first = go(suite, objects, tmp_path / "out")
    assert counting.measured == ["a", "b", "c"]
    again = go(suite, objects, tmp_path / "out")
    assert counting.measured == ["a", "b", "c"] and again["rows"] == first["rows"]
    go(suite, objects, tmp_path / "out", options(force=True))
    assert counting.measured == ["a", "b", "c"] * 2


def test_changed_bytes_or_settings_are_measured_again(suite, counting, objects, tmp_path):
    go(suite, objects, tmp_path / "out")
    objects["b"].write_text("4444")
    changed = go(suite, objects, tmp_path / "out")
    assert counting.measured == ["a", "b", "c", "b"] and changed["rows"][1]["good_cd"] == 4
    go(suite, objects, tmp_path / "out", options(steps=6))
    go(suite, objects, tmp_path / "out", options(steps=6, size=128))
    assert counting.measured[4:] == ["a", "b", "c"] * 2
    refine = Options(Config().replace({"nerf.steps": 6, "refine.steps": 7}), 128, 0, "cpu")
    go(suite, objects, tmp_path / "out", refine)  # a stage that the suite does not run
    assert len(counting.measured) == 10


def test_a_failing_object_is_listed_and_tried_again(suite, counting, objects, tmp_path):
    counting.trouble = {"a": UserError("No object to be seen."), "c": ValueError("odd")}
    document = go(suite, objects, tmp_path / "out")
    assert [r["name"] for r in document["rows"]] == ["b"]
    assert document["failed"][0] == {"name": "a", "error": "No object to be seen."}
    assert "ValueError: odd" in document["failed"][1]["error"]
    assert (tmp_path / "out/c/error.log").exists()
    assert "a failed: No object" in (tmp_path / "out/toy.md").read_text()
    counting.trouble = {}
    assert len(go(suite, objects, tmp_path / "out")["rows"]) == 3
    assert counting.measured == ["a", "b", "c", "a", "c"]


def test_when_all_fail_there_is_still_a_document(suite, counting, objects, tmp_path):
    counting.trouble = {name: UserError("No.") for name in "abc"}
    document = go(suite, objects, tmp_path / "out")
    assert document["rows"] == [] and len(document["failed"]) == 3
    assert tables(suite, document, every_object=True) == []


def test_an_interrupted_suite_goes_on(suite, counting, objects, tmp_path):
    counting.trouble = {"b": KeyboardInterrupt()}
    with pytest.raises(KeyboardInterrupt):
        go(suite, objects, tmp_path / "out")
    counting.trouble = {}
    assert len(go(suite, objects, tmp_path / "out")["rows"]) == 3
    assert counting.measured == ["a", "b", "b", "c"]
    (tmp_path / "out/a/scores.json").write_text('{"key": "half')  # as a full disk may leave it
    go(suite, objects, tmp_path / "out")
    assert counting.measured[-1] == "a"
