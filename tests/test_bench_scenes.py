"""benchmarks/scenes.py: a scene of toys is composed, photographed and placed again."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import trimesh

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def bench():
    sys.path.insert(0, str(BENCHMARKS))
    yield importlib.import_module("scenes")
    sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toys")
    shapes = {
        "box": trimesh.creation.box((1, 2, 1)).subdivide(),
        "ball": trimesh.creation.icosphere(2),
        "rod": trimesh.creation.cylinder(0.4, 1.2),
    }
    for name, shape in shapes.items():
        shape.export(folder / f"{name}.ply")
    return folder


def test_true_meshes_come_back_to_their_places(bench, toys):
    truth = bench.compose(sorted(toys.iterdir()), np.random.default_rng(1))
    subjects = bench.true_subjects(truth)
    found = bench.arrange(subjects, truth.camera)
    for row in bench.errors(truth, subjects, found):
        assert row["position"] < 0.03 and row["size"] < 0.03 and row["iou"] > 0.95 and row["on_ground"]
    wrong = bench.arrange(
        subjects, bench.replace(truth.camera, elevation_deg=truth.camera.elevation_deg + 20)
    )
    assert max(row["position"] for row in bench.errors(truth, subjects, wrong)) > 0.03


def test_objects_hide_each_other_little_and_lie_within_the_photo(bench, toys):
    for seed in range(3):
        truth = bench.compose(sorted(toys.iterdir()), np.random.default_rng(seed))
        assert 2 <= len(truth.objects) <= 3
        assert truth.rgba.shape[1:] == (bench.HEIGHT, bench.WIDTH, 4)
        assert (truth.rgba[..., 3].sum(0) <= 1 + 1e-5).all()
        border = np.ones((bench.HEIGHT, bench.WIDTH), bool)
        border[3:-3, 3:-3] = False
        assert not truth.photo[border, 3].any()


def test_the_command(bench, toys, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        sys, "argv", ["scenes.py", "--objects", str(toys), "--count", "1", "--out", str(tmp_path)]
    )
    bench.main()
    rows = json.loads((tmp_path / "true" / "scenes.json").read_text())
    assert {"object", "position", "size", "iou", "on_ground"} == rows[0].keys()
    assert "1 scenes" in capsys.readouterr().out and (tmp_path / "true" / "00" / "scene.png").exists()
