import math

import pytest
import torch
from training_fakes import cpu, record, toy_pipeline, toy_recipe

from sv3d_pipe.finetune.assembly import make_examples, make_trainer
from sv3d_pipe.finetune.distill import Distillation
from sv3d_pipe.finetune.examples import Batch
from sv3d_pipe.finetune.loss import draw_noise
from sv3d_pipe.orbit.conditioning import edm_scalings


class Knows(torch.nn.Module):
    """A network whose denoised frames are ``answer(noisy, sigma, photo)``."""

    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def forward(self, sample, timestep, tokens, ids, return_dict):
        sigma = (4 * timestep).exp()[:, None, None, None, None]
        c_skip, c_out, c_in, _ = edm_scalings(sigma)
        noisy = sample[:, :, :4] / c_in
        return ((self.answer(noisy, sigma, sample[:, :, 4:]) - c_skip * noisy) / c_out,)


def batch(frames: int = 3) -> Batch:
    clean = torch.randn(2, frames, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    return Batch(clean, torch.ones(2, 4, 2, 2), None, torch.zeros(2, frames, 3))


def test_if_the_teacher_always_sees_one_picture_the_student_must_see_it_too():
    """All its steps then lie on one line through that picture."""
    recipe = toy_recipe(student_steps=4, teacher_steps=20)
    distilled = Distillation(Knows(lambda x, s, photo: torch.full_like(x, 0.25)), 1.0, recipe)
    noisy = 60 * torch.randn(2, 3, 4, 2, 2, generator=torch.Generator().manual_seed(1))
    for level in distilled.sigmas[:-1]:
        target = distilled.target(noisy, level.expand(2), batch())
        torch.testing.assert_close(target, torch.full_like(target, 0.25), rtol=0, atol=2e-4)


def test_one_step_of_the_student_ends_where_the_teachers_two_do():
    """Data N(0, 1): the denoiser is x / (1 + sigma^2). Both teacher steps by hand."""
    recipe = toy_recipe(student_steps=2, teacher_steps=4)
    distilled = Distillation(Knows(lambda x, s, photo: x / (1 + s**2)), 1.0, recipe)
    start, end = distilled.sigmas[:2].tolist()
    assert (start, end) == pytest.approx((700.0, 0.002), rel=1e-4)
    middle = ((start ** (1 / 7) + end ** (1 / 7)) / 2) ** 7
    x = torch.full((1, 3, 4, 2, 2), 500.0, dtype=torch.float64)
    halfway = 500 + (500 - 500 / (1 + start**2)) / start * (middle - start)
    final = halfway + (halfway - halfway / (1 + middle**2)) / middle * (end - middle)
    one = Batch(*(part if part is None else part[:1] for part in vars(batch()).values()))
    target = distilled.target(x, torch.tensor([start]), one)
    stepped = x + (x - target) / start * (end - start)
    assert stepped.flatten()[0].item() == pytest.approx(final, abs=1e-3)


def test_the_teachers_guidance_is_built_in():
    """Frames 0, 1, 2 have scales 1, 3, 1; a teacher that answers with what it sees of the photo."""
    recipe = toy_recipe(student_steps=1, teacher_steps=1)
    distilled = Distillation(Knows(lambda x, s, photo: photo), 3.0, recipe)
    target = distilled.target(torch.zeros(2, 3, 4, 2, 2), distilled.sigmas[:1].expand(2), batch())
    torch.testing.assert_close(target.mean((0, 2, 3, 4)), torch.tensor([1.0, 3.0, 1.0]), rtol=0, atol=1e-3)


def test_noise_levels_are_the_students_own():
    recipe = toy_recipe(student_steps=3)
    distilled = Distillation(torch.nn.Linear(1, 1), 1.0, recipe)
    drawn = draw_noise(recipe, distilled.draw_sigma, range(60), (1, 1, 1, 1)).sigma
    assert set(drawn.tolist()) == set(distilled.sigmas[:3].tolist())


class Gain(torch.nn.Module):
    """Velocity = gain * scaled frames. Gain 0 is the exact denoiser of data N(0, 1)."""

    def __init__(self):
        super().__init__()
        self.gain = torch.nn.Parameter(torch.zeros(()))

    def forward(self, sample, timestep, tokens, ids, return_dict):
        return (self.gain * sample[:, :, :4],)


def test_a_student_of_one_step_learns_its_teachers_eight():
    """The loss is quadratic in the gain, so one Newton step finds the student; the truth by multiplying steps."""
    recipe = toy_recipe(student_steps=1, teacher_steps=8, drop_photo=0.0)
    student = Gain()
    distilled = Distillation(student, 1.0, recipe)
    noise = draw_noise(recipe, distilled.draw_sigma, range(2), (3, 4, 2, 2))
    loss = distilled.loss(student, batch(), noise)
    (slope,) = torch.autograd.grad(loss, student.gain, create_graph=True)
    (bend,) = torch.autograd.grad(slope, student.gain)
    with torch.no_grad():
        student.gain -= slope / bend
        assert distilled.loss(student, batch(), noise) < 1e-6 * loss
    levels = [(700 ** (1 / 7) * (1 - k / 8)) ** 7 for k in range(9)]
    kept = math.prod(1 + (b / a - 1) * (1 - 1 / (1 + a**2)) for a, b in zip(levels, levels[1:]))
    total = 1 + 700**2
    learned = 1 / total - student.gain.item() * 700 / total  # c_skip + c_out c_in gain: what is left of x
    assert learned == pytest.approx(kept, rel=1e-3)
    assert kept == pytest.approx(1 / 700, rel=0.5)  # the exact solution's share is 1 / sqrt(1 + 700^2)


def test_a_run_that_distills_keeps_its_teacher_and_says_how_many_steps_its_model_takes(tmp_path):
    recipe = toy_recipe(objective="distill", student_steps=2, teacher_steps=4, steps=3)
    pipeline = toy_pipeline()
    examples = make_examples([record(0), record(1)], pipeline, recipe, cpu(), tmp_path)
    trainer = make_trainer(pipeline, examples, recipe, tmp_path, cpu())
    assert (pipeline.config.steps, pipeline.config.guidance) == (2, 1.0)
    trainer.run()
    teacher, start = trainer.loss.__self__.teacher, toy_pipeline().unet
    for name, parameter in teacher.named_parameters():
        assert torch.equal(parameter, start.get_parameter(name))
    assert not torch.equal(trainer.net.place, start.place)
