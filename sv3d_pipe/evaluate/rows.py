"""What the suites write down about an object: its numbers, and its line of pictures."""

from __future__ import annotations

from typing import Any

import numpy as np

from sv3d_pipe.artifacts import Mesh
from sv3d_pipe.cameras import orbit
from sv3d_pipe.contact_sheet import strip
from sv3d_pipe.evaluate.display import Display
from sv3d_pipe.evaluate.scores import compare, compare_pictures, noise, probe
from sv3d_pipe.evaluate.tables import Row
from sv3d_pipe.evaluate.truth import Angles, render_clay, render_mesh
from sv3d_pipe.render.draw import render_views
from sv3d_pipe.render.objects import Object

SHOWN = orbit(np.array([30.0, 210.0]), np.array([20.0, -15.0]))  # the contact sheet's cameras
SHOWN_SIZE = 128


def score_shapes(truth: Object, meshes: dict[str, Any], seed: int, display: Display) -> Row:
    """``<method>_<score>`` for all meshes against the truth, and the noise floor as method ``noise``."""
    row: Row = {}
    with display.bar("scores", len(meshes) + 2) as bar:
        known = probe(truth, seed)
        bar.update(1)
        for method, mesh in meshes.items():
            row |= {f"{method}_{k}": v for k, v in compare(known, probe(mesh, seed + 2)).items()}
            bar.update(1)
        row |= {f"noise_{k}": v for k, v in noise(truth, seed).items()}
        bar.update(1)
    return row


def score_pictures(truth: Object, pred: Object, angles: Angles, size: int, method: str) -> Row:
    """``<method>_<score>`` of the two objects' unlit pictures from the same cameras, mean over views."""
    cameras = angles.cameras()
    scores = compare_pictures(render_views(truth, cameras, size), render_views(pred, cameras, size))
    return {f"{method}_{name}": float(np.mean(values)) for name, values in scores.items()}


def pictures(truth: Object, meshes: dict[str, Mesh | Object]) -> np.ndarray:
    """Per mesh, truth first: one colored picture and two of the bare shape, side by side."""
    shown = []
    for mesh in (truth, *meshes.values()):
        draw = render_views if isinstance(mesh, Object) else render_mesh
        shown += [draw(mesh, SHOWN[0], 2 * SHOWN_SIZE)[0], *render_clay(mesh, SHOWN, 2 * SHOWN_SIZE)]
    return strip(shown, SHOWN_SIZE)
