"""The hand-over to Blender, with a stand-in that runs the real scene script (fake_blender.py)."""

import json
import math
import shutil
import stat
import sys
from pathlib import Path

import numpy as np
import pytest
import trimesh

from sv3d_pipe.cameras import orbit
from sv3d_pipe.dataset.photograph import Job, photograph
from sv3d_pipe.dataset.shoot import Shoot
from sv3d_pipe.errors import UserError
from sv3d_pipe.render.blender import (
    find_blender,
    load_with_blender,
    render_with_blender,
    roughness_of,
    to_glb,
)
from sv3d_pipe.render.draw import render_views
from sv3d_pipe.render.lighting import Studio

FAKE = Path(__file__).with_name("fake_blender.py")


@pytest.fixture
def blender(tmp_path, monkeypatch) -> str:
    """An executable called blender, found as a user's would be."""
    folder = tmp_path / "bin"
    folder.mkdir()
    executable = folder / "blender"
    executable.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{FAKE}" "$@"\n')
    executable.chmod(executable.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}:{Path(shutil.which('sh')).parent}")
    monkeypatch.setenv("PYTHONPATH", str(FAKE.parents[2]))
    return find_blender()


def test_cameras_mesh_and_light_arrive(blender, colored_cube, tmp_path, monkeypatch):
    monkeypatch.setenv("FAKE_BLENDER_LOG", str(tmp_path / "log.json"))
    cameras = orbit([0.0, 90.0, 200.0], [10.0, 40.0, -20.0], 3.0)
    lamps = np.float32([[0, 1, 0, 0.5, 0.25, 0.25], [0, 0, 1, 0.2, 0.2, 0.2]])
    studio = Studio(lamps, np.full((2, 3), 0.5, np.float32), (0.0, 1.0))
    pictures = render_with_blender(colored_cube, cameras, 48, studio, blender)
    expected = (render_views(colored_cube, cameras, 48) * 255 + 0.5).astype(np.uint8)
    assert np.abs(pictures.astype(int) - expected).mean() < 0.5  # the file's texture has 8 bits
    log = json.loads((tmp_path / "log.json").read_text())
    assert log["transparent"] is True
    np.testing.assert_allclose(log["lamps"][0]["toward"], [0, 0, 1], atol=1e-6)  # up is +z in Blender
    np.testing.assert_allclose(log["lamps"][1]["toward"], [0, -1, 0], atol=1e-6)  # front is -y
    assert log["lamps"][0]["energy"] == pytest.approx(0.5 * math.pi)
    np.testing.assert_allclose(log["lamps"][0]["color"], [1, 0.5, 0.5])


def test_files_that_only_blender_reads_are_converted_by_it(blender, tmp_path):
    path = tmp_path / "box.fbx"
    path.write_bytes(trimesh.creation.box((1, 2, 3)).export(file_type="glb"))
    np.testing.assert_allclose(np.ptp(load_with_blender(path, blender).vertices, axis=0), [1 / 3, 2 / 3, 1])
    job, look = Job(0, "box", path, 1), Shoot(size=16, views=2)
    with pytest.raises(UserError, match="--renderer blender"):
        photograph(job, look)


def test_a_failing_blender_is_one_sentence(blender, colored_cube, monkeypatch):
    monkeypatch.setenv("FAKE_BLENDER_FAILS", "1")
    with pytest.raises(UserError, match="Blender failed: Error: out of memory"):
        render_with_blender(colored_cube, orbit([0.0], 0.0), 16, None, blender)


def test_without_blender_the_user_is_told_where_to_put_it(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="IMG2MESH_BLENDER"):
        find_blender()


def test_the_mesh_file_holds_texture_and_smooth_normals(colored_cube):
    loaded = trimesh.load(
        trimesh.util.wrap_as_stream(to_glb(colored_cube, 0.5)), file_type="glb", force="mesh"
    )
    assert loaded.visual.material.roughnessFactor == pytest.approx(0.5)
    np.testing.assert_allclose(np.abs(loaded.vertex_normals).max(1), 1, atol=1e-3)  # a cube stays sharp
    assert roughness_of(None) == 1.0
    glossy = Studio(np.zeros((1, 6), np.float32), np.zeros((2, 3), np.float32), (0.5, 30.0))
    assert roughness_of(glossy) == pytest.approx(0.5)  # 2 / 0.5^4 - 2 = 30
