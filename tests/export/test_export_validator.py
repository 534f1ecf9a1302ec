"""Exported GLB files before the Khronos glTF validator (the npm package gltf-validator; see `make validate`)."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sv3d_pipe.artifacts import Mesh, Views
from sv3d_pipe.cameras import orbit
from sv3d_pipe.config import ExportConfig
from sv3d_pipe.dataset.invented.toys import procedural
from sv3d_pipe.export.export import export_mesh
from sv3d_pipe.meshes.gltf_cameras import Perspective
from sv3d_pipe.placing.join_glb import Node, join
from sv3d_pipe.placing.photo_camera import about_y
from sv3d_pipe.placing.subject import Pose
from sv3d_pipe.render.draw import render_views
from sv3d_pipe.road.context import Context

SCRIPT = Path(__file__).parents[1] / "tools" / "validate_gltf.mjs"
N_FILES = 20


def validate(*files: Path) -> subprocess.CompletedProcess:
    places = [str(Path(sys.prefix) / "node" / "node_modules"), os.environ.get("NODE_PATH", "")]
    environment = os.environ | {"NODE_PATH": os.pathsep.join(filter(None, places))}
    command = [shutil.which("node"), str(SCRIPT), *map(str, files)]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def validator():
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    trial = validate()
    if "Cannot find module 'gltf-validator'" in trial.stderr:
        pytest.skip("the npm package gltf-validator is not installed (`make validate` does it)")
    assert trial.returncode == 0, trial.stderr
    return validate


def export_shape(seed: int, path: Path) -> None:
    """A procedural object through the export stage, its settings drawn from the seed."""
    rng = np.random.default_rng(seed)
    obj = procedural(seed)
    mesh = Mesh(obj.vertices, obj.faces, rng.random((len(obj.vertices), 3)).astype(np.float32))
    cameras = orbit(np.arange(1, 5) * 90.0 % 360, 10.0, obj.camera_radius())
    frames = render_views(obj, cameras, 48)
    views = Views(frames, cameras, frames[-1:])
    config = ExportConfig(
        faces=int(rng.integers(200, 2000)),
        texture=int(rng.choice([64, 128])),
        scale=float(rng.choice([0.05, 1, 100])),
        watertight=bool(rng.integers(2)),
        turntable=False,
    )
    path.write_bytes(export_mesh(config, mesh, views, Context())[0].documents["mesh.glb"])


def test_twenty_exported_files_are_valid(validator, tmp_path):
    files = [tmp_path / f"{seed:02d}.glb" for seed in range(N_FILES)]
    for seed, path in enumerate(files):
        export_shape(seed, path)
    result = validator(*files)
    print(result.stdout)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.splitlines()[-1].endswith("0 errors, 0 warnings, 0 infos, 0 hints")


def test_a_scene_of_exported_files_is_valid(validator, tmp_path):
    nodes = []
    for seed in range(3):
        export_shape(seed, tmp_path / f"{seed}.glb")
        nodes.append(
            Node(f"object-{seed}", tmp_path / f"{seed}.glb", Pose(about_y(40 * seed), 0.5, np.ones(3) * seed))
        )
    camera = Perspective(orbit([0.0], 20.0, 3.0).c2w[0], 40.0, 4 / 3)
    (tmp_path / "scene.glb").write_bytes(join(nodes, camera))
    result = validator(tmp_path / "scene.glb")
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.splitlines()[-1].endswith("0 errors, 0 warnings, 0 infos, 0 hints")


def test_the_validator_finds_what_is_wrong(validator, tmp_path):
    path = tmp_path / "good.glb"
    export_shape(0, path)
    bad = tmp_path / "bad.glb"
    bad.write_bytes(path.read_bytes().replace(b'"NORMAL"', b'"NORMAX"'))
    result = validator(bad)
    assert result.returncode == 1
    assert "NORMAX" in result.stdout
