"""benchmarks/more_photos.py with a road that costs nothing."""

import importlib
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import trimesh

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def bench():
    sys.path.insert(0, str(BENCHMARKS))
    yield importlib.import_module("more_photos")
    sys.path.remove(str(BENCHMARKS))


@pytest.fixture
def asked(bench, monkeypatch):
    """What was measured; each photo more brings .1 of CD, each degree of error costs .01, and a stage takes 2 s."""
    asked = []

    def measure(subject, folder, options, display):
        asked.append((folder.name, options.views, options.view_error_deg))
        cd = 0.5 - 0.1 * len(options.views) + 0.01 * options.view_error_deg
        row = {"export_cd": cd, "export_iou": 0.5} | {f"{stage}_seconds": 2.0 for stage in bench.PHOTO.stages}
        return row, np.ones((8, 32, 3))

    monkeypatch.setattr(bench, "PHOTO", replace(bench.PHOTO, measure=measure))
    return asked


def test_one_photo_alone_has_no_error(bench):
    assert bench.cases([1, 3], [0.0, 5.0]) == [
        ("1_photo", (), 0.0),
        ("3_photos_0_deg", (120.0, 240.0), 0.0),
        ("3_photos_5_deg", (120.0, 240.0), 5.0),
    ]


def test_the_command(bench, asked, tmp_path, monkeypatch, capsys):
    trimesh.creation.box().export(tmp_path / "box.ply")
    arguments = ["--objects", str(tmp_path), "--out", str(tmp_path / "out"), "--azimuths", "0,30"]
    monkeypatch.setattr(
        sys, "argv", ["more_photos.py", *arguments, "--photos", "1", "2", "--errors", "0", "5"]
    )
    bench.main()
    assert asked == [
        (name, views, error)
        for views, error in (((), 0.0), ((180.0,), 0.0), ((180.0,), 5.0))
        for name in ("box", "box@30")
    ]
    text = (tmp_path / "out/more_photos.md").read_text()
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()[2:]]
    assert lines[0] == ["case", "rows", "CD", "IoU", "PSNR of novel views", "seconds"]
    assert lines[2:] == [
        ["1_photo", "2", "0.5000", "0.5000", "", "10"],
        ["2_photos_0_deg", "2", "0.4000", "0.5000", "", "10"],
        ["2_photos_5_deg", "2", "0.4500", "0.5000", "", "10"],
    ]
    assert text in capsys.readouterr().out
    bench.main()
    assert len(asked) == 6
