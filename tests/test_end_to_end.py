"""The whole road with the built-in model, small settings, from a photo on a plain wall to a textured GLB."""

import json
import multiprocessing
import os

import numpy as np
import pytest
import trimesh

from sv3d_pipe import Image2Mesh
from sv3d_pipe.cameras import orbit
from sv3d_pipe.dataset.invented.toys import procedural
from sv3d_pipe.errors import UserError
from sv3d_pipe.pictures import load_png
from sv3d_pipe.render.draw import Light, render_views
from sv3d_pipe.road.report import make_reporter
from sv3d_pipe.road.workspace import STAGES

SMALL = {
    "orbit.steps": 2,
    "orbit.guidance": 1.0,
    "nerf.steps": 120,
    "nerf.surface": 64,
    "refine.steps": 10,
    "refine.grid": 32,
    "refine.render": 128,
    "export.faces": 3000,
    "export.texture": 256,
    "export.turntable": False,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    from PIL import Image

    folder = tmp_path_factory.mktemp("road")
    obj = procedural(125)
    view = render_views(obj, orbit([0.0], 10.0, obj.camera_radius()), 320, Light((0.3, 0.8, 0.5), 0.6))[0]
    on_wall = view[..., :3] * view[..., 3:] + 0.85 * (1 - view[..., 3:])
    Image.fromarray((on_wall * 255).astype(np.uint8)).save(folder / "bird.png")
    to_mesh = Image2Mesh.from_preset("draft", SMALL, device="cpu", reporter=make_reporter(quiet=True))
    return to_mesh, folder / "bird.png", to_mesh(folder / "bird.png", folder / "work"), view


def test_the_mesh_opens_with_its_texture(run):
    _, _, result, _ = run
    mesh = trimesh.load(result.mesh, force="mesh")
    assert 1000 < len(mesh.faces) <= 3000
    assert mesh.visual.material.baseColorTexture.size == (256, 256)
    assert mesh.extents.max() == pytest.approx(1, abs=1e-3)
    np.testing.assert_allclose(mesh.bounds.sum(0), 0, atol=1e-3)


def test_the_cut_out_is_the_object(run):
    _, _, result, view = run
    found = load_png(result.workspace / "1-prep" / "photo.png")[..., 3] > 0.5
    rows, columns = (np.nonzero(found.any(axis))[0] for axis in (1, 0))
    height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
    solid = view[..., 3] > 0.5
    rows, columns = (np.nonzero(solid.any(axis))[0] for axis in (1, 0))
    assert width / height == pytest.approx((np.ptp(columns) + 1) / (np.ptp(rows) + 1), rel=0.03)
    assert max(width, height) == pytest.approx(0.8 * 576, abs=4)


def test_the_front_shows_the_photo(run):
    _, _, result, _ = run
    record = json.loads((result.workspace / "5-export" / "stage.json").read_text())
    # A gray picture of the right outline scores about 14 dB here, an empty one 10.
    assert record["metrics"]["front_psnr_db"] > 16


def files(workspace) -> dict[str, bytes]:
    """What the stages left, but for their records: those hold times."""
    return {
        path.relative_to(workspace).as_posix(): path.read_bytes()
        for path in sorted(workspace.glob("[1-5]-*/**/*"))
        if path.is_file() and path.name != "stage.json"
    }


def test_stage_by_stage_leaves_the_same_bytes_as_one_go(run, tmp_path):
    """Every stage must take what the one before it saved, not what it had in memory."""
    to_mesh, photo, result, _ = run
    for stage in STAGES:
        staged = to_mesh(photo, tmp_path / "staged", start=stage, until=stage)
    keys = [[each.record.key for each in one.stages] for one in (result, staged)]
    assert keys[0] == keys[1]
    whole, parts = files(result.workspace), files(staged.workspace)
    assert whole.keys() == parts.keys() and len(whole) > 25
    assert [name for name in whole if whole[name] != parts[name]] == []


def run_again(photo, workspace):
    Image2Mesh.from_preset("draft", SMALL, device="cpu")(photo, workspace)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of forks beside threads, which is the point
def test_a_fork_of_a_process_that_has_run_is_told_to_spawn(run):
    _, photo, result, _ = run
    with multiprocessing.get_context("fork").Pool(1) as pool:
        with pytest.raises(UserError, match="spawn"):
            pool.apply(run_again, (photo, result.workspace))


def test_a_finished_photo_does_no_work_and_one_change_runs_what_depends_on_it(run):
    to_mesh, photo, result, _ = run
    again = to_mesh(photo, result.workspace)
    assert all(stage.skipped for stage in again.stages)
    changed = Image2Mesh.from_preset(
        "draft", SMALL | {"export.faces": 2500}, device="cpu", reporter=make_reporter(quiet=True)
    )(photo, result.workspace)
    assert [stage.record.stage for stage in changed.stages if not stage.skipped] == ["export"]
