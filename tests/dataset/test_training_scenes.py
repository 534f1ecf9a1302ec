"""Training scenes: what is drawn is what the truth says."""

import cv2
import numpy as np
import pytest

from sv3d_pipe.dataset.scenes.backdrops import Backdrops, find_photographs
from sv3d_pipe.dataset.scenes.compose import compose
from sv3d_pipe.dataset.scenes.cutouts import HELD_OUT, LONGEST, Cutouts, Source, find_sources
from sv3d_pipe.dataset.scenes.shadows import cast, contact
from sv3d_pipe.dataset.scenes.sheet import draw_sheet
from sv3d_pipe.errors import UserError
from sv3d_pipe.pictures import load_png, save_png


def ball(size=300, color=(0.9, 0.1, 0.1)):
    """A disc that fills half of a picture with alpha."""
    y, x = np.mgrid[:size, :size] + 0.5
    alpha = np.clip(0.35 * size - np.hypot(x - size / 2, y - size / 2), 0, 1)
    return np.concatenate([np.broadcast_to(color, (size, size, 3)), alpha[..., None]], -1).astype(np.float32)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "cutouts").mkdir()
    for i, color in enumerate([(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0)]):
        save_png(tmp_path / "cutouts" / f"ball{i}.png", ball(color=color))
    (tmp_path / "photos").mkdir()
    gray = np.full((400, 600, 3), 0.5, np.float32)
    gray[:, ::40] = 0.4
    save_png(tmp_path / "photos" / "wall.png", gray)
    return tmp_path


def material(folder):
    return Cutouts(find_sources([folder / "cutouts"])), Backdrops([folder / "photos" / "wall.png"])


def test_equal_seeds_give_equal_scenes(folder):
    first, second = (compose(np.random.default_rng(4), *material(folder), 96) for _ in range(2))
    for part in ("rgb", "told", "meant", "any"):
        np.testing.assert_array_equal(getattr(first, part), getattr(second, part))
    assert (
        first.rgb.shape == (96, 96, 3) and first.told.shape == (2, 96, 96) and first.meant.shape == (96, 96)
    )


def test_what_is_meant_is_an_object_and_is_where_its_color_is(folder):
    """The balls are saturated and the wall is gray: saturation and alpha go together."""
    rng, (cutouts, backdrops) = np.random.default_rng(0), material(folder)
    backdrops._room = lambda rng, height, width: (backdrops.crop(rng, height, width), 0.5)
    inside, outside, told = [], [], 0
    for _ in range(60):
        scene = compose(rng, cutouts, backdrops, 96)
        assert (scene.meant.astype(int) <= scene.any.astype(int) + 1).all()
        spread = np.ptp(scene.rgb.astype(float), axis=-1)
        inside += spread[scene.any > 250].tolist()
        outside += spread[scene.any < 5].tolist()
        if scene.told.any():
            told += 1
            assert scene.meant[scene.told[0] > 127].size == 0 or scene.meant[scene.told[0] > 127].max() > 100
    assert np.median(inside) > 60 > 30 > np.median(outside)
    assert 15 < told < 50  # about half


def test_a_box_holds_what_is_meant(folder):
    rng, parts = np.random.default_rng(1), material(folder)
    shares = []
    for _ in range(80):
        scene = compose(rng, *parts, 96)
        if scene.told[0].any():
            shares.append(scene.meant[scene.told[0] > 127].sum() / max(1, scene.meant.astype(int).sum()))
    assert len(shares) > 10 and np.mean(shares) > 0.9


def test_a_point_is_on_what_is_meant(folder):
    rng, parts, found = np.random.default_rng(2), material(folder), []
    for _ in range(80):
        scene = compose(rng, *parts, 96)
        if scene.told[1].any():
            y, x = np.unravel_index(scene.told[1].argmax(), scene.told[1].shape)
            found.append(scene.meant[y, x] > 0.4 * scene.meant.max())
    assert len(found) > 8 and np.mean(found) > 0.9


def test_shadows_darken_the_floor_at_the_foot_and_nothing_above_the_object():
    alpha = np.zeros((100, 100), np.float32)
    alpha[30:70, 40:60] = 1
    for seed in range(5):
        near, thrown = contact(np.random.default_rng(seed), alpha), cast(np.random.default_rng(seed), alpha)
        assert near[70:72, 45:55].max() < 0.95 and near[:20].min() > 0.99 and near[:, :10].min() > 0.98
        assert thrown.min() < 0.95 and thrown.max() == pytest.approx(1, abs=1e-3)
    assert (contact(np.random.default_rng(0), np.zeros((20, 20), np.float32)) == 1).all()


def test_cutouts_are_cropped_and_shrunk_and_pictures_without_alpha_are_none(tmp_path):
    wide = np.zeros((300, 1600, 4), np.float32)
    cv2.ellipse(wide, (800, 150), (700, 100), 0, 0, 360, (1.0, 0.5, 0.0, 1.0), -1)
    save_png(tmp_path / "wide.png", wide)
    save_png(tmp_path / "opaque.png", np.ones((300, 300, 3), np.float32))
    cutouts, rng = Cutouts(find_sources([tmp_path])), np.random.default_rng(0)
    drawn = [cutouts.draw(rng) for _ in range(10)]  # the opaque one would never end this
    assert {max(one.shape[:2]) for one in drawn} == {LONGEST}
    np.testing.assert_allclose(drawn[0][32, LONGEST // 2], [1, 0.5, 0, 1], atol=0.01)


def test_families_are_held_out_together_and_some_are():
    sources = [Source(f"family{i}", None) for i in range(2000)]
    share = np.mean([one.held_out for one in sources])
    assert abs(share - HELD_OUT) < 0.02


def test_looks_at_one_place_are_held_out_together(tmp_path):
    for place in range(40):
        for number in range(3):
            save_png(
                tmp_path / f"{3 * place + number:04d}_place{chr(97 + place % 26)}{place}x_{number}.png",
                np.ones((260, 260, 3), np.float32),
            )
    kept, held = (find_photographs([tmp_path], held_out) for held_out in (False, True))
    assert len(kept) + len(held) == 120 and held
    names = [{path.stem.strip("0123456789_") for path in paths} for paths in (kept, held)]
    assert not names[0] & names[1]


def test_a_folder_without_pictures_is_named(tmp_path):
    with pytest.raises(UserError, match="neither a data set"):
        find_sources([tmp_path])
    with pytest.raises(UserError, match="no pictures"):
        find_photographs([tmp_path], False)


def test_the_sheet_shows_scenes(folder, tmp_path):
    draw_sheet(tmp_path / "sheet.png", *material(folder), 96, 0)
    sheet = load_png(tmp_path / "sheet.png")
    assert sheet.shape[0] == 4 * 320 and sheet.shape[1] == 12 * 160 and sheet[..., :3].std() > 0.05
