"""Cutting out: alpha is kept, plain backgrounds are removed, busy ones are named."""

import importlib.util

import cv2
import numpy as np
import pytest

from sv3d_pipe.errors import UserError
from sv3d_pipe.prep import matte
from sv3d_pipe.prep.backdrop import fit_border, random_walker
from sv3d_pipe.prep.edges import decontaminate, soften
from sv3d_pipe.prep.matte import cut_out, is_meaningful
from sv3d_pipe.prep.offline import find_letterbox, grab_cut, segment
from sv3d_pipe.road.context import Context


def disc(size=300, radius=90, center=(150, 150)):
    y, x = np.mgrid[:size, :size] + 0.5
    return np.clip(radius + 0.5 - np.hypot(x - center[0], y - center[1]), 0, 1)


def compose(alpha, front, behind):
    return (alpha[..., None] * front + (1 - alpha[..., None]) * behind).astype(np.float32)


def noisy(image, amount, seed=0):
    noise = np.random.default_rng(seed).normal(0, amount, image.shape)
    return np.clip(image + noise, 0, 1).astype(np.float32)


def iou(first, second):
    return (first & second).sum() / (first | second).sum()


def ramp(size=300):
    """A gray backdrop that falls from .85 to .55 from top to bottom."""
    return np.linspace(0.85, 0.55, size)[:, None, None] * np.ones((size, size, 3))


def checkers(size=300):
    y, x = np.mgrid[:size, :size] // 15
    colors = np.random.default_rng(3).random((20, 20, 3))
    return colors[y % 20, x % 20]


@pytest.mark.parametrize(
    "behind, amount",
    [(np.ones(3), 0), (np.full(3, 0.5), 0.02), (np.array([0.2, 0.3, 0.5]), 0.02), (ramp(), 0.02)],
    ids=["white", "gray", "blue", "ramp"],
)
def test_plain_background(behind, amount):
    alpha = disc()
    image = noisy(compose(alpha, np.array([0.8, 0.25, 0.1]), behind), amount)
    context = Context()
    result = cut_out(image, "offline", "photo.png", context)
    assert (
        result.source == "offline" and result.background == "plain" and result.sure and not context.warnings
    )
    assert iou(result.rgba[..., 3] > 0.5, alpha > 0.5) > 0.98
    assert np.abs(result.rgba[..., 3] - alpha).mean() < 0.01
    assert (result.rgba[..., 3][disc(radius=80) > 0] == 1).all()


def test_see_through_hole_stays_open():
    ring = disc(radius=110) - disc(radius=60)
    image = compose(ring, np.array([0.1, 0.3, 0.7]), np.ones(3))
    result = cut_out(image, "offline", "photo.png", Context())
    assert iou(result.rgba[..., 3] > 0.5, ring > 0.5) > 0.97


def test_soft_shadow_is_not_the_object():
    alpha, shadow = disc(radius=60, center=(150, 130)), disc(radius=60, center=(165, 190))
    behind = 0.9 - 0.12 * cv2.GaussianBlur(shadow, (0, 0), 18)[..., None] * np.ones(3)
    image = noisy(compose(alpha, np.array([0.7, 0.2, 0.2]), behind), 0.01)
    result = cut_out(image, "offline", "photo.png", Context())
    assert iou(result.rgba[..., 3] > 0.5, alpha > 0.5) > 0.95


def test_busy_background_warns():
    image = compose(disc(), np.array([0.9, 0.9, 0.1]), checkers())
    context = Context()
    result = cut_out(image, "offline", "photo.png", context)
    assert result.background == "busy" and not result.sure
    assert len(context.warnings) == 1 and "photo.png is busy" in context.warnings[0]


def test_empty_picture_is_an_error():
    with pytest.raises(UserError, match="No object was found in photo.png"):
        cut_out(np.full((64, 64, 3), 0.6, np.float32), "auto", "photo.png", Context())


def test_edge_colors_lose_the_background():
    alpha = cv2.GaussianBlur(disc(), (0, 0), 1.5)
    front = np.array([0.8, 0.1, 0.1])
    image = compose(alpha, front, np.array([0.1, 0.9, 0.1]))
    for rgba in (soften(image, disc() > 0.5), decontaminate(image, alpha.astype(np.float32))):
        edge = (rgba[..., 3] > 0.3) & (rgba[..., 3] < 0.9)
        assert edge.sum() > 100
        assert np.abs(rgba[edge][:, :3] - front).mean() < 0.05
        assert np.abs(image[edge] - front).mean() > 0.1


def test_alpha_is_kept():
    alpha = disc().astype(np.float32)
    image = np.concatenate([np.full((300, 300, 3), 0.4, np.float32), alpha[..., None]], -1)
    for method in ("auto", "alpha"):
        result = cut_out(image, method, "photo.png", Context())
        assert result.source == "alpha" and np.array_equal(result.rgba, image)


def test_which_alpha_says_something():
    noise = 1 - 0.02 * np.random.default_rng(0).random((100, 100))
    specks = np.ones((100, 100))
    specks[::20, ::20] = 0
    assert is_meaningful(disc())
    for alpha in (np.ones((9, 9)), np.zeros((9, 9)), noise, specks, np.full((9, 9), 0.3)):
        assert not is_meaningful(alpha)


def test_meaningless_alpha_falls_back_to_the_picture():
    rgb = compose(disc(), np.array([0.8, 0.25, 0.1]), np.ones(3))
    for fill in (1.0, 0.0):
        image = np.concatenate([rgb, np.full((300, 300, 1), fill, np.float32)], -1)
        result = cut_out(image, "auto", "photo.png", Context())
        assert result.source == "offline" and iou(result.rgba[..., 3] > 0.5, disc() > 0.5) > 0.98


def test_alpha_asked_for_but_missing():
    with pytest.raises(UserError, match="no transparent background"):
        cut_out(np.ones((32, 32, 3), np.float32), "alpha", "photo.png", Context())


def test_rembg_asked_for_but_absent(monkeypatch, tmp_path):
    image = np.ones((32, 32, 3), np.float32)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="rembg is not installed"):
        cut_out(image, "rembg", "photo.png", Context())
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setenv("U2NET_HOME", str(tmp_path))
    with pytest.raises(UserError, match="no weights"):
        cut_out(image, "rembg", "photo.png", Context())


def test_best_rembg_weights_are_found(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setenv("U2NET_HOME", str(tmp_path))
    assert matte.rembg_model() is None
    (tmp_path / "u2netp.onnx").touch()
    assert matte.rembg_model() == "u2netp"
    (tmp_path / "isnet-general-use.onnx").touch()
    assert matte.rembg_model() == "isnet-general-use"


def test_a_failing_rembg_is_one_sentence(monkeypatch):
    def no_network(rgb):
        raise ConnectionError("no network")

    monkeypatch.setattr(matte, "_rembg", no_network)
    image = compose(disc(), np.array([0.8, 0.2, 0.1]), np.ones(3))
    with pytest.raises(UserError, match="rembg failed .no network"):
        cut_out(image, "rembg", "photo.png", Context())


def test_border_fit_ignores_an_object_at_the_border():
    lab = np.zeros((100, 100, 3), np.float32)
    lab[..., 0] = np.linspace(40, 80, 100)
    expected = lab.copy()
    lab[40:60, :30] = (20, 60, 30)  # a tenth of the border
    surface, spread, agreement = fit_border(lab)
    assert np.abs(surface - expected).max() < 0.1
    assert spread == 1 and 0.9 < agreement < 0.99


def test_random_walker_on_a_line():
    """Two trusted ends and one free pixel between equal weights: the mean; behind an edge: its side."""
    flat, prior = np.zeros((1, 3, 3)), np.array([[0.0, 0.3, 1.0]])
    free = np.array([[False, True, False]])
    assert np.allclose(random_walker(flat, prior, np.zeros((1, 3)), free), [[0, 0.5, 1]], atol=1e-2)
    flat[0, 2] = 50
    assert random_walker(flat, prior, np.zeros((1, 3)), free)[0, 1] < 0.01


def test_letterbox_is_found_and_a_plain_backdrop_is_not():
    image = noisy(checkers(), 0.02)
    image[:40] = image[270:] = 0
    assert find_letterbox(image) == (41, 269, 0, 300)
    assert find_letterbox(compose(disc(), np.zeros(3), np.ones(3))) == (0, 300, 0, 300)
    box = np.ones((300, 300, 3), np.float32)
    box[60:240, 30:270] = 0.2  # a box-shaped object is no end of a bar
    assert find_letterbox(box) == (0, 300, 0, 300)


def test_grab_cut_without_seeds_gives_none():
    image = checkers().astype(np.float32)
    assert grab_cut(image, np.full((300, 300), cv2.GC_BGD, np.uint8), 1) is None


def test_same_photo_same_mask():
    image = compose(disc(), np.array([0.9, 0.9, 0.1]), checkers())
    assert np.array_equal(segment(image)[0], segment(image)[0])


@pytest.mark.parametrize("name, least", [("animal-2", 0.95), ("car-2", 0.8)])
def test_photos_against_reference_cut_outs(shared_dir, name, least):
    from sv3d_pipe.pictures import read_image

    photos = shared_dir / "photos"
    image, _ = read_image(photos / f"{name}.jpg", 1000)
    expected, _ = read_image(photos / f"{name}.matte.png", 1000)
    alpha = cut_out(image, "offline", name, Context()).rgba[..., 3]
    assert iou(alpha > 0.5, expected[..., 3] > 0.5) > least
