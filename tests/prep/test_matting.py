"""The matting network: what it finds, what it is told, and how it tells of doubt."""

import cv2
import numpy as np
import pytest
import torch

from sv3d_pipe.errors import UserError
from sv3d_pipe.prep.edges import refine
from sv3d_pipe.prep.matte import cut_out
from sv3d_pipe.prep.matting.doubt import (
    ALIKE,
    CUT_OFF,
    PALE,
    SEVERAL,
    SIGNS,
    UNCERTAIN,
    UNCLEAR,
    Calibration,
    border_share,
    calibration,
    fit_calibration,
    likeness,
    reason,
    signs_of,
)
from sv3d_pipe.prep.matting.find import Finding, bounds, built_in, close_look, find
from sv3d_pipe.prep.matting.network import MattingNet
from sv3d_pipe.prep.matting.told import box_map, point_map
from sv3d_pipe.prep.matting.weights import FILE, load_network, save_network
from sv3d_pipe.prep.net import SENTENCES, cut_by_network
from sv3d_pipe.prep.objects import objects_in
from sv3d_pipe.prep.parts import prominence
from sv3d_pipe.road.context import Context

HEIGHT, WIDTH = 300, 400


def disc(x, y, radius=70):
    rows, columns = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    return np.clip(radius + 0.5 - np.hypot(columns - x, rows - y), 0, 1).astype(np.float32)


def meadow(seed=0):
    """A background of many greens, in blades."""
    rng = np.random.default_rng(seed)
    noise = cv2.blur(rng.random((HEIGHT, WIDTH)).astype(np.float32), (3, 9))
    noise = (noise - noise.min()) / np.ptp(noise)
    return np.stack([0.15 + 0.25 * noise, 0.35 + 0.4 * noise, 0.1 + 0.1 * noise], -1)


def shaded(color, x, y, radius=70):
    """A ball's colors: light from the upper left."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    light = 1 - 0.5 * np.clip(np.hypot(columns - x + radius / 3, rows - y + radius / 3) / radius, 0, 1.5)
    return np.clip(np.float32(color) * light[..., None], 0, 1)


def photo(*balls, behind=None):
    """Balls (color, x, y) on a meadow, and their alphas."""
    image, alphas = (meadow() if behind is None else behind).astype(np.float32), []
    for color, x, y in balls:
        alpha = disc(x, y)
        image = image * (1 - alpha[..., None]) + shaded(color, x, y) * alpha[..., None]
        alphas.append(alpha)
    return image.astype(np.float32), alphas


def iou(alpha, truth):
    mine, true = alpha > 0.5, truth > 0.5
    return (mine & true).sum() / (mine | true).sum()


RED, BLUE = ((0.9, 0.2, 0.1), 200, 160), ((0.2, 0.3, 0.9), 290, 150)
LEFT = ((0.9, 0.5, 0.1), 105, 150)


def test_a_ball_on_a_meadow_is_found():
    image, (truth,) = photo(RED)
    found = find(image)
    assert found.alpha.shape == found.others.shape == (HEIGHT, WIDTH)
    assert iou(found.alpha, truth) > 0.93 and found.looks.shape[0] == 4


@pytest.mark.parametrize("meant, other", [(0, 1), (1, 0)])
def test_a_box_and_a_point_say_which_of_two_is_meant(meant, other):
    image, alphas = photo(LEFT, BLUE)
    _, x, y = (LEFT, BLUE)[meant]
    for told in ({"box": (x - 75, y - 75, x + 75, y + 75)}, {"point": (x + 10, y - 10)}):
        alpha = cut_out(image, "net", "photo.png", Context(), **told).rgba[..., 3]
        assert iou(alpha, alphas[meant]) > 0.8 > 0.1 > iou(alpha, alphas[other])


def test_a_close_look_sees_what_is_in_the_box():
    image, alphas = photo(LEFT, BLUE)
    assert iou(close_look(image, (30, 75, 180, 225)), alphas[0]) > 0.85


def test_objects_are_found_one_by_one():
    image, alphas = photo(LEFT, BLUE)
    found = objects_in(image)
    assert len(found) == 2
    for truth in alphas:
        assert max(iou(one, truth) for one in found) > 0.85


def test_the_middle_and_the_large_are_prominent():
    small, large, aside = disc(200, 150, 30), disc(200, 150, 60), disc(60, 150, 60)
    assert prominence(large) > prominence(aside) > prominence(small) > prominence(0 * small) == 0


def test_a_point_is_a_spot_that_fades():
    spot = point_map(30.5, 20.5, 50, 100)
    assert np.unravel_index(spot.argmax(), spot.shape) == (20, 30) and spot[20, 30] == 1
    assert spot[20, 36] < 0.05 and spot[20, 31] > spot[20, 32]


def test_a_box_is_filled_and_never_empty():
    inside = box_map((10.2, 5.0, 19.5, 8.0), 20, 30)
    assert inside.sum() == 10 * 3 and inside[5:8, 10:20].all()
    assert box_map((29.9, 19.9, 35.0, 30.0), 20, 30).sum() == 1
    assert box_map((-5.0, -5.0, -1.0, -1.0), 20, 30).sum() == 1


def test_bounds_leave_out_specks():
    alpha = disc(200, 150)
    alpha[5:8, 5:8] = 1
    assert bounds(alpha) == (130, 80, 270, 220)
    assert bounds(np.zeros((20, 20), np.float32)) is None


def test_the_network_looks_twice_and_says_the_same_of_a_mirrored_photo():
    image, _ = photo(LEFT)
    straight, mirrored = find(image).alpha, find(image[:, ::-1].copy()).alpha[:, ::-1]
    assert np.abs(straight - mirrored).mean() < 0.01


def test_weights_are_saved_in_half_precision_and_come_back(tmp_path):
    torch.manual_seed(0)
    network = MattingNet().eval()
    save_network(network, tmp_path)
    again = load_network(tmp_path)
    assert (tmp_path / FILE).stat().st_size < 12e6
    colors, told = torch.rand(1, 3, 64, 96), torch.zeros(1, 2, 64, 96)
    with torch.inference_mode():
        first, second = network(colors, told)[0], again(colors, told)[0]
    assert first.shape == (1, 2, 64, 96) and (first - second).abs().max() < 0.02


def test_another_file_is_no_network(tmp_path):
    with pytest.raises(UserError, match="no matting network"):
        load_network(tmp_path)
    (tmp_path / FILE).write_bytes(b"x" * 100)
    with pytest.raises(UserError, match="no matting network"):
        load_network(tmp_path)
    from safetensors.torch import save_file

    save_file({"trunk.stem.weight": torch.zeros(2, 2)}, tmp_path / FILE)
    with pytest.raises(UserError, match="no matting network"):
        load_network(tmp_path)


def test_the_built_in_network_is_small():
    assert sum(weights.numel() for weights in built_in().parameters()) * 2 < 12e6


def test_auto_takes_the_network_where_the_background_is_busy_and_the_backdrop_where_it_is_plain():
    busy, (truth,) = photo(RED)
    cut = cut_out(busy, "auto", "photo.png", Context())
    assert (cut.source, cut.background) == ("net", "busy") and iou(cut.rgba[..., 3], truth) > 0.93
    plain, _ = photo(RED, behind=np.full((HEIGHT, WIDTH, 3), 0.9))
    cut = cut_out(plain, "auto", "photo.png", Context())
    assert (cut.source, cut.background) == ("offline", "plain") and iou(cut.rgba[..., 3], truth) > 0.97
    assert cut_out(plain, "net", "photo.png", Context()).source == "net"


def test_edges_are_sharp_and_free_of_the_background():
    image, (truth,) = photo(RED)
    coarse = cv2.GaussianBlur(disc(200, 160, 72), (0, 0), 3)  # two pixels too large and blurred
    rgba = refine(image, coarse, 5)
    assert np.abs(rgba[..., 3] - truth).mean() < 0.3 * np.abs(coarse - truth).mean()
    edge = (truth > 0.3) & (truth < 0.9) & (rgba[..., 3] > 0.2)
    true_color = shaded(*RED)[edge]
    assert np.abs(rgba[edge][:, :3] - true_color).mean() < 0.5 * np.abs(image[edge] - true_color).mean()


def finding(alpha, others=None, looks=None):
    looks = np.stack([alpha] * 4) if looks is None else looks
    return Finding(alpha, alpha if others is None else others, looks, (0, 0, WIDTH, HEIGHT))


def named(found, image):
    return dict(zip(SIGNS, signs_of(found, image)))


def test_signs_of_a_clear_and_of_a_doubtful_cut_out():
    image, (truth,) = photo(RED)
    clear = named(finding(truth), image)
    assert (
        clear["disagreement"] == 0
        and clear["faintness"] < 0.02
        and clear["others"] == 0
        and clear["border"] == 0
    )
    shifted = np.stack([np.roll(truth, 30 * i, 1) for i in range(4)])
    assert named(finding(truth, looks=shifted), image)["disagreement"] > 0.3
    assert named(finding(truth, others=np.maximum(truth, disc(70, 80))), image)["others"] > 0.7
    assert named(finding(0.6 * truth), image)["faintness"] == pytest.approx(0.4, abs=0.02)
    assert named(finding(cv2.GaussianBlur(truth, (0, 0), 8)), image)["blur"] > 3 * clear["blur"]


def test_likeness_compares_both_sides_of_the_outline():
    truth = disc(200, 150)
    same = np.full((HEIGHT, WIDTH, 3), 0.5, np.float32)
    assert likeness(same, truth) > 0.999 > ALIKE
    assert likeness(photo(RED)[0], disc(200, 160)) < 0.4


def test_the_share_of_an_outline_on_the_border():
    half = np.zeros((100, 100), bool)
    half[:50] = True  # its outline is 50 + 100 + 50 pixels of border and 100 inside
    assert border_share(half) == pytest.approx(2 / 3, abs=0.02)
    assert border_share(disc(200, 150) > 0.5) == 0


@pytest.mark.parametrize(
    "expected, found, image",
    [
        (UNCLEAR, finding(disc(200, 150, 5)), meadow()),
        (SEVERAL, finding(disc(105, 150), others=np.maximum(disc(105, 150), disc(290, 150))), photo(LEFT, BLUE)[0]),
        (CUT_OFF, finding(disc(0, 150, 100)), photo(LEFT)[0]),
        (PALE, finding(disc(200, 150)), np.full((HEIGHT, WIDTH, 3), 0.5, np.float32)),
        (UNCERTAIN, finding(disc(200, 160)), photo(RED)[0]),
    ],
)  # fmt: skip
def test_what_is_the_matter_is_named(expected, found, image):
    image = image.astype(np.float32)
    assert reason(found, signs_of(found, image)) == expected
    assert "{name}" in SENTENCES[expected]


def test_the_calibration_gives_back_the_probabilities_it_was_drawn_from():
    rng = np.random.default_rng(0)
    true = Calibration((3.0, 0.0, -2.0, 0.0, 1.0, 0.0, 0.0), -1.0)
    signs = rng.random((20000, 7))
    chance = np.array([true.probability(row) for row in signs])
    fitted = fit_calibration(signs, rng.random(20000) < chance)
    again = np.array([fitted.probability(row) for row in signs])
    assert np.abs(again - chance).mean() < 0.02


def test_the_built_in_calibration_doubts_disagreement_more_than_agreement():
    image, (truth,) = photo(RED)
    shifted = np.stack([np.roll(truth, 40 * i, 1) for i in range(4)])
    sure, unsure = (
        calibration().probability(signs_of(one, image))
        for one in (finding(truth), finding(truth, looks=shifted))
    )
    assert unsure > 0.3 > sure


def test_doubt_is_said_and_nothing_found_is_an_error():
    image, (truth,) = photo(RED)
    context = Context()

    def cut(found):
        return cut_by_network(found, signs_of(found, image), image, "photo.png", context)

    rgba, sure = cut(finding(truth))
    assert sure and not context.warnings and rgba.shape == (HEIGHT, WIDTH, 4)
    shifted = np.stack([np.roll(truth, 40 * i, 1) for i in range(4)])
    _, sure = cut(finding(truth, looks=shifted))
    assert not sure and len(context.warnings) == 1 and "photo.png" in context.warnings[0]
    with pytest.raises(UserError, match="No object was found in photo.png.*--box"):
        cut(finding(0 * truth))
