"""The suite ``recon``: nerf, refine and export given perfect views. No orbit model, no distillation.

Each object is photographed on the orbit of the settings (21 views, the last one the photo), and the mesh
of every stage is compared with it; the exported GLB is read back from its file. Its pictures are taken
halfway between the orbit's views.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from sv3d_pipe.artifacts import Mesh, Refined, Views
from sv3d_pipe.evaluate.display import Display
from sv3d_pipe.evaluate.rows import pictures, score_pictures, score_shapes
from sv3d_pipe.evaluate.scores import PICTURE_SCORES, SHAPE_SCORES
from sv3d_pipe.evaluate.suite import Options, Suite
from sv3d_pipe.evaluate.tables import Row
from sv3d_pipe.evaluate.truth import Angles, in_world, place, true_views
from sv3d_pipe.render.objects import Object
from sv3d_pipe.road.context import Context

STAGES = ("nerf", "refine", "export")
SIZE = 256


def measure(path: Path, folder: Path, options: Options, display: Display) -> tuple[Row, np.ndarray]:
    """All stages' meshes of one object, scored; the GLB stays in the folder."""
    obj = place(path, options.up, display.say)
    angles = Angles.of(options.config.orbit, options.seed)
    views = true_views(obj, angles, options.size or SIZE)
    context = Context(device=options.device, seed=options.seed, open_bar=display.bar)
    meshes, seconds = reconstruct(options, views, context, folder)
    row = {f"{stage}_seconds": seconds[stage] for stage in STAGES}
    row |= score_shapes(obj, meshes, options.seed, display)
    row |= score_pictures(obj, meshes["export"], angles.between(), options.size or SIZE, "export")
    return row | {"warnings": context.warnings}, pictures(obj, meshes)


def reconstruct(
    options: Options, views: Views, context: Context, folder: Path
) -> tuple[dict[str, Mesh | Object], dict[str, float]]:
    """The meshes of nerf and refine, the exported file read back, and the seconds each took.

    Args:
        folder: keeps the exported files.
    """
    from sv3d_pipe.export.export import export_mesh
    from sv3d_pipe.nerf.field import RadianceField
    from sv3d_pipe.nerf.fit_field import fit_field
    from sv3d_pipe.refine.fit_mesh import refine_mesh
    from sv3d_pipe.refine.poses import corrected

    seconds = {}

    def timed(stage: str, work: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        artifact, metrics = work()
        seconds[stage] = time.perf_counter() - start
        return artifact, metrics

    config = options.config
    field, _ = timed("nerf", lambda: fit_field(config.nerf, views, context))

    def refine() -> tuple[Refined, dict[str, Any]]:
        correction, better, _ = corrected(config.refine, field.mesh, views, context)
        mesh, metrics = refine_mesh(config.refine, RadianceField.from_field(field), better, context)
        return Refined(mesh, correction), metrics

    refined, _ = timed("refine", refine)
    asset, metrics = timed(
        "export", lambda: export_mesh(config.export, refined.mesh, refined.views(views), context)
    )
    asset.save(folder)
    exported = in_world(folder / "mesh.glb", metrics["transform"])
    return {"nerf": field.mesh, "refine": refined.mesh, "export": exported}, seconds


RECON = Suite(
    name="recon",
    title="Reconstruction from perfect views",
    measure=measure,
    stages=STAGES,
    fixed={"refine.sds": "off", "export.format": "glb", "export.turntable": False},
    methods=(*STAGES, "noise"),
    scores=(*SHAPE_SCORES, *PICTURE_SCORES, "seconds"),
    columns=(
        "nerf_cd", "refine_cd", "export_cd", "noise_cd", "nerf_iou", "refine_iou", "export_iou",
        "export_b_f0.1", "export_psnr", "seconds",
    ),
    judged="export_cd",
    large_is_good=False,
    label=("cd", "iou"),
    heading="cd / iou. Left to right: truth, field (nerf), refined, textured (export)",
)  # fmt: skip
