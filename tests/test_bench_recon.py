"""benchmarks/recon*.py: their arithmetic on made-up numbers, and every part once in small."""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from sv3d_pipe.config import Config
from sv3d_pipe.errors import UserError
from sv3d_pipe.geometry.tets import TetGrid, marching_tetrahedra
from sv3d_pipe.nerf import field as field_module
from sv3d_pipe.nerf.fit_field import fit_field
from sv3d_pipe.nerf.hashgrid import encode
from sv3d_pipe.road.context import Context

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
NAMES = ("rounds", "contenders", "fit", "stages", "growth")
SMALL = {
    "nerf.steps": 40, "nerf.samples": 2048, "nerf.levels": 4, "nerf.table_log2": 10, "nerf.finest": 64,
    "nerf.surface": 24, "refine.steps": 5, "refine.grid": 16, "refine.views_per_step": 2,
    "refine.render": 64, "export.texture": 64, "export.faces": 400, "export.turntable": False,
}  # fmt: skip


@pytest.fixture(scope="module")
def bench():
    """The modules of the benchmark, which lies outside the package."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        found = {name: importlib.import_module(f"recon_{name}") for name in NAMES}
        yield argparse.Namespace(
            recon=importlib.import_module("recon"), orbit=importlib.import_module("orbit"), **found
        )
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="module")
def config():
    return Config().replace(SMALL)


@pytest.fixture(scope="module")
def views(bench):
    return bench.stages.orbit_views(bench.stages.placed(3), 5, 64)


@pytest.fixture(scope="module")
def tiny(bench, config):
    """Settings and views of a fit that takes a blink even in plain torch."""
    return config.replace({"nerf.steps": 10}).nerf, bench.stages.orbit_views(bench.stages.placed(3), 3, 32)


@pytest.fixture(scope="module")
def fitted(config, views):
    return fit_field(config.nerf, views, Context())[0]


def test_exponent_of_a_power_law(bench):
    values = [10.0, 20.0, 40.0]
    assert bench.growth.exponent(values, [3 * v**1.7 for v in values]) == pytest.approx((1.7, 1.0))
    assert bench.growth.exponent(values, [5.0, 5.0, 5.0]) == pytest.approx((0.0, 1.0))
    # By hand, base 2: points (0, 0), (1, 1), (2, 4); least squares 2 x - 1/3, off by 1/3, 2/3, 1/3.
    assert bench.growth.exponent([1, 2, 4], [1, 2, 16]) == pytest.approx((2.0, 2 ** (2 / 3)))


def test_growth_takes_one_setting_at_a_time(bench):
    """Time grows with size squared and not with views; a setting that differs in both is not looked at."""
    growth, rows = bench.growth, []
    for views, size, step in [
        (20, 256, 4.0),
        (10, 256, 4.0),
        (40, 256, 4.0),
        (20, 128, 1.0),
        (40, 128, 99.0),
    ]:
        samples = [growth.Sample(step * factor, step, 7.0) for factor in (1.0, 1.0, 50.0)]
        rows.append(growth.row("nerf", growth.Setting(views, size), samples, steps=10))
    assert rows[0]["s/step"] == 4.0 and rows[0]["s in all"] == 4.0 + 10 * 4.0
    table = growth.growth(rows)
    assert [r["of"] for r in table] == ["nerf, views 10 to 40", "nerf, size 128 to 256"]
    assert table[1]["s/step"] == "+2.00 (x1.00)" and table[1]["peak MB"].endswith("0.00 (x1.00)")
    assert table[0]["s in all"].endswith("0.00 (x1.00)")


def test_settings_leave_the_middle_in_one_value(bench):
    largest = {"views": 20, "size": 256, "tets": 96}
    found = bench.growth.settings("refine", largest)
    middle = bench.growth.Setting()
    assert found[0] == middle and len(set(found)) == len(found) == 1 + 1 + 1 + 2
    assert all(sum(getattr(s, n) != getattr(middle, n) for n in largest) == 1 for s in found[1:])
    assert {s.tets for s in bench.growth.settings("nerf", largest)} == {middle.tets}


def test_steps_are_told_from_other_bars(bench, monkeypatch):
    clock = iter([10.0, 11.0, 13.0])
    monkeypatch.setattr(bench.growth.time, "perf_counter", lambda: next(clock))
    steps = bench.growth.Steps("refine")
    with steps.bar("refine", 2) as bar:
        bar.update(0)
        bar.update(1, "x")
        bar.update(1)
    with steps.bar("other", 1) as bar:
        bar.update(1)
    assert steps.seconds() == [1.0, 2.0]


def test_ratios_pair_the_rounds_before_the_median(bench):
    """2, 3 and 1 times slower: median 2. Of the medians alone it would be 12 / 8."""
    done = [{"ours": a, "other": b} for a, b in zip((10.0, 4.0, 8.0), (20.0, 12.0, 8.0))]
    ours, other = bench.rounds.rows(done)
    assert (ours["x/ours"], other["x/ours"]) == (1.0, 2.0)
    assert (other["s"], other["min"], other["max"]) == (12.0, 8.0, 20.0)


def test_rounds_alternate_after_a_warm_up(bench):
    asked = []

    def contender(name):
        return bench.rounds.Contender(name, lambda number: (asked.append((name, number)), (1.0, number))[1])

    both = bench.rounds.Comparison("t", (contender("ours"), contender("b")), str, {})
    done, agreement = bench.rounds.rounds(both, 2)
    assert asked == [("ours", -1), ("b", -1), ("ours", 0), ("b", 0), ("ours", 1), ("b", 1)]
    assert done == [{"ours": 1.0, "b": 1.0}] * 2 and agreement == "{'ours': 1, 'b': 1}"


def test_preparation_is_not_clocked(bench, monkeypatch):
    now = [0.0]

    def passes(seconds):
        now[0] += seconds
        return seconds

    monkeypatch.setattr(bench.rounds.time, "perf_counter", lambda: now[0])
    assert bench.rounds.timed(passes, lambda number: passes(100.0) / 50)(0) == (2.0, 2.0)


@pytest.mark.parametrize("with_points", [False, True])
def test_both_hash_grids_give_the_same_gradients(bench, config, views, with_points):
    comparison = bench.contenders.hash_grid(config.nerf, views, with_points)
    ours, plain = (contender.attempt(0)[1] for contender in comparison.contenders)
    assert len(ours) == len(plain) == 2 + with_points
    assert len(ours[0]) == config.nerf.samples
    for a, b in zip(ours, plain):
        assert b.abs().max() > 0
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_the_dense_march_finds_the_same_surface(bench):
    """A ball on moved nodes: equal vertices, area and volume (flat quadrilaterals have two diagonals)."""
    grid = TetGrid((-1.0, -1.0, -1.0), 0.25, (8, 8, 8))
    nodes = grid.nodes()
    sdf = nodes.norm(dim=-1) - 0.7
    moved = nodes + 0.02 * torch.randn(nodes.shape, generator=torch.Generator().manual_seed(1))
    vertices, faces = marching_tetrahedra(grid, moved, sdf)
    dense_vertices, dense_faces = bench.contenders.march_dense(grid.tetrahedra(), moved, sdf)
    assert torch.equal(vertices, dense_vertices)

    def extent(triangles):
        a, b, c = (vertices[triangles[:, i]].double() for i in range(3))
        normals = torch.linalg.cross(b - a, c - a) / 2
        return float(normals.norm(dim=-1).sum()), float((a * normals).sum() / 3)

    assert len(faces) == len(dense_faces)
    assert extent(dense_faces) == pytest.approx(extent(faces), rel=1e-5)
    assert extent(faces)[1] == pytest.approx(4 / 3 * math.pi * 0.7**3, rel=0.1)


def test_marching_contenders_agree(bench, views):
    comparison = bench.contenders.marching(bench.contenders.hull_solid(views, 12))
    results = {c.name: c.attempt(0)[1] for c in comparison.contenders}
    assert "largest difference 0.0e+00" in comparison.agree(results)
    for other in results.values():
        torch.testing.assert_close(other[2], results["ours"][2])
    results["dense"] = (results["dense"][0], results["dense"][1][1:])
    assert comparison.agree(results) == "DIFFERENT SURFACES"


def test_rasterizer_without_embree_is_said(bench, views, monkeypatch):
    monkeypatch.setitem(sys.modules, "embreex", None)
    comparison = bench.contenders.rasterizer(bench.contenders.hull_solid(views, 12), views.cameras[:2], 64)
    assert "pip install embreex" in comparison.missing["embree"]
    results = {c.name: c.attempt(0)[1] for c in comparison.contenders}
    assert list(results) == ["ours", "ours, 1 thread"]
    assert (results["ours"] >= 0).any() and np.array_equal(*results.values())
    assert not np.array_equal(comparison.contenders[0].attempt(1)[1], results["ours"])


def test_rasterizer_sees_what_embree_sees(bench, views):
    pytest.importorskip("embreex")
    comparison = bench.contenders.rasterizer(bench.contenders.hull_solid(views, 12), views.cameras[:2], 64)
    results = {c.name: c.attempt(0)[1] for c in comparison.contenders}
    assert len(results) == 4
    assert all(np.mean(other == results["ours"]) > 0.999 for other in results.values())


def test_the_torch_fit_reaches_our_psnr(bench, tiny, monkeypatch):
    asked = []
    plain = bench.fit.encode_reference
    twins = [(m, n, (lambda *a: asked.append(1) or plain(*a)) if n == "encode" else t)
             for m, n, t in bench.fit.TORCH_TWINS]  # fmt: skip
    monkeypatch.setattr(bench.fit, "TORCH_TWINS", tuple(twins))
    comparison = bench.fit.whole_fit(*tiny, seed=1)
    results = {}
    for contender in comparison.contenders:
        seconds, results[contender.name] = contender.attempt(0)
        assert seconds > 0
        assert bool(asked) == (contender.name != "ours")
    assert field_module.encode is encode
    ours, other = results.values()
    assert other["psnr_db"] >= ours["psnr_db"] - bench.fit.EQUAL_DB
    assert other["steps"] >= ours["steps"] == 10


def test_a_fit_goes_on_until_it_may_not(bench, tiny, monkeypatch):
    """10 steps, then half as many more again and again: 15, 23, 35; from 30 on it is enough. None is done twice."""
    module, done = bench.fit.fit_field, []
    step = module._step
    monkeypatch.setattr(module, "_step", lambda *arguments: done.append(1) or step(*arguments))
    monkeypatch.setattr(bench.fit, "AGAIN", 0.5)
    _, metrics = bench.fit.fit_until(math.inf, *tiny, Context())
    assert metrics["steps"] == len(done) == 35


def test_what_further_seconds_buy(bench):
    """Medians of three objects: 2 s for cd 0.04, 4 s for 0.03: 0.005 per second."""
    roads = [
        [
            {"stage": "a", "s": 2.0 + i, "s in all": 2.0 + i, "cd": 0.04, "iou": 0.5},
            {"stage": "b", "s": 2.0, "s in all": 4.0 + i, "cd": 0.03 + 0.01 * i, "iou": 0.6},
        ]
        for i in (-1, 0, 1)
    ]
    first, second = bench.stages.spent(roads)
    assert first["cd won/s"] is None and second["cd won/s"] == pytest.approx(0.005)
    assert (second["s in all"], second["iou"]) == (4.0, 0.6)


def test_a_real_road(bench, config):
    rows = bench.stages.road(bench.stages.placed(3), config, [40, 10], 64, Context())
    assert [r["stage"] for r in rows] == [
        "nerf, 10 steps", "nerf, 40 steps", "refine, 5 steps", "export, 400 faces"
    ]  # fmt: skip
    assert all(r["s"] > 0 and 0 < r["cd"] < 0.1 and 0.3 < r["iou"] <= 1 for r in rows)
    assert rows[1]["s in all"] == rows[1]["s"]
    assert rows[3]["s in all"] == pytest.approx(sum(r["s"] for r in rows[1:]))


def test_the_papers_steps_in_small(bench, config):
    """A random orbit model of about a million weights; the last fifth of 5 steps distils once."""
    network = bench.orbit.small()
    network["unet"] |= {"block_out_channels": [32] * 4, "num_attention_heads": [1] * 4}
    network["vae"] |= {"block_out_channels": [32] * 4}
    small = config.replace({"refine.sds": "on", "refine.sds_weight": bench.stages.HARMLESS})
    nerf, refine = bench.stages.paper_steps(bench.stages.placed(3), small, 64, network, "cpu")
    assert nerf["s"] > 0 and refine["s"] > 0 and refine["peak GB"] > 0
    assert refine["remark"].startswith("1 steps with distillation") and "FINITE" not in refine["remark"]


def test_without_cuda_the_paper_is_a_sentence(bench, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(bench.recon, "warm_up", lambda: None)
    report = bench.recon.main(["--only", "paper", "--device", "cpu", "--json", str(tmp_path / "r.json")])
    assert "CUDA only" in report["paper"]["not run"] and "CUDA only" in capsys.readouterr().out
    assert json.loads((tmp_path / "r.json").read_text())["paper"] == report["paper"]


@pytest.mark.parametrize("stage", ["nerf", "refine"])
def test_growth_measures_a_stage(bench, config, fitted, tmp_path, monkeypatch, stage):
    monkeypatch.setattr(bench.growth, "warm_up", lambda: None)
    fitted.save(tmp_path)
    sample = bench.growth.measure(stage, bench.growth.Setting(4, 64, 12), config, tmp_path, 3)
    assert sample.step_s > 0 and sample.around_s > 0 and np.isfinite(sample.peak_mb)


def test_growth_prints_both_tables(bench, tmp_path, capsys, monkeypatch):
    def made_up(work, *arguments):
        if work is bench.growth.make_field:
            return None
        stage, setting = arguments[:2]
        return bench.growth.Sample(setting.tets**3.0, setting.views * 1.0, setting.size**2.0)

    monkeypatch.setattr(bench.growth, "alone", made_up)
    report = bench.growth.main(["--json", str(tmp_path / "g.json")])
    growth = {r["of"]: r for r in report["growth"]}
    assert len(report["rows"]) == 6 + 9 and len(growth) == 5
    assert growth["refine, tets 32 to 128"]["s/step"] == "+3.00 (x1.00)"
    assert growth["nerf, views 10 to 40"]["s around"] == "+1.00 (x1.00)"
    assert growth["nerf, size 128 to 576"]["peak MB"] == "+2.00 (x1.00)"
    assert "refine, tets 32 to 128" in capsys.readouterr().out
    assert json.loads((tmp_path / "g.json").read_text()) == report


def test_work_in_a_process_of_its_own(bench):
    assert bench.growth.alone(os.getpid) != os.getpid()
    with pytest.raises(UserError, match="memory"):
        bench.growth.alone(os._exit, 1)
