import numpy as np
import pytest
import torch
from training_fakes import record, toy_recipe

from sv3d_pipe.errors import UserError
from sv3d_pipe.finetune.examples import Examples, PixelViews, choose_views
from sv3d_pipe.orbit.mini.pixel_codec import PixelCodec


def examples(orbits, in_order=False, **changes) -> Examples:
    recipe = toy_recipe(**changes)
    return Examples(PixelViews(orbits, PixelCodec(size=32), recipe.frames), recipe, in_order)


def test_the_photo_comes_last_and_azimuths_are_relative_to_it():
    batch = examples([record(0), record(1)], frames=5).batch(range(2))
    assert batch.clean.shape == (2, 5, 4, 32, 32)
    torch.testing.assert_close(batch.photo, batch.clean[:, -1])
    assert (batch.ids[:, -1, 2] == 0).all() and batch.ids[:, :-1, 2].min() > 0
    torch.testing.assert_close(batch.ids[..., 1], torch.full((2, 5), np.radians(80)).float())
    torch.testing.assert_close(batch.ids[..., 0], torch.full((2, 5), 1e-5))


def test_a_video_models_frames_go_around_evenly_and_in_order():
    """Eight views every 45 degrees, four frames: 90, 180, 270 degrees from the photo, then the photo."""
    azimuth = np.arange(8, dtype=np.float32) * 45 + 10
    chosen = choose_views(azimuth, np.full(8, 10.0), 4, True, np.random.default_rng(3))
    assert ((azimuth[chosen] - azimuth[chosen[-1]]) % 360).tolist() == [90, 180, 270, 0]


def test_the_photo_is_taken_from_where_photos_are_taken():
    elevation = np.array([-30.0, 12.0, 80.0, 29.0])
    photos = {
        choose_views(np.arange(4.0), elevation, 2, False, np.random.default_rng(k))[-1] for k in range(40)
    }
    assert photos == {1, 3}
    assert choose_views(np.arange(2.0), np.array([70.0, 50.0]), 2, False, np.random.default_rng(0))[-1] == 1


@pytest.mark.parametrize("in_order", [False, True])
def test_mirrored_examples_turn_the_other_way(in_order):
    """The view at azimuth a of a mirrored object is the mirror image of the true view at -a."""
    toy = record(0, views=6)
    mirrored = 0
    for number in range(12):
        made = examples([toy], in_order, frames=6, seed=5).batch([number])
        alpha = (made.clean[0, :, 3] > 0).numpy()  # recoloring leaves it alone
        photo = [
            np.array_equal(alpha[-1], toy.rgba[k, ..., 3].numpy() > 0) for k in range(6)
        ]  # the true view that the photo is, unless it is mirrored
        if any(photo):
            start, sign = photo.index(True), 1
        else:
            flipped = [np.array_equal(alpha[-1][:, ::-1], toy.rgba[k, ..., 3].numpy() > 0) for k in range(6)]
            start, sign, mirrored = flipped.index(True), -1, mirrored + 1
        azimuth = made.ids[0, :, 2].rad2deg().round().int().tolist()
        if in_order:
            assert azimuth == [60, 120, 180, 240, 300, 0]
        for picture, angle in zip(alpha, azimuth):
            true = toy.rgba[(start + sign * angle // 60) % 6, ..., 3].numpy() > 0
            assert np.array_equal(picture[:, ::sign], true)
    assert 0 < mirrored < 12


def test_every_object_is_drawn_once_before_any_comes_again_and_textured_ones_more_often():
    orbits = [record(k, textured=k == 2) for k in range(3)]
    drawn = examples(orbits, oversample=3)
    order = [drawn._order(epoch).tolist() for epoch in range(4)]
    assert all(sorted(tickets) == [0, 1, 2, 2, 2] for tickets in order)
    assert len({tuple(tickets) for tickets in order}) > 1


def test_an_example_depends_on_its_number_alone():
    orbits = [record(0), record(1)]
    together = examples(orbits).batch([4, 5, 6, 7])
    apart = [examples(orbits).batch([k]) for k in (4, 5, 6, 7)]
    torch.testing.assert_close(together.clean, torch.cat([one.clean for one in apart]), rtol=0, atol=0)
    torch.testing.assert_close(together.ids, torch.cat([one.ids for one in apart]), rtol=0, atol=0)
    other = examples(orbits, seed=1).batch([4])
    assert not torch.equal(other.clean, apart[0].clean)


def test_phase_u_takes_static_orbits_only():
    moving, still = record(0, static=False), record(1)
    assert examples([moving, still], phase="u").tickets.tolist() == [1]
    with pytest.raises(UserError, match="no static orbits, which phase u needs"):
        examples([moving], phase="u")
    with pytest.raises(UserError, match="no orbits"):
        examples([])
