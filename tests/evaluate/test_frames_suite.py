"""The suite ``frames`` on orbits of toys: a ball, and a body with an arm whose truth was turned."""

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import trimesh
from typer.testing import CliRunner

from sv3d_pipe.cameras import orbit, orbit_azimuths
from sv3d_pipe.cli import app
from sv3d_pipe.evaluate.frames_suite import cut_out, held_out, shown_frames
from sv3d_pipe.evaluate.orbit_files import find_orbits
from sv3d_pipe.evaluate.picture_scores import psnr
from sv3d_pipe.evaluate.surface_samples import sample
from sv3d_pipe.evaluate.truth import scaled, visible_scale
from sv3d_pipe.pictures import load_png, on_white, save_png
from sv3d_pipe.render.draw import render_views
from sv3d_pipe.render.objects import from_trimesh

SIZE, COUNT, ELEVATION = 64, 21, 12.0
FEW = (
    "--set", "nerf.steps=80", "--set", "nerf.samples=4096", "--set", "nerf.surface=48", "--set", "nerf.levels=6",
    "--set", "refine.steps=8", "--set", "refine.grid=24", "--set", "refine.render=64", "--set", "export.faces=1500",
    "--set", "export.texture=128", "--device", "cpu", "-q",
)  # fmt: skip


def egg(extents, shift, rgb):
    mesh = trimesh.creation.icosphere(subdivisions=3, radius=0.5)
    mesh.apply_scale(extents)
    stripes = 0.75 + 0.25 * np.sign(np.sin(9 * mesh.triangles_center[:, :1]))
    colors = (stripes * np.array(rgb)).astype(np.uint8)
    mesh.visual = trimesh.visual.ColorVisuals(mesh, face_colors=colors)
    mesh.apply_translation(shift)
    return mesh


TOYS = {
    "ball": egg((1, 1, 1), (0, 0, 0), (200, 60, 40)),
    "body": trimesh.util.concatenate(
        [
            egg((0.9, 0.5, 0.6), (0, 0, 0), (200, 60, 40)),
            egg((0.35, 0.8, 0.35), (0.25, 0.3, 0.1), (30, 90, 220)),
        ]
    ),
}


@pytest.fixture(scope="module")
def orbits(tmp_path_factory):
    """Folders of frames on white, or, for the ball, transparent; the true body, turned and scaled, beside them."""
    root = tmp_path_factory.mktemp("frames")
    cameras = orbit(orbit_azimuths(COUNT), ELEVATION)
    for name, toy in TOYS.items():
        (root / "orbits" / name).mkdir(parents=True)
        obj = from_trimesh(toy)
        rgba = render_views(scaled(obj, visible_scale(obj)), cameras, SIZE)
        for i, frame in enumerate(rgba if name == "ball" else on_white(rgba)):
            save_png(root / "orbits" / name / f"{i:03d}.png", frame)
    turned = TOYS["body"].copy()
    turned.apply_transform(trimesh.transformations.rotation_matrix(np.radians(130), (0, 1, 0)))
    turned.apply_scale(7)
    (root / "truth").mkdir()
    turned.export(root / "truth/body.ply")
    return root


def command(orbits, *more) -> list[str]:
    """To measure the toys, with few steps of everything."""
    given = "eval", "frames", orbits / "orbits", "--elevation-deg", ELEVATION, "--truth", orbits / "truth"
    return [*map(str, given), *FEW, *map(str, more)]


@pytest.fixture(scope="module")
def result(orbits):
    """The command's document and where it is."""
    out = orbits / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sv3d_pipe.evaluate.scores.sample", partial(sample, count=5_000))
        done = CliRunner().invoke(app, command(orbits, "-o", out))
    assert done.exit_code == 0, done.output
    document = json.loads((out / "frames.json").read_text())
    return {row["name"]: row for row in document["rows"]}, document, out


def test_held_out_frames_are_spread_and_never_the_photo():
    assert held_out(21).tolist() == [2, 7, 12, 17]
    assert shown_frames(21) == [20, 2, 7, 10, 12, 17]
    for count in range(9, 60):
        held = held_out(count)
        assert len(set(held)) == 4 and held.max() < count - 1
        around = np.diff(
            np.concatenate([[-1], held, [count - 1]])
        )  # frames from one to the next; -1 is the photo
        assert around[1:-1].min() >= 2 and around.max() <= np.ceil((count - 1) / 4)


def test_frames_on_white_are_cut_out_and_others_keep_their_masks(orbits):
    angles = orbit_azimuths(COUNT), np.full(COUNT, ELEVATION)
    true = render_views(scaled(obj := from_trimesh(TOYS["body"]), visible_scale(obj)), orbit(*angles), SIZE)
    found = find_orbits(orbits / "orbits")
    cut = cut_out(found["body"].frames(), angles)
    assert cut.shape == (COUNT, SIZE, SIZE, 4)
    assert np.abs(cut[..., 3] - true[..., 3]).mean() < 0.01
    clear = found["ball"].frames()
    np.testing.assert_array_equal(cut_out(clear, angles), clear)


def test_a_ball_is_one_closed_piece(result):
    row = result[0]["ball"]
    assert (row["export_euler"], row["export_components"], row["export_floaters"]) == (2, 1, 0)
    assert row["elevation_deg"] == ELEVATION and row["frames"] == COUNT and row["size"] == SIZE
    assert abs(row["export_fringe_change"]) < 0.1 and 0.5 < row["frames_fringe"] < 0.9
    assert row["export_fringe_change"] == pytest.approx(row["export_fringe"] - row["frames_fringe"])


def test_frames_left_out_are_predicted_better_than_by_their_neighbors(result, orbits):
    row = result[0]["body"]
    frames = np.stack([load_png(orbits / f"orbits/body/{i:03d}.png") for i in range(COUNT)])
    held = row["heldout"]["frame"]
    by_neighbor = np.maximum(
        psnr(frames[held], frames[np.add(held, 1)]), psnr(frames[held], frames[np.add(held, -1)])
    )
    assert row["export_heldout_psnr"] > max(20, by_neighbor.mean())
    assert row["export_heldout_psnr"] == pytest.approx(np.mean(row["heldout"]["psnr"]))
    assert row["export_heldout_mask_iou"] > 0.93 and row["export_front_psnr"] > 20


def test_a_truth_that_was_turned_and_scaled_is_found(result):
    row, without = result[0]["body"], result[0]["ball"]
    assert row["turned_yaw_deg"] == pytest.approx(130, abs=3)
    assert row["turned_cd"] < 0.03 and row["turned_iou"] > 0.85
    assert row["turned_b_f0.2"] > 0.95  # not nearer: where its parts overlap, the true body has walls inside
    assert row["fitted_cd"] <= row["turned_cd"] and row["fitted_iou"] > 0.85
    assert not any(name.startswith(("turned", "fitted")) for name in without)


def test_what_is_left_behind(result):
    _, document, out = result
    assert (
        document["summary"]["export"]["heldout_psnr"]["n"] == 2
        and document["summary"]["turned"]["cd"]["n"] == 1
    )
    assert "heldout_psnr, heldout_mask_iou" in document["about"] and document["failed"] == []
    text = (out / "frames.md").read_text()
    assert "export_heldout_psnr" in text and "turned_cd" in text and "fringe" in text
    assert load_png(out / "body/strip.png").shape == (4 * 144, 6 * 144, 3)
    assert (out / "frames.png").exists() and (out / "body/mesh.glb").exists()


def test_nothing_is_measured_twice_until_the_elevation_changes(result, orbits, monkeypatch):
    measured = []

    def instead(files, folder, options, display):
        measured.append(files.path.name)
        return {"export_heldout_psnr": 1.0}, np.ones((8, 6 * 144, 3))

    from sv3d_pipe.evaluate import frames_suite

    monkeypatch.setattr(frames_suite, "FRAMES", replace(frames_suite.FRAMES, measure=instead))
    known = orbits / "known.json"
    arguments = command(orbits, "-o", result[2], "--elevations", known)
    for elevation, expected in ((ELEVATION, []), (3, ["body"])):
        known.write_text(json.dumps({"body": elevation}))
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0 and measured == expected, done.output
