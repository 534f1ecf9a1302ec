"""A run that is killed and started again is the run that was not."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from training_fakes import cpu, record, toy_pipeline, toy_recipe

from sv3d_pipe.errors import UserError
from sv3d_pipe.finetune.assembly import make_examples, make_trainer
from sv3d_pipe.finetune.recipe import settle

STEPS = 20
KILLED = 15


def run(folder, recipe, on_log=lambda row: None):
    pipeline = toy_pipeline()
    examples = make_examples([record(0), record(1), record(2)], pipeline, recipe, cpu(), folder)
    trainer = make_trainer(pipeline, examples, recipe, folder, cpu())
    trainer.run(on_log)
    return trainer


def curve(folder) -> list[tuple[int, float]]:
    rows = map(json.loads, (folder / "log.jsonl").read_text().splitlines())
    return [(row["step"], row["loss"]) for row in rows]


def killed_run(folder, optimizer: str) -> None:
    """Checkpoint after every step; die without warning in the middle. Runs in a process of its own."""
    recipe = toy_recipe(steps=STEPS, save_minutes=0.0, accumulate=2, optimizer=optimizer)
    pipeline = toy_pipeline()
    examples = make_examples([record(0), record(1), record(2)], pipeline, recipe, cpu(), folder)
    trainer = make_trainer(pipeline, examples, recipe, folder, cpu())
    save = trainer.save

    def save_then_maybe_die() -> None:
        save()
        if trainer.step == KILLED:
            os.kill(os.getpid(), signal.SIGKILL)

    trainer.save = save_then_maybe_die
    trainer.run()


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_killed_run_resumes_to_the_same_curve_and_weights(tmp_path, optimizer):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir(), broken.mkdir()
    recipe = toy_recipe(steps=STEPS, accumulate=2, optimizer=optimizer)
    expected = run(whole, recipe)
    code = f"import sys; sys.path.insert(0, {str(os.path.dirname(__file__))!r}); from pathlib import Path;"
    code += f"import test_finetune_resume as t; t.killed_run(Path({str(broken)!r}), {optimizer!r})"
    died = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert curve(broken) == curve(whole)[: KILLED // 10]
    with (broken / "log.jsonl").open("a") as file:  # as if it had died between a row and its checkpoint
        file.write('{"step": 20, "loss": 7.0}\n{"step": 2')
    resumed = run(broken, recipe)
    assert curve(broken) == curve(whole) and len(curve(whole)) == STEPS // 10
    for name, average in expected.average.items():
        assert torch.equal(resumed.average[name], average), name


@pytest.fixture
def listening():
    """Ctrl-C is heard, also where the tests run in the background of a shell, which has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_finishes_the_step_and_keeps_it(tmp_path, listening):
    def interrupt(row):
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, toy_recipe(steps=30), interrupt)
    state = torch.load(tmp_path / "training.pt", weights_only=True)
    assert state["step"] in (10, 11)  # the row of step 10 was written when the signal came
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert run(tmp_path, toy_recipe(steps=12)).step == 12


def test_another_recipe_is_refused_but_more_steps_are_welcome(tmp_path):
    recipe = toy_recipe()
    settle(recipe, tmp_path)
    (tmp_path / "training.pt").touch()
    settle(replace(recipe, steps=500, accumulate=2), tmp_path)
    with pytest.raises(UserError, match="holds a run with batch 2, not 4"):
        settle(replace(recipe, batch=4), tmp_path)


def test_a_loss_that_is_no_number_ends_the_run(tmp_path):
    with pytest.raises(UserError, match="no longer a number at step 10; lower --learning-rate"):
        run(tmp_path, toy_recipe(steps=20, learning_rate=float("inf")))
    assert not (tmp_path / "training.pt").exists()
