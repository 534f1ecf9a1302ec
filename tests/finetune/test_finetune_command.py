import json
import re
import sys
import types
from dataclasses import replace

import numpy as np
import pytest
import torch
import typer
from training_fakes import cpu, record, tiny_sv3d, toy_pipeline, toy_recipe
from typer.testing import CliRunner

from sv3d_pipe.cli import finetune_command
from sv3d_pipe.cli.guard import Verbs
from sv3d_pipe.errors import UserError
from sv3d_pipe.finetune.assembly import make_examples, make_trainer, overfit_check, save_model
from sv3d_pipe.finetune.monitor import Curves, Monitor, held_out, sample
from sv3d_pipe.finetune.optimizers import make_optimizers
from sv3d_pipe.finetune.precompute import encode_orbits
from sv3d_pipe.orbit.mini.pixel_pipeline import MiniPipeline
from sv3d_pipe.orbit.sv3d.diffusion_pipeline import StableVideo3DPipeline


def test_training_writes_pictures_numbers_and_a_model_that_loads(tmp_path):
    recipe = toy_recipe(steps=40)
    pipeline = toy_pipeline()
    orbits = [record(0), record(1)]
    examples = make_examples(orbits, pipeline, recipe, cpu(), tmp_path)
    monitor = Monitor(pipeline, held_out(examples, torch.device("cpu")), 0, tmp_path)
    before = monitor(0)
    trainer = make_trainer(pipeline, examples, recipe, tmp_path, cpu())
    trainer.run(validate=monitor)
    (tmp_path / "keep.txt").touch()
    save_model(pipeline, trainer.averaged_state(), tmp_path)
    row = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])
    assert row["step"] == 40 and row["val_psnr_db"] > before["val_psnr_db"] + 3
    assert row["val_copied_photo_db"] == before["val_copied_photo_db"]
    assert sorted(p.name for p in (tmp_path / "samples").iterdir()) == [
        "step_0000000.png",
        "step_0000040.png",
    ]
    loaded = MiniPipeline.from_pretrained(tmp_path)
    assert (loaded.config.steps, loaded.config.guidance) == (1, 1.0)
    weights = dict(loaded.unet.named_parameters())
    for name, average in trainer.average.items():
        assert torch.equal(weights[name], average)
    assert not torch.equal(trainer.net.place, trainer.average["place"])
    assert (tmp_path / "keep.txt").exists() and not list(tmp_path.glob(".*"))


def test_a_trained_model_does_not_tell_where_it_came_from(tmp_path):
    toy_pipeline().save_pretrained(tmp_path / "start")
    pipeline = StableVideo3DPipeline.from_pretrained(tmp_path / "start")
    save_model(pipeline, pipeline.unet.state_dict(), tmp_path / "out")
    for path in (tmp_path / "out").rglob("*.json"):
        assert str(tmp_path) not in path.read_text()
    StableVideo3DPipeline.from_pretrained(tmp_path / "out")


def test_the_monitor_samples_as_the_pipeline_does(tmp_path):
    pipeline = tiny_sv3d(tmp_path)
    recipe = toy_recipe(frames=4)
    toy = record(0, size=64)
    examples = make_examples([toy], pipeline, recipe, cpu(), tmp_path / "encoded")
    batch = examples.fixed(0)
    views = [examples.source.views(0, np.array([k]), None).photo for k in range(6)]
    photo = [torch.equal(view, batch.photo[0]) for view in views].index(True)
    noise = torch.Generator().manual_seed(0)
    expected = pipeline(
        toy.rgba[photo].numpy(),
        batch.ids[0, :, 2].rad2deg().numpy(),
        10.0,
        num_inference_steps=3,
        cond_aug=0.0,
        generator=noise,
        output_type="latent",
    ).frames
    painted = sample(pipeline, batch, 3, seed=0)
    # the stored latents are float16, and the pipeline is told of no noise on the photo instead of 1e-5
    assert (painted - expected).abs().max() < 0.02 * expected.abs().max()


def test_a_latent_model_trains_on_latents_made_once(tmp_path):
    pipeline = tiny_sv3d(tmp_path)
    recipe = toy_recipe(frames=4, steps=2, learning_rate=1e-3, checkpointing=True)
    orbits = [record(0, size=64), record(1, size=64, textured=True)]
    encoded = tmp_path / "encoded"
    examples = make_examples(orbits, pipeline, recipe, cpu(), encoded)
    files = sorted(encoded.iterdir())
    assert [f.name for f in files] == ["0000000.safetensors", "0000001.safetensors"]
    assert examples.source.textured == [False, True] and examples.in_order
    batch = examples.batch([0])
    assert batch.clean.shape == (1, 4, 4, 8, 8) and batch.token.shape == (
        1,
        1,
        pipeline.unet.config.cross_attention_dim,
    )
    torch.testing.assert_close(batch.clean[:, -1], batch.photo * 0.18215)
    truth = pipeline.encode_photo(orbits[0].rgba[2].numpy().astype(np.float32) / 255, 10.0)
    stored = examples.source.views(0, np.array([4, 2]), None)
    torch.testing.assert_close(stored.photo, truth.latents[0], rtol=1e-3, atol=1e-2)
    torch.testing.assert_close(stored.token, truth.token[0], rtol=1e-3, atol=1e-2)
    times = [f.stat().st_mtime_ns for f in files]
    trainer = make_trainer(
        pipeline, make_examples(orbits, pipeline, recipe, cpu(), encoded), recipe, tmp_path, cpu()
    )
    assert [f.stat().st_mtime_ns for f in files] == times
    start = trainer.net.conv_in.weight.detach().clone()
    trainer.run()
    assert trainer.step == 2 and not torch.equal(trainer.net.conv_in.weight, start)
    save_model(pipeline, trainer.averaged_state(), tmp_path / "out")
    assert StableVideo3DPipeline.from_pretrained(tmp_path / "out").unet.widths == (256, 512, 512)


def test_latents_of_another_data_set_are_refused(tmp_path):
    pipeline = tiny_sv3d(tmp_path)
    encode_orbits([record(0, size=64)], pipeline, tmp_path / "encoded", 4)
    with pytest.raises(UserError, match="holds the latents of another model or data set"):
        encode_orbits([record(1, size=64)], pipeline, tmp_path / "encoded", 4)
    encode_orbits([record(0, size=64)], pipeline, tmp_path / "encoded", 4)


def test_a_background_is_laid_under_the_object_before_encoding(tmp_path):
    pipeline = tiny_sv3d(tmp_path)
    seen = []
    pipeline.encode_photo = lambda rgba, elevation_deg: (
        seen.append(rgba) or (_ for _ in ()).throw(KeyboardInterrupt)
    )
    red = replace(record(0, size=64), background=(1.0, 0.0, 0.0))
    with pytest.raises(KeyboardInterrupt):
        encode_orbits([red], pipeline, tmp_path / "encoded", 4)
    assert seen[0][0, 0].tolist() == [1, 0, 0, 1]
    assert list((tmp_path / "encoded").iterdir()) == []


def test_the_overfit_check_fails_a_network_that_cannot_learn(tmp_path):
    recipe = toy_recipe(minutes=0.05, batch=1, frames=6, learning_rate=0.0)
    pipeline = toy_pipeline()
    examples = make_examples([record(0), record(1)], pipeline, recipe, cpu(), tmp_path)
    check = overfit_check(pipeline, examples, recipe, cpu())
    assert not check.passed and abs(check.after_db - check.before_db) < 1e-6
    assert check.seconds < 60


def test_eight_bit_adam_needs_bitsandbytes(monkeypatch):
    layer, recipe = torch.nn.Linear(2, 2), toy_recipe(adam_8bit=True)
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(UserError, match="pip install bitsandbytes"):
        make_optimizers(layer, recipe)
    fake = types.ModuleType("bitsandbytes.optim")
    fake.AdamW8bit = type("AdamW8bit", (torch.optim.AdamW,), {})
    monkeypatch.setitem(sys.modules, "bitsandbytes", types.ModuleType("bitsandbytes"))
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", fake)
    assert [type(o) for o in make_optimizers(layer, recipe)] == [fake.AdamW8bit]


def test_curves_go_to_tensorboard_if_it_is_there(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    curves = Curves(tmp_path)
    curves.add({"step": 1, "loss": 2.0})
    assert curves.missing and list(tmp_path.iterdir()) == []
    written = []
    writer = types.SimpleNamespace(add_scalar=lambda *a: written.append(a), flush=lambda: None)
    fake = types.SimpleNamespace(SummaryWriter=lambda folder: writer)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", fake)
    Curves(tmp_path).add({"step": 7, "loss": 2.0})
    assert written == [("loss", 2.0, 7)]


def command(arguments: list[str]):
    app = typer.Typer(cls=Verbs)
    app.command("finetune")(finetune_command.finetune)
    app.command("run")(lambda: None)
    return CliRunner().invoke(app, ["finetune", *arguments])


def test_every_setting_of_the_recipe_is_an_option():
    shown = re.sub(r"\x1b\[[0-9;]*m|[│\s]+", " ", command(["--help"]).output)
    for flag in ("--phase", "--noise-share", "--front-weight", "--adam-8bit", "--student-steps", "--rank"):
        assert flag in shown
    assert "(mini 8, SV3D 64)" in shown


@pytest.fixture
def toy_data(monkeypatch, tmp_path):
    """`--model new` is the toy, and a data set is two toy orbits."""
    from sv3d_pipe.dataset import orbit_set as dataset
    from sv3d_pipe.finetune import session

    monkeypatch.setattr(dataset, "OrbitSet", lambda folder: [record(0), record(1)])
    monkeypatch.setattr(session, "start_model", lambda *a, **k: toy_pipeline())
    return ["data", "-o", str(tmp_path / "out"), "--model", "new", "--device", "cpu"]


TOY = ["--precision", "float32", "--batch", "2", "--frames", "3", "--warmup", "0", "--learning-rate", "3e-3"]


def test_the_command_trains_validates_and_goes_on(toy_data, tmp_path):
    arguments = [*toy_data, *TOY, "--minutes", "0", "--validation", "val"]
    first = command([*arguments, "--steps", "10"])
    assert first.exit_code == 0, first.output
    assert f"use it with --model {tmp_path / 'out'}" in first.output.replace("\n", "")
    second = command([*arguments, "--steps", "20"])
    assert second.exit_code == 0, second.output
    rows = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [10, 10, 20, 20]
    assert "val_psnr_db" in rows[1] and "loss" in rows[2]
    assert json.loads((tmp_path / "out" / "recipe.json").read_text())["steps"] == 20
    refused = command([*arguments, "--seed", "1"])
    assert refused.exit_code == 2 and "holds a run with seed 0, not 1" in refused.output


def test_the_overfit_check_passes_one_that_can_learn_and_exits_with_1_otherwise(toy_data):
    learned = command([*toy_data, *TOY, "--overfit-check", "--minutes", "1"])
    assert learned.exit_code == 0 and "One object can be memorized:" in learned.output
    failed = command([*toy_data, *TOY, "--overfit-check", "--minutes", "0.02", "--learning-rate", "0"])
    assert failed.exit_code == 1
    assert "Error: One object could not be memorized" in failed.output
    assert "went wrong" not in failed.output
