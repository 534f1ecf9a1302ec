"""A data set that lies on the device gives the examples that its slow twin gives."""

import pytest
import torch
from training_fakes import cpu, record, toy_pipeline, toy_recipe, with_photos

from sv3d_pipe.errors import UserError
from sv3d_pipe.finetune.assembly import make_trainer
from sv3d_pipe.finetune.examples import Examples
from sv3d_pipe.finetune.known_views import FLATTEST, KnownViews
from sv3d_pipe.finetune.resident_views import ResidentExamples, ResidentViews, fits
from sv3d_pipe.orbit.mini.pixel_codec import PixelCodec
from sv3d_pipe.orbit.mini.recognizer import Units

CODEC = PixelCodec(size=32)
CPU = torch.device("cpu")


@pytest.fixture
def sight(monkeypatch):
    """In place of the recognizer: every feature is the share of red that is on the left."""

    def seen(photos):
        red = photos[:, 0] / 2 + 0.5
        left = red[..., : red.shape[-1] // 2].sum((1, 2)) / red.sum((1, 2))
        return left.half().view(-1, 1, 1, 1).expand(-1, 120, 12, 12), left.half()[:, None].expand(-1, 1280)

    for module in ("known_views", "resident_views"):
        monkeypatch.setattr(f"sv3d_pipe.finetune.{module}.seen", seen)


def toys(first: int, count: int) -> list:
    return [with_photos(record(first + k, static=False, textured=k % 2 == 0)) for k in range(count)]


def resident(*sets: list, processes: int = 0) -> ResidentViews:
    views = ResidentViews(CODEC, CPU, seed=0)
    for orbits in sets:
        views.add(orbits, 3, processes)
    return views


def same(ours, theirs) -> None:
    for name in ("clean", "photo", "ids"):
        torch.testing.assert_close(getattr(ours, name), getattr(theirs, name), atol=1e-5, rtol=0)
    torch.testing.assert_close(ours.token[..., -1], theirs.token[..., -1])
    # Seen in another detail, so nearly the same.
    torch.testing.assert_close(ours.token, theirs.token, atol=0.05, rtol=0)


def test_examples_are_those_of_the_slow_twin(sight):
    orbits, recipe = toys(0, 5), toy_recipe(frames=4, oversample=2)
    ours = ResidentExamples(resident(orbits[:3], orbits[3:]), recipe, in_order=False)
    theirs = Examples(KnownViews(orbits, CODEC, 4, CPU), recipe, in_order=False)
    same(ours.batch(range(20)), theirs.batch(range(20)))
    same(ours.fixed(4), theirs.fixed(4))


def test_a_mirrored_photo_is_seen_mirrored(sight):
    views = resident(toys(0, 5))
    assert (views.whole[0] - views.whole[1]).abs().max() > 0.3  # else the twin's test would not notice
    torch.testing.assert_close(views.whole.sum(0), torch.ones_like(views.whole[0]), atol=2e-3, rtol=0)


def test_units_are_of_all_photos_and_depth_has_a_least(sight):
    orbits = toys(0, 2)
    orbits[0].photos.depth[0] = 0.0
    views, units = resident(orbits), Units()
    views.take_units(units)
    torch.testing.assert_close(units.whole_mean, views.whole[0].float().mean(0), atol=1e-3, rtol=0)
    assert views.depth[0] == torch.tensor(FLATTEST) and views.depth[1] == orbits[0].photos.depth[1]


@pytest.mark.parametrize("processes", [0, 1])
def test_a_record_that_cannot_be_used_is_named(sight, processes):
    with pytest.raises(UserError, match=r"^The object toy7 has no photos"):
        resident([*toys(0, 2), record(7)], processes=processes)


def test_training_on_it_learns(sight):
    pipeline, recipe = toy_pipeline(knows=True), toy_recipe(frames=3, steps=6)
    losses = []
    loss_of = make_trainer(
        pipeline, ResidentExamples(resident(toys(0, 2)), recipe, False), recipe, None, cpu()
    )
    plain = loss_of.loss
    loss_of.loss = lambda *given: losses.append(plain(*given)) or losses[-1]
    before = [p.detach().clone() for p in pipeline.unet.parameters()]
    loss_of.run()
    assert len(losses) == 6 and all(torch.isfinite(loss) for loss in losses)
    assert any(not torch.equal(a, b) for a, b in zip(before, pipeline.unet.parameters()))


def test_only_a_gpu_keeps_a_data_set():
    assert not fits([], CPU)
