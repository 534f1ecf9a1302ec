import numpy as np
import pytest
import torch
from training_fakes import cpu, record, toy_pipeline, toy_recipe, with_photos
from typer.testing import CliRunner

from sv3d_pipe.cli import app
from sv3d_pipe.config import PrepConfig
from sv3d_pipe.errors import UserError
from sv3d_pipe.finetune.assembly import make_examples, make_trainer
from sv3d_pipe.finetune.examples import Examples
from sv3d_pipe.finetune.known_views import KnownViews, framed
from sv3d_pipe.orbit.mini.knowledge import TOKEN, Knowledge
from sv3d_pipe.orbit.mini.pixel_codec import PixelCodec
from sv3d_pipe.orbit.mini.recognizer import SIDE
from sv3d_pipe.orbit.store.load import load_pipeline


def known_views(count: int = 2) -> KnownViews:
    orbits = [with_photos(record(k)) for k in range(count)]
    return KnownViews(orbits, PixelCodec(size=32), 3, torch.device("cpu"))


def fake_sight(monkeypatch) -> list[torch.Tensor]:
    """In place of the recognizer: keeps what it is shown and sees the mean color in it."""
    shown = []

    def seen(photos):
        shown.append(photos[0])
        mean = photos.mean().half()
        return mean.expand(len(photos), 120, 12, 12), mean.expand(len(photos), 1280)

    monkeypatch.setattr("sv3d_pipe.finetune.known_views.seen", seen)
    return shown


def extent(alpha: torch.Tensor) -> int:
    """The longer side of what is to be seen."""
    return max(np.ptp(np.nonzero(alpha.numpy() > 0)[axis]) + 1 for axis in (0, 1))


def test_a_framed_photo_fills_preps_share_in_any_detail():
    large = with_photos(record(0)).photos[0]
    for rng in (None, np.random.default_rng(0), np.random.default_rng(1)):
        picture = framed(large, rng)
        assert picture.shape == (4, SIDE, SIDE)
        assert extent(picture[3]) == pytest.approx(PrepConfig().fill * SIDE, abs=8)


def test_the_photo_is_one_of_the_photos_and_other_frames_never_are(monkeypatch):
    fake_sight(monkeypatch)
    examples = Examples(known_views(1), toy_recipe(frames=3), in_order=False)
    photos = set(examples.source.photos[0].tolist())
    assert photos == {6, 7, 8, 9, 10, 11}
    shape = examples.batch(range(4))
    assert shape.clean.shape == (4, 3, 4, 32, 32) and shape.token.shape == (4, 1, TOKEN)
    chosen = []
    views = examples.source.views
    monkeypatch.setattr(
        examples.source, "views", lambda index, which, rng: chosen.append(which) or views(index, which, rng)
    )
    examples.batch(range(20))
    assert {which[-1] for which in chosen} <= photos and len({which[-1] for which in chosen}) > 2
    assert not {view for which in chosen for view in which[:-1]} & photos


def test_the_frame_of_the_photo_is_what_the_recognizer_is_shown_mirrored_or_not(monkeypatch):
    """Both are framed alike, so that what is seen lies where the frame has it."""
    shown, source, mirrored = fake_sight(monkeypatch), known_views(1), set()
    for seed in range(8):
        views = source.views(0, np.array([0, 1, 7]), np.random.default_rng(seed))
        mirrored.add(views.mirrored)
        small = torch.nn.functional.interpolate(shown[-1][None], 32, mode="area")[0, 3]
        assert (small - views.photo[3]).abs().mean() < 0.08 < (small - views.photo[3].flip(-1)).abs().mean()
    assert mirrored == {False, True}


def test_the_token_tells_the_photos_own_depth(monkeypatch):
    fake_sight(monkeypatch)
    for number, depth in ((6, 0.5), (9, 2.0)):
        views = known_views(1).views(0, np.array([0, 1, number]), None)
        assert views.token[0, -1].exp().item() == pytest.approx(depth, rel=1e-4)


def test_a_data_set_without_photos_is_refused():
    with pytest.raises(UserError, match="toy0 has no photos.*--photos 6"):
        make_examples([record(0)], toy_pipeline(knows=True), toy_recipe(), cpu(), None)


def test_a_network_that_is_told_learns_to_listen(monkeypatch):
    """Two objects whose pictures are the same and whose tokens are not: only the told network tells them apart."""
    fake_sight(monkeypatch)
    pipeline = toy_pipeline(knows=True)
    examples = make_examples([with_photos(record(0))], pipeline, toy_recipe(), cpu(), None)
    assert isinstance(examples.source, KnownViews)
    make_trainer(pipeline, examples, toy_recipe(steps=3), None, cpu()).run()
    assert pipeline.unet.knowledge.tell.weight.abs().max() > 0
    assert pipeline.unet.knowledge.leave.weight.abs().max() > 0


def test_units_are_those_of_what_is_seen(monkeypatch):
    shown, source = fake_sight(monkeypatch), known_views(2)
    knowledge = Knowledge(8, 8)
    source.take_units(knowledge.units)
    assert len(shown) == 2
    means = torch.stack([photo.mean() for photo in shown])
    torch.testing.assert_close(knowledge.units.whole_mean, means.mean().expand(1280), atol=1e-3, rtol=0)


def test_a_new_mini_from_rendered_photos_knows_their_units(tmp_path):
    """The road a user takes: render with photos, train, load the model."""
    data, out = tmp_path / "data", tmp_path / "out"
    run = CliRunner().invoke
    done = run(
        app, f"render --procedural 2 -o {data} --views 4 --photos 2 --orbit random --workers 1".split()
    )
    assert done.exit_code == 0, done.output
    once = "--steps 1 --batch 1 --frames 2 --device cpu --precision float32"
    done = run(app, f"finetune {data} -o {out} --model new --validation {data} {once}".split())
    assert done.exit_code == 0, done.output
    pipeline = load_pipeline(str(out), "cpu")
    assert pipeline.knows and pipeline.unet.knowledge.units.fine_mean.abs().max() > 0
    assert pipeline.encode_photo(np.ones((64, 64, 4), np.float32), 10.0).token.shape == (1, 1, TOKEN)
