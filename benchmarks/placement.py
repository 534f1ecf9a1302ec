"""Whether a mesh file of any turn, size and unit finds its place: `refine --shape`.

    python benchmarks/placement.py --objects objects/val --limit 10 --trials 20

Each object is reconstructed from 21 true views (preset draft, nerf only). Its mesh is then turned at random by one of the
24 turns that map axes to axes and by up to 10 degrees more about a random axis, sized at random (from a thousandth to a
thousand times) and moved by up to ten of its own lengths, written as GLB, OBJ, PLY or STL, and placed as refine places it.
Right is a placement whose surface lies within 1 % of the longest side of the true one on average, and that ICP from there
to the truth turns by at most 2 degrees and scales by at most 2 %. A turn that maps an object to itself is thus no error.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import trimesh
from command import object_options, run
from scipy.spatial import cKDTree

from sv3d_pipe.artifacts import Mesh, Views
from sv3d_pipe.config import Config
from sv3d_pipe.errors import UserError
from sv3d_pipe.evaluate.truth import Angles, find_objects, place, true_views
from sv3d_pipe.geometry.similarity import similarity
from sv3d_pipe.nerf.fit_field import fit_field
from sv3d_pipe.refine.given_shape import load_shape
from sv3d_pipe.refine.shape_placement import angle_deg, axis_turns
from sv3d_pipe.road.context import Context

KINDS = ("glb", "obj", "ply", "stl")
EXTRA_DEG = 10.0
ANGLE_DEG, SIZE, NEAR = 2.0, 0.02, 0.01  # of a right placement
POINTS, MANY = 4000, 40000  # of a surface for ICP; and to measure distances, whose floor is then .003


def main() -> None:
    """Print a line per object and the shares over all."""
    parser = object_options(__doc__, "out/placement")
    parser.add_argument("--trials", type=int, default=20, help="per object")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    found = []
    for name, path in find_objects(options.objects, tuple(options.ids), options.limit).items():
        found += (own := _object(path, options.trials, options.seed))
        print(f"{name}: {_said(own)}", flush=True)
    print(f"all: {_said(found)}")


def _said(found: list[str]) -> str:
    return (
        ", ".join(
            f"{found.count(kind)} {kind}" for kind in ("right", "wrong but warned of", "wrong", "refused")
        )
        + f" of {len(found)}"
    )


def _object(path: Path, trials: int, seed: int) -> list[str]:
    config = Config.preset("draft")
    obj = place(path, "y", print)
    views = true_views(obj, Angles.of(config.orbit, seed), 256)
    surface = fit_field(config.nerf, views, Context(seed=seed))[0].mesh
    true = trimesh.Trimesh(obj.vertices, obj.faces, process=False)
    rng, found = np.random.default_rng(seed), []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(trials):
            found.append(_trial(true, surface, views, Path(folder) / f"{number}.{KINDS[number % 4]}", rng))
    return found


def _trial(true: trimesh.Trimesh, surface: Mesh, views: Views, file: Path, rng: np.random.Generator) -> str:
    turns = list(axis_turns().values())
    axis = rng.normal(size=3)
    extra = trimesh.transformations.rotation_matrix(np.radians(rng.uniform(-EXTRA_DEG, EXTRA_DEG)), axis)[
        :3, :3
    ]
    turn, size = extra @ turns[rng.integers(len(turns))], np.exp(rng.uniform(np.log(1e-3), np.log(1e3)))
    moved = true.copy()
    moved.vertices = (true.vertices @ turn.T + rng.uniform(-10, 10, 3)) * size
    moved.export(file)
    context = Context()
    try:
        placed, _ = load_shape(file, surface, views, context)
    except UserError:
        return "refused"
    put = trimesh.Trimesh(placed.vertices, placed.faces, process=False)
    target, source = (trimesh.sample.sample_surface(mesh, MANY, seed=0)[0] for mesh in (true, put))
    left = similarity(target[:POINTS], source[:POINTS])
    scale = np.cbrt(np.linalg.det(left[:3, :3]))
    near = cKDTree(target).query(source)[0].mean()  # what lies inside is lost where a mesh had to be closed
    turned = angle_deg(left[:3, :3] / scale, np.eye(3))
    if near <= NEAR and turned <= ANGLE_DEG and abs(scale - 1) <= SIZE:
        return "right"
    return "wrong but warned of" if context.warnings else "wrong"


if __name__ == "__main__":
    run(main)
