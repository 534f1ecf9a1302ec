"""Training the matting network: the loss, the steps, what is kept, the command."""

import itertools
import math

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from sv3d_pipe.cli import app
from sv3d_pipe.dataset.scenes.compose import Scene
from sv3d_pipe.finetune import matte_measuring, matte_training
from sv3d_pipe.finetune.matte_measuring import Judged, calibrate, summary, told
from sv3d_pipe.finetune.matte_training import ANY_WEIGHT, ROUGH_WEIGHT, Material, loss_of, train
from sv3d_pipe.pictures import load_png, save_png
from sv3d_pipe.prep.matting.network import MattingNet
from sv3d_pipe.prep.matting.weights import FILE, load_network


@pytest.fixture
def material(tmp_path):
    """Forty discs of many colors, of which some families are held out, and two walls."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:260, :260] + 0.5
    (tmp_path / "cutouts").mkdir()
    (tmp_path / "walls").mkdir()
    alpha = np.clip(100 - np.hypot(x - 130, y - 130), 0, 1)
    for i in range(40):
        rgba = np.dstack([np.broadcast_to(rng.random(3), (260, 260, 3)), alpha])
        save_png(
            tmp_path / "cutouts" / f"disc{chr(97 + i % 26)}{chr(97 + i // 26)}.png", rgba.astype(np.float32)
        )
    for name in ("brick", "stone"):
        save_png(tmp_path / "walls" / f"{name}.png", rng.random((300, 300, 3)).astype(np.float32) * 0.2 + 0.4)
    return Material((tmp_path / "cutouts",), (tmp_path / "walls",))


def logits(alphas):
    """Answers of a network that knows the truth [B, 2, S, S]."""
    sure = (alphas - 0.5) * 40
    small = [torch.nn.functional.adaptive_avg_pool2d(alphas, alphas.shape[-1] // n) for n in (16, 8)]
    return [sure, *((one - 0.5) * 40 for one in small)]


def test_the_truth_costs_nothing_and_its_opposite_much():
    alphas = torch.zeros(2, 2, 64, 64)
    alphas[:, :, :32] = 1
    assert loss_of(logits(alphas), alphas) < 1e-3
    assert loss_of(logits(1 - alphas), alphas) > 10


def test_the_loss_of_a_network_that_knows_nothing():
    """Cross entropy ln 2 everywhere, whatever the weights, and an IoU of .25 / .75 for half a picture at alpha .5."""
    alphas = torch.zeros(1, 2, 64, 64)
    alphas[:, :, :32] = 1
    nothing = [torch.zeros(1, 2, side, side) for side in (64, 4, 8)]
    some = 1e-3
    one = math.log(2) + 1 - (0.25 + some) / (0.75 + some)
    expected = (1 + ANY_WEIGHT) * one * (1 + 2 * ROUGH_WEIGHT)
    assert loss_of(nothing, alphas).item() == pytest.approx(expected, rel=1e-4)


def test_edges_weigh_more():
    alphas = torch.zeros(1, 2, 64, 64)
    alphas[:, :, 20:44, 20:44] = 1
    near, far = logits(alphas), logits(alphas)
    near[0][:, :, 17:20, 20:44] = 4.0  # wrong beside the object
    far[0][:, :, 2:5, 20:44] = 4.0  # as many pixels, far from it
    assert loss_of(near, alphas) > loss_of(far, alphas) + 0.2


def test_training_learns_and_its_averaged_network_is_kept(material, tmp_path, monkeypatch):
    monkeypatch.setattr(matte_training, "BATCH", 4)
    monkeypatch.setattr(matte_training, "WARMUP", 5)
    monkeypatch.setattr(matte_training.time, "monotonic", itertools.count().__next__)  # two seconds a step
    losses = []

    def on_step(step, loss, gone):
        losses.append(loss)

    network = train(material, tmp_path / "net", None, 64, 1.5, torch.device("cpu"), 0, 0, on_step)
    assert 40 < len(losses) < 50 and np.mean(losses[-5:]) < 0.85 * np.mean(losses[:5])
    kept = load_network(tmp_path / "net")
    colors, nothing = torch.rand(1, 3, 64, 64), torch.zeros(1, 2, 64, 64)
    with torch.inference_mode():
        assert (kept(colors, nothing)[0] - network(colors, nothing)[0]).abs().max() < 0.1
    frozen = MattingNet()
    from sv3d_pipe.efficientnet import load_published

    load_published(frozen.trunk)
    assert torch.equal(network.trunk.stages[1][0].filter.weight, frozen.trunk.stages[1][0].filter.weight)
    assert not torch.equal(network.trunk.stages[4][0].filter.weight, frozen.trunk.stages[4][0].filter.weight)


def test_the_command_trains_measures_and_goes_on(material, tmp_path, monkeypatch):
    monkeypatch.setattr(matte_training, "BATCH", 2)
    monkeypatch.setattr(matte_measuring, "SIZE", 96)
    arguments = [
        "finetune-matte", str(tmp_path / "cutouts"), "--backgrounds", str(tmp_path / "walls"), "--minutes", "0.02",
        "--size", "96", "--workers", "0", "--judged-scenes", "20",
    ]  # fmt: skip
    first = CliRunner().invoke(app, [*arguments, "-o", str(tmp_path / "a")])
    assert first.exit_code == 0 and "mean IoU" in first.stdout, first.output
    second = CliRunner().invoke(app, [*arguments, "-o", str(tmp_path / "b"), "--start", str(tmp_path / "a")])
    assert (
        second.exit_code == 0
        and (tmp_path / "b" / FILE).exists()
        and (tmp_path / "b" / "doubt.json").exists()
    )


def test_the_command_draws_a_sheet_and_refuses_odd_sides(material, tmp_path):
    arguments = [
        "finetune-matte",
        str(tmp_path / "cutouts"),
        "--backgrounds",
        str(tmp_path / "walls"),
        "-o",
        str(tmp_path),
    ]
    drawn = CliRunner().invoke(app, [*arguments, "--size", "96", "--sheet", str(tmp_path / "sheet.png")])
    assert drawn.exit_code == 0 and load_png(tmp_path / "sheet.png").shape[1] == 12 * 160
    refused = CliRunner().invoke(app, [*arguments, "--size", "100"])
    assert refused.exit_code == 2 and "multiple of 32" in refused.output


def test_what_is_told_is_read_back():
    marks = np.zeros((2, 50, 60), np.uint8)
    nothing = np.zeros((50, 60), np.uint8)
    scene = Scene(np.zeros((50, 60, 3), np.uint8), marks, nothing, nothing)
    assert told(scene) == (None, None)
    marks[0, 10:20, 30:45] = 255
    assert told(scene) == ((30, 10, 45, 20), None)
    marks[:] = 0
    marks[1, 7, 9] = 255
    assert told(scene) == (None, (9.0, 7.0))


def test_the_summary_counts_by_what_was_told():
    signs = np.zeros(7)
    judged = [
        Judged("untold", 0.9, 0.01, signs),
        Judged("untold", 0.7, 0.03, signs),
        Judged("box", 1.0, 0.02, signs),
    ]
    text = summary(judged)
    assert "untold: mean IoU 0.800, 50% below 0.8 of 2; box: mean IoU 1.000, 0%" in text and "0.0200" in text


def test_the_calibration_learns_which_sign_tells():
    rng, judged = np.random.default_rng(0), []
    for _ in range(400):
        signs = rng.random(7)
        judged.append(Judged("untold", 0.5 if signs[0] > 0.6 else 0.9, 0.0, signs))
    found = calibrate(judged)
    assert (
        found.probability(np.array([0.9, *[0.5] * 6]))
        > 0.8
        > 0.2
        > found.probability(np.array([0.2, *[0.5] * 6]))
    )
