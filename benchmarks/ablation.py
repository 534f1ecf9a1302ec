"""What does each part of refinement buy? The same fields, refined with one thing changed at a time.

Perfect views of each object (21, sine orbit), one field, then all variants from that field. Protocol A's
chamfer distance (noisy: see its floor) and IoU, the chamfer distance and normal consistency of the whole
surfaces; means over the objects.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
from command import object_options, run
from dual import DualSolid

import sv3d_pipe.refine.fit as refine_fit
from sv3d_pipe.artifacts import Field, Mesh, Views
from sv3d_pipe.config import Config, RefineConfig
from sv3d_pipe.context import Context
from sv3d_pipe.evaluate.geometry import normalized, protocol_a
from sv3d_pipe.evaluate.objects import Angles, find_objects, place, true_views
from sv3d_pipe.evaluate.surface import sample, surface_scores
from sv3d_pipe.nerf.field import RadianceField
from sv3d_pipe.nerf.fit import fit_field
from sv3d_pipe.refine.fit import refine_from, refine_mesh
from sv3d_pipe.render.objects import Object

Variant = Callable[[RefineConfig, Field, Views], Mesh]


def changed(**values) -> Variant:
    """Refinement with other settings."""

    def refine(config: RefineConfig, field: Field, views: Views) -> Mesh:
        return refine_mesh(replace(config, **values), field, views, Context())[0]

    return refine


def coarse_to_fine(config: RefineConfig, field: Field, views: Views) -> Mesh:
    """Half the steps on a grid of half the resolution, then the rest from that surface."""
    albedo = RadianceField.from_field(field).train()
    half = replace(config, steps=config.steps // 2, grid=config.grid // 2)
    mesh = refine_from(half, field.mesh, albedo, views, Context())[0]
    return refine_from(replace(config, steps=config.steps // 2), mesh, albedo, views, Context())[0]


def dual(config: RefineConfig, field: Field, views: Views) -> Mesh:
    """A vertex per cube with learned weights."""
    with patch.object(refine_fit, "Solid", DualSolid):
        return refine_mesh(config, field, views, Context())[0]


def no_anchor(config: RefineConfig, field: Field, views: Views) -> Mesh:
    """Nothing ties the distances to the starting surface."""
    with patch.object(refine_fit, "ANCHOR_WEIGHT", 0.0):
        return refine_mesh(config, field, views, Context())[0]


def fixed_nodes(config: RefineConfig, field: Field, views: Views) -> Mesh:
    """The grid's nodes stay where they are: distances alone move the surface."""
    with patch("sv3d_pipe.refine.solid.deform", lambda nodes, offsets, cell: nodes):
        return refine_mesh(config, field, views, Context())[0]


VARIANTS: dict[str, Variant] = {
    "as it is": changed(),
    "no normal term": changed(normal_weight=0.0),
    "normal term x 3": changed(normal_weight=0.3),
    "no smoothness of the SDF": changed(smooth_weight=0.0),
    "smoothness of the SDF x 4": changed(smooth_weight=0.2),
    "neither of both": changed(normal_weight=0.0, smooth_weight=0.0),
    "no anchor": no_anchor,
    "no colors": changed(color_weight=0.0),
    "no masks": changed(mask_weight=0.0),
    "lighting": changed(lighting=True),
    "fixed nodes": fixed_nodes,
    "coarse to fine": coarse_to_fine,
    "vertex per cube": dual,
}


def measure(path: Path, config: Config, size: int, names: list[str]) -> dict:
    """cd, iou and seconds of the field and of every variant."""
    obj = place(path)
    views = true_views(obj, Angles.of(config.orbit), size)
    field = fit_field(config.nerf, views, Context())[0]
    row = {"nerf": scores(obj, field.mesh)}
    for name in names:
        start = time.process_time()
        mesh = VARIANTS[name](config.refine, field, views)
        seconds = time.process_time() - start
        row[name] = scores(obj, mesh) | {"seconds": seconds}
    return row


def scores(obj: Object, mesh: Mesh) -> dict[str, float]:
    """cd and iou by protocol A, surface_cd and normals of the whole surfaces."""
    truth = (obj.vertices, obj.faces)
    surfaces = (sample(normalized(m), seed) for seed, m in enumerate((truth, mesh)))
    return protocol_a(truth, mesh) | surface_scores(*surfaces)


def table(rows: dict[str, dict], names: list[str]) -> str:
    """Means over the objects, as markdown."""
    lines = ["| variant | CD | IoU | surface CD | normals | core-seconds |", "|---|---|---|---|---|---|"]
    for name in ["nerf", *names]:
        means = [
            np.mean([row[name].get(key, np.nan) for row in rows.values()])
            for key in ("cd", "iou", "surface_cd", "normals", "seconds")
        ]
        lines.append("| {} | {:.4f} | {:.3f} | {:.5f} | {:.3f} | {:.0f} |".format(name, *means))
    return "\n".join(lines)


def main() -> None:
    parser = object_options(__doc__, "out/ablation.json")
    parser.add_argument("--size", type=int, default=256, help="side of the views")
    parser.add_argument("--preset", default="draft")
    parser.add_argument("--variants", nargs="*", default=list(VARIANTS), choices=list(VARIANTS))
    options = parser.parse_args()
    config = Config.preset(options.preset).replace({"refine.sds": False})
    names = ["as it is", *(name for name in options.variants if name != "as it is")]
    rows = {}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    for name, path in find_objects(options.objects, tuple(options.ids), options.limit).items():
        rows[name] = measure(path, config, options.size, names)
        options.out.write_text(json.dumps(rows, indent=1))
        print(name, {k: (round(v["cd"], 4), round(v["iou"], 3)) for k, v in rows[name].items()}, flush=True)
    print(table(rows, names))


if __name__ == "__main__":
    run(main)
