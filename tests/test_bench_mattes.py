"""benchmarks/mattes.py: its measures on small pictures with known answers, its test pictures, its refusals."""

from __future__ import annotations

import argparse
import importlib
import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sv3d_pipe.errors import UserError
from sv3d_pipe.pictures import read_image, save_png

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
PARTS = ("backgrounds", "compose", "shadows", "scores", "contenders", "sheet")


@pytest.fixture(scope="module")
def bench():
    """The modules of the benchmark, which lies outside the package."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        parts = {name: importlib.import_module(f"mattes_{name}") for name in PARTS}
        yield argparse.Namespace(main=importlib.import_module("mattes"), **parts)
    finally:
        sys.path.remove(str(BENCHMARKS))


def disc(side: int = 160) -> np.ndarray:
    """A red disc [side, side, 4] with a soft edge of one pixel."""
    y, x = np.mgrid[:side, :side] + 0.5 - side / 2
    alpha = np.clip(0.4 * side - np.hypot(x, y) + 0.5, 0, 1)
    return np.dstack([np.full((side, side), v) for v in (0.8, 0.1, 0.1)] + [alpha]).astype(np.float32)


def meadow(height: int = 300, width: int = 400) -> np.ndarray:
    """A green and noisy background [height, width, 3]."""
    noise = np.random.default_rng(5).uniform(-0.1, 0.1, (height, width, 3))
    return np.clip(np.float32([0.3, 0.6, 0.2]) + noise, 0, 1).astype(np.float32)


@pytest.fixture
def folders(tmp_path, bench):
    """A folder with one transparent picture and an opaque one, and a folder of backgrounds of all kinds."""
    photos, backgrounds = tmp_path / "photos", tmp_path / "backgrounds"
    photos.mkdir()
    save_png(photos / "disc.png", disc())
    save_png(photos / "opaque.png", meadow())
    for kind in bench.compose.KINDS:
        (backgrounds / kind).mkdir(parents=True)
        save_png(backgrounds / kind / "meadow.png", meadow())
    return photos, backgrounds


def test_iou_counts_pixels_above_one_half(bench):
    """6 against 8 pixels, 4 in common: 4 / 10. An alpha of exactly one half is background."""
    ours, truth = np.zeros((4, 4)), np.zeros((4, 4))
    ours.flat[:6], truth.flat[2:10] = 0.6, 1.0
    ours.flat[12] = 0.5
    assert bench.scores.iou(ours, truth) == 0.4
    assert bench.scores.iou(truth, truth) == 1.0
    assert bench.scores.iou(np.zeros((4, 4)), truth) == 0.0
    assert bench.scores.iou(np.zeros((4, 4)), np.zeros((4, 4))) == 1.0


def test_mean_absolute_error_is_over_the_whole_picture(bench):
    ours = np.zeros((10, 10))
    ours.flat[:5] = 0.4
    assert bench.scores.mean_absolute_error(ours, np.zeros((10, 10))) == pytest.approx(0.02)


def test_gradient_error_of_a_step_is_the_sum_of_the_filters_tails(bench):
    """Beside a unit step the derivative filter answers with the sum of its weights beyond the step."""
    step = np.zeros((30, 40))
    step[:, 20:] = 1
    weights = [i * np.exp(-(i**2) / (2 * 1.4**2)) for i in range(-4, 5)]
    bell = [np.exp(-(i**2) / (2 * 1.4**2)) for i in range(-4, 5)]
    slope = [w / np.sqrt(sum(v**2 for v in weights)) for w in weights]
    smooth = sum(bell) / np.sqrt(sum(v**2 for v in bell))
    tails = [sum(slope[cut:]) * smooth for cut in range(1, 9)]
    expected = 30 * sum(t**2 for t in tails) / 1000
    flat = np.zeros_like(step)
    assert bench.scores.gradient_error(step, flat) == pytest.approx(expected, rel=1e-9)
    assert bench.scores.gradient_error(step * 0.5, flat) == pytest.approx(expected / 4, rel=1e-9)
    assert bench.scores.gradient_error(step.T, flat.T) == pytest.approx(expected, rel=1e-9)
    assert bench.scores.gradient_error(step, 1 - step) == pytest.approx(0, abs=1e-12)  # lengths alone count


def test_halo_is_the_color_error_of_the_edge_that_is_shown(bench):
    """Off by 0.2 and 0.4 on the edge: 0.3. Neither the inside, nor outside, nor a hidden pixel counts."""
    truth = np.float32([[0.5, 0.5, 0.5, 1.0, 0.0, 0.95]])
    front = np.full((1, 6, 3), 0.5)
    rgba = np.ones((1, 6, 4))
    rgba[0, :, 0], rgba[0, :, 1], rgba[0, :, 2] = (np.array([0.7, 0.9, 0.0, 1.0, 1.0, 1.0]),) * 3
    rgba[0, 2, 3] = 0.05
    assert bench.scores.halo(rgba, truth, front) == pytest.approx(0.3)
    rgba[..., 3] = 0
    assert bench.scores.halo(rgba, truth, front) is None
    assert bench.scores.scores(rgba, truth, None)["halo"] is None


def test_reliability_of_the_warnings(bench):
    told = bench.scores.reliability([0.9, 0.8, 0.7, 0.5, 0.3], [True, False, True, False, True])
    assert told == {"wrong": 3, "warned": 3, "precision": 2 / 3, "recall": 2 / 3, "unwarned": 1}
    silent = bench.scores.reliability([0.9, 1.0], [False, False])
    assert silent == {"wrong": 0, "warned": 0, "precision": None, "recall": None, "unwarned": 0}


@pytest.mark.parametrize("seed", range(2))
def test_a_test_picture_is_the_mixture_that_its_truth_says(bench, seed):
    made = bench.compose.compose(disc(), meadow(), np.random.default_rng(seed))
    alpha = made.alpha[..., None]
    np.testing.assert_allclose(made.clean, alpha * made.front + (1 - alpha) * made.behind, atol=1e-6)
    height, width = made.alpha.shape
    assert bench.compose.LONGER[0] <= max(height, width) <= bench.compose.LONGER[1]
    assert min(abs(width / height - ratio) for ratio in bench.compose.RATIOS) < 0.01
    left, top, right, bottom = bench.compose.bounding_box(made.alpha)
    assert 0.29 < max(right - left, bottom - top) / min(width, height) < 0.76
    assert top > 0 and bottom > 0.4 * height and left >= 0 and right <= width
    assert not made.front[made.alpha == 0].any()
    picture = np.asarray(Image.open(io.BytesIO(made.jpeg)), np.float32) / 255
    assert 0.001 < np.abs(picture - made.clean).mean() < 0.05  # noise and compression


def test_test_pictures_repeat_with_their_seed(bench):
    first, second, other = (
        bench.compose.compose(disc(), meadow(), np.random.default_rng(seed)) for seed in (7, 7, 8)
    )
    assert first.jpeg == second.jpeg and first.jpeg != other.jpeg
    for name in ("clean", "alpha", "front", "behind"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


def test_shadows_lie_at_the_foot_and_only_darken(bench):
    alpha, white = np.zeros((200, 300), np.float32), np.ones((200, 300, 3), np.float32)
    alpha[80:150, 100:200] = 1
    touch = bench.shadows.contact_shadow(alpha)
    assert touch[149, 150] > 0.9 and touch[100, 150] < 1e-3 and touch[:, :20].max() == 0
    behind = bench.shadows.cast_shadow(alpha, 0.0, 0.4, backward=True)
    before = bench.shadows.cast_shadow(alpha, 0.0, 0.4, backward=False)
    assert behind[140, 150] > 0.9 > 0.1 > behind[160, 150]
    assert before[160, 150] > 0.9 > 0.1 > before[140, 150]
    aside = bench.shadows.cast_shadow(alpha, 1.0, 0.4, backward=True)
    assert aside[125, 205] > 0.5 > 0.1 > aside[125, 105]
    shaded = bench.shadows.shade(white, alpha, np.random.default_rng(1))
    assert shaded.max() <= 1 and shaded[148, 150].max() < 0.8 and shaded[5, 5].min() > 0.999


def test_light_like_the_objects_own_changes_nothing(bench):
    gray = np.full((40, 40, 3), 0.5, np.float32)
    rgba = np.dstack([gray, np.pad(np.ones((10, 10), np.float32), 15)])
    np.testing.assert_allclose(bench.compose.lit(rgba, gray), 0.5, atol=1e-4)
    assert bench.compose.lit(rgba, gray * 0.2).max() < 0.5
    red = bench.compose.lit(rgba, np.float32([0.8, 0.4, 0.4]) * np.ones_like(gray))
    assert red[20, 20, 0] > red[20, 20, 1]


def test_objects_are_transparent_pictures_and_photos_with_a_matte(bench, tmp_path):
    """Of a photo, the edge takes the color of the nearest opaque pixel, not of the background behind it."""
    alpha = np.zeros((60, 80), np.float32)
    alpha[20:40, 20:50], alpha[20:40, 50] = 1, 0.5
    photo = np.where(alpha[..., None] == 1, np.float32([1, 0, 0]), np.float32([0, 0, 1]))
    save_png(tmp_path / "box.png", photo)
    assert bench.compose.read_object(tmp_path / "box.png") is None
    save_png(tmp_path / "box.matte.png", np.dstack([photo, alpha]))
    rgba = bench.compose.read_object(tmp_path / "box.png")
    assert rgba[30, 50, 3] == pytest.approx(0.5, abs=0.01)
    np.testing.assert_array_equal(rgba[30, 50, :3], [1, 0, 0])
    save_png(tmp_path / "box.matte.png", np.dstack([photo, alpha])[:50])
    with pytest.raises(UserError, match="size of its photo"):
        bench.compose.read_object(tmp_path / "box.png")


def test_every_object_meets_every_kind_of_background(bench, folders, tmp_path):
    found = list(bench.main.cases(*folders, tmp_path / "out", 23, None))
    assert [case.kind for case in found] == [*bench.compose.KINDS, bench.compose.KINDS[0]]
    assert len({case.name for case in found}) == 6
    truth = read_image(tmp_path / "out" / f"{found[0].name}.truth.png", 2000)[0]
    np.testing.assert_allclose(truth[..., 3], found[0].alpha, atol=0.003)


def test_a_photo_with_a_reference_is_also_judged_as_it_is(bench, folders, tmp_path):
    photos, backgrounds = folders
    flat = disc()
    save_png(photos / "round.png", flat[..., :3] * flat[..., 3:])
    save_png(photos / "round.matte.png", flat)
    *_, last = bench.main.cases(photos, backgrounds, tmp_path / "out", 23, None)
    assert (last.name, last.kind, last.path, last.front) == ("round", "original", photos / "round.png", None)
    np.testing.assert_allclose(last.alpha, flat[..., 3], atol=0.021)


def test_missing_folders_are_named(bench, folders, tmp_path):
    photos, backgrounds = folders
    with pytest.raises(UserError, match="no pictures in city, landscape"):
        list(bench.main.cases(photos, tmp_path / "nowhere", tmp_path / "out", 23, None))
    with pytest.raises(UserError, match="no picture with a transparent background"):
        list(bench.main.cases(backgrounds, backgrounds, tmp_path / "out", 23, None))


def test_contenders_that_cannot_be_are_refused(bench):
    with pytest.raises(UserError, match="prep.matte must be one of .* not 'best'"):
        bench.contenders.of_prep("best")
    with pytest.raises(UserError, match="leave out the method alpha"):
        bench.contenders.of_prep("alpha")


def test_a_method_of_prep_and_what_it_says(bench, tmp_path):
    """On a plain background the disc is found without a word; on an empty picture the refusal is the warning."""
    plain = disc(400)
    save_png(tmp_path / "plain.png", plain[..., :3] * plain[..., 3:] + (1 - plain[..., 3:]))
    save_png(tmp_path / "empty.png", np.ones((300, 300, 3)))
    offline = bench.contenders.of_prep("offline")
    good, empty = offline(tmp_path / "plain.png"), offline(tmp_path / "empty.png")
    assert bench.scores.iou(good.rgba[..., 3], plain[..., 3]) > 0.98
    assert good.warnings == good.prep_warnings == [] and good.seconds > 0
    assert not empty.rgba.any() and "No object was found" in empty.warnings[0] and empty.prep_warnings


def test_u2netp_is_read_from_a_file_or_a_wheel(bench, tmp_path):
    wheel, other = tmp_path / "a.whl", tmp_path / "b.whl"
    for path, name in ((wheel, "rembg/u2netp.onnx"), (other, "rembg/bg.py")):
        with zipfile.ZipFile(path, "w") as made:
            made.writestr(name, b"network")
    (tmp_path / "damaged.whl").write_bytes(b"PK")
    (tmp_path / "u2netp.onnx").write_bytes(b"network")
    assert bench.contenders.network_bytes(wheel) == b"network"
    assert bench.contenders.network_bytes(tmp_path / "u2netp.onnx") == b"network"
    for path, said in (
        (other, "no u2netp.onnx"),
        (tmp_path / "damaged.whl", "damaged"),
        (tmp_path, "not a file"),
    ):
        with pytest.raises(UserError, match=said):
            bench.contenders.network_bytes(path)


def test_u2netp_sees_and_answers_as_in_rembg(bench):
    """The brightest value of the picture becomes 1 before the mean and deviation of ImageNet; the map is stretched."""
    seen = bench.contenders.normalized(np.full((50, 80, 3), 0.4, np.float32))
    assert seen.shape == (1, 3, 320, 320) and seen.dtype == np.float32
    expected = [(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225]
    np.testing.assert_allclose(seen[0, :, 7, 9], expected, rtol=1e-5)
    saliency = np.full((320, 320), -1.0, np.float32)
    saliency[:, 160:] = 3
    alpha = bench.contenders.stretched(saliency, (640, 320))
    assert alpha.shape == (320, 640) and alpha[5, 5] == 0 and alpha[5, 600] == 1


def test_backgrounds_are_cut_and_looked_at(bench):
    kinds = [item.kind for item in bench.backgrounds.BACKGROUNDS]
    assert set(kinds) == set(bench.compose.KINDS)
    assert min(map(kinds.count, bench.compose.KINDS)) >= 6
    picture = np.zeros((100, 200, 3), np.float32)
    picture[50:, 100:] = 1
    part = bench.backgrounds.cut(picture, (0.5, 0.5, 1.0, 1.0))
    assert part.shape == (50, 100, 3) and part.min() == 1
    panorama = np.full((180, 360, 3), 0.05, np.float32)
    panorama[95:105, 265:275] = 4.0  # 90 degrees to the right of the middle, 10 below the horizon
    seen = bench.backgrounds.look(panorama, 90, 10, 60, 200, 150).mean(-1)
    y, x = np.argwhere(seen > 0.9 * seen.max()).mean(0)
    assert abs(x - 99.5) < 1 and abs(y - 74.5) < 1


def test_the_whole_benchmark_in_little(folders, tmp_path):
    photos, backgrounds = folders
    command = [sys.executable, str(BENCHMARKS / "mattes.py"), "--photos", str(photos)]
    command += [
        "--backgrounds",
        str(backgrounds),
        "--out",
        str(tmp_path / "out"),
        "--limit",
        "2",
        "--methods",
    ]
    done = subprocess.run([*command, "offline"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (tmp_path / "out" / "scores.jsonl").read_text().splitlines()]
    assert [row["contender"] for row in rows] == ["offline"] * 2
    assert all(0 <= row["iou"] <= 1 and row["seconds"] > 0 and row["halo"] >= 0 for row in rows)
    assert (tmp_path / "out" / "tables.md").read_text().strip() in done.stdout
    assert 0 < (tmp_path / "out" / "sheet.png").stat().st_size < 6_000_000
    refused = subprocess.run([*command, "best"], capture_output=True, text=True)
    assert refused.returncode == 2 and refused.stderr.startswith("Error: prep.matte must be one of")
    assert refused.stderr.count("\n") == 1
