import dataclasses

import numpy as np
import pytest
import torch
from training_fakes import record
from typer.testing import CliRunner

from sv3d_pipe.config import PrepConfig
from sv3d_pipe.errors import UserError
from sv3d_pipe.finetune.depth_training import PhotoFeatures, errors, look_at, train
from sv3d_pipe.orbit.mini.depth_guess import DepthGuesser
from sv3d_pipe.orbit.mini.recognizer import SIDE
from sv3d_pipe.orbit.store.load import load_pipeline


def toy_photos(count: int) -> PhotoFeatures:
    """Half of them deep, which some channels tell, and the other half flat."""
    generator = torch.Generator().manual_seed(0)
    fine = torch.randn((count, 120, 12, 12), generator=generator)
    whole = torch.randn((count, 1280), generator=generator)
    target = torch.where(torch.arange(count) % 2 == 0, 0.5, -1.0)
    fine[:, :8] += 3 * target[:, None, None, None]
    return PhotoFeatures(fine.half(), whole.half(), torch.full((count,), 10.0), target)


def test_it_learns_what_the_features_tell():
    torch.manual_seed(0)
    guesser, photos, losses = DepthGuesser(count=2, width=16), toy_photos(256), []
    train(guesser, photos, 60, 0, lambda step, loss: losses.append((step, loss)))
    assert errors(guesser, photos).abs().mean() < 0.2  # 0.75 for one guess for all
    assert losses[-1][0] == 60 and losses[-1][1] < losses[0][1] - 0.5


def test_the_same_seed_learns_the_same():
    weights = []
    for _ in range(2):
        torch.manual_seed(3)
        guesser = DepthGuesser(width=8)
        train(guesser, toy_photos(64), 3, 5, lambda step, loss: None)
        weights.append(guesser.heads[0].enter.weight.detach())
    assert torch.equal(*weights)


def test_photos_are_framed_and_seen_as_they_are_and_mirrored(monkeypatch):
    monkeypatch.setattr("sv3d_pipe.finetune.depth_training.seen", lambda photo: (photo, photo.mean((2, 3))))
    one = dataclasses.replace(record(0, views=2), depth=torch.tensor([0.5, 2.0]))
    photos = look_at([one], DepthGuesser(width=8), 0)
    assert photos.fine.shape == (4, 4, SIDE, SIDE)
    for i in range(2):
        off = (photos.fine[2 + i].flip(-1) - photos.fine[i]).float().abs().mean()
        assert 0 < off < 0.1 < (photos.fine[2 + i] - photos.fine[i]).float().abs().mean()
    rows, columns = np.nonzero(photos.fine[0, 3].numpy() > 0)
    assert max(np.ptp(rows), np.ptp(columns)) + 1 == pytest.approx(PrepConfig().fill * SIDE, abs=8)
    np.testing.assert_allclose(photos.target, np.log([0.5, 2.0, 0.5, 2.0]), atol=1e-6)
    assert photos.elevation_deg.tolist() == 2 * one.elevation_deg.tolist()


def test_views_that_do_not_say_how_deep_their_object_is_are_refused():
    with pytest.raises(UserError, match="render the data set again"):
        look_at([record(0)], DepthGuesser(width=8), 0)
    with pytest.raises(UserError, match="holds no photos"):
        look_at([], DepthGuesser(width=8), 0)


def test_the_command_gives_a_model_a_new_network(tmp_path):
    from sv3d_pipe.cli import app

    data, out = tmp_path / "data", tmp_path / "out"
    run = CliRunner().invoke
    done = run(app, f"render --procedural 2 -o {data} --orbit photos --views 3 --size 32 --workers 1".split())
    assert done.exit_code == 0, done.output
    done = run(app, f"finetune-depth {data} -o {out} --validation {data} --steps 2 --device cpu".split())
    assert done.exit_code == 0, done.output
    assert "on 12 training photos" in done.output.replace("\n", " ")
    trained, mini = load_pipeline(str(out), "cpu").depth, load_pipeline("mini", "cpu").depth
    assert not torch.equal(trained.heads[0].enter.weight, mini.heads[0].enter.weight)
