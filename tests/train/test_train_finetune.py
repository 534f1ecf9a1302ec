import json

import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner

from sv3d_pipe.orbit.pixels import PixelCodec
from sv3d_pipe.orbit.volume import VolumeDenoiser
from sv3d_pipe.train.cli import render
from sv3d_pipe.train.dataset import OrbitSet, render_record, save_record
from sv3d_pipe.train.finetune import Recipe, Trainer, denoising_loss, draw_sigma, one_step_psnr, save_model
from sv3d_pipe.train.shapes import procedural


@pytest.fixture(scope="module")
def orbits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("orbits")
    for seed in range(2):
        save_record(render_record(procedural(seed), 32, 8, seed), folder / f"{seed}.safetensors")
    return OrbitSet(folder)


def tiny():
    torch.manual_seed(0)
    return VolumeDenoiser(size=32, grid=8, channels=(8, 16), width=32, depth=1), PixelCodec(size=32)


def recipe(**changes) -> Recipe:
    return Recipe(
        **({"steps": 12, "minutes": 10.0, "batch": 2, "frames": 3, "learning_rate": 3e-3} | changes)
    )


def test_the_photo_comes_last_and_azimuths_are_relative_to_it(orbits):
    batch = next(orbits.batches(2, 5, np.random.default_rng(0)))
    assert batch.rgba.shape == (2, 5, 32, 32, 4)
    assert (batch.azimuth_deg[:, -1] == 0).all()
    assert batch.azimuth_deg[:, :-1].min() > 0
    low, high = orbits.photo_elevation_deg
    assert ((batch.elevation_deg[:, -1] >= low) & (batch.elevation_deg[:, -1] <= high)).all()


def test_mirrored_examples_turn_the_other_way(orbits):
    """A frame and its mirror image must lie at azimuths that add up to a full turn."""
    record = {key: value.clone() for key, value in orbits.records[0].items()}
    seen = {}
    for seed in range(40):
        rgba, azimuth, _ = orbits._example(record, 2, np.random.default_rng(seed))
        picture = (
            tuple((rgba[0, ..., 3] > 0.5).flatten().tolist()),
            tuple((rgba[1, ..., 3] > 0.5).flatten().tolist()),
        )
        mirror = tuple(tuple(np.fliplr(np.reshape(p, (32, 32))).flatten().tolist()) for p in picture)
        seen[picture] = float(azimuth[0])
        if mirror in seen:
            turn = seen[mirror] + seen[picture]
            assert turn % 360 == pytest.approx(0, abs=1e-3) or turn % 360 == pytest.approx(360, abs=1e-3)
    assert len(seen) > 2


def test_half_of_the_noise_levels_are_pure_noise():
    sigma = draw_sigma(4000, Recipe(noise_share=1.0), torch.Generator().manual_seed(0))
    assert sigma.min() >= 30 and sigma.max() <= 700
    usual = draw_sigma(4000, Recipe(noise_share=0.0), torch.Generator().manual_seed(0)).log()
    assert usual.mean().item() == pytest.approx(0.7, abs=0.1)
    assert usual.std().item() == pytest.approx(1.6, abs=0.1)


def test_training_lowers_the_loss_and_writes_a_model_that_loads(orbits, tmp_path):
    from sv3d_pipe.orbit.pipeline import StableVideo3DPipeline

    unet, codec = tiny()
    batch = next(orbits.batches(2, 3, np.random.default_rng(9)))

    def fixed_loss() -> float:
        with torch.no_grad():
            return denoising_loss(
                unet, codec, batch, recipe(), torch.Generator().manual_seed(3), False
            ).item()

    before = fixed_loss()
    trainer = Trainer(unet, codec, orbits, recipe(steps=40), tmp_path, "cpu", bfloat16=False)
    shares = []
    trainer.run(
        lambda spent, loss: shares.append(spent), lambda: one_step_psnr(unet, codec, orbits, "cpu", 2, 3)
    )
    assert fixed_loss() < 0.8 * before
    assert shares == sorted(shares) and shares[-1] == 1
    row = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])
    assert row["step"] == 40 and np.isfinite(row["val_psnr_db"])
    with trainer.averaged():
        save_model(unet, codec, tmp_path, recipe())
    loaded = StableVideo3DPipeline.from_pretrained(tmp_path).unet
    torch.testing.assert_close(
        dict(loaded.named_parameters())["enter.weight"], trainer.average["enter.weight"]
    )


def test_a_resumed_run_ends_like_an_unbroken_one(orbits, tmp_path):
    """Up to the order of batches, which a resumed run draws anew."""
    unet, codec = tiny()
    whole = tmp_path / "a"
    whole.mkdir()
    first = Trainer(unet, codec, orbits, recipe(steps=3), whole, "cpu", False)
    first.run(lambda *_: None)
    unet, codec = tiny()
    second = Trainer(unet, codec, orbits, recipe(steps=3), whole, "cpu", False)
    assert second.step == 3 and second.share_spent == 1
    for name, average in first.average.items():
        torch.testing.assert_close(second.average[name], average)


def test_render_command_makes_orbits_and_skips_finished_ones(tmp_path):
    app = typer.Typer()
    app.command()(render)
    arguments = ["--procedural", "2", "--size", "16", "--views", "3", "-o", str(tmp_path)]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    files = sorted(tmp_path.glob("*.safetensors"))
    assert len(files) == 2
    times = [f.stat().st_mtime_ns for f in files]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    assert [f.stat().st_mtime_ns for f in files] == times


def test_an_interrupted_run_loses_nothing(orbits, tmp_path):
    unet, codec = tiny()
    trainer = Trainer(unet, codec, orbits, recipe(steps=9), tmp_path, "cpu", False)

    def interrupt(spent, loss):
        if trainer.step == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer.run(interrupt)
    assert Trainer(*tiny(), orbits, recipe(steps=9), tmp_path, "cpu", False).step == 4
