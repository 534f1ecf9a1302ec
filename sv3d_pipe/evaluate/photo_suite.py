"""The suite ``photo``: all stages run on photos of each object; the mesh is compared with the object.

The first photo is a transparent render from the orbit's last camera, of the object as its subject turns it; further
ones are those of :mod:`sv3d_pipe.evaluate.taken_photos`. Shapes are normalized by their own box (photos do not tell
the scale), pictures are those of the normalized meshes on the orbit's 20 novel views. The baseline is a gray ellipsoid
with the first photo's extents. With ``tell_depth`` the exported mesh and the ellipsoid are stretched to the object's
true depth, as a user who knows it can do; nerf and refine are not.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from sv3d_pipe.artifacts import Mesh
from sv3d_pipe.contact_sheet import strip
from sv3d_pipe.evaluate.display import Display, StageBars
from sv3d_pipe.evaluate.rows import pictures, score_pictures, score_shapes
from sv3d_pipe.evaluate.scores import PICTURE_SCORES, SHAPE_SCORES
from sv3d_pipe.evaluate.suite import Options, Suite
from sv3d_pipe.evaluate.tables import Row, Table, summarize, word
from sv3d_pipe.evaluate.taken_photos import Subject, TakenPhoto, take_photo
from sv3d_pipe.evaluate.truth import Angles, ellipsoid, place, visible_scale
from sv3d_pipe.further_photos import View
from sv3d_pipe.geometry.extent import relative_depth, stretched, unit_box
from sv3d_pipe.pictures import save_png
from sv3d_pipe.pipeline import Image2Mesh
from sv3d_pipe.render.draw import render_views
from sv3d_pipe.render.objects import Object, load_object
from sv3d_pipe.road.run import Result
from sv3d_pipe.road.workspace import STAGES, Workspace

PHOTO_SIZE = 576
SIZE = 256
BY_AZIMUTH = ("export", "ellipsoid"), ("cd", "iou", "psnr")  # methods and scores


def measure(subject: Subject, folder: Path, options: Options, display: Display) -> tuple[Row, np.ndarray]:
    """One object's photos, the stages' meshes and the ellipsoid, scored; the workspace stays in the folder."""
    obj = place(subject.path, options.up, display.say, subject.azimuth_deg)
    angles = Angles.of(options.config.orbit, options.seed)
    camera = angles.cameras()[-1]
    photo = render_views(obj, camera, PHOTO_SIZE, supersample=2)[0]
    elevation_deg = float(angles.elevation_deg[-1])
    further = [
        take_photo(obj, azimuth, elevation_deg, options.view_error_deg, PHOTO_SIZE, options.seed, folder.name)
        for azimuth in options.views
    ]
    ball = ellipsoid(photo, camera)
    if options.tell_depth:
        export = replace(options.config.export, depth=round(relative_depth(obj.vertices), 4))
        options = replace(options, config=replace(options.config, export=export))
        ball = replace(ball, vertices=stretched(ball.vertices, export.depth)[0].astype(np.float32))
    result = _go(photo, further, folder, options, display)
    meshes = _meshes(result) | {"ellipsoid": ball}
    row = score_shapes(obj, meshes, options.seed, display)
    novel = Angles(angles.azimuth_deg[:-1], angles.elevation_deg[:-1])
    factor = visible_scale(unit(obj))
    truth = unit(obj, factor)
    alike = {method: unit(mesh, factor) for method, mesh in meshes.items()}
    for method in ("export", "ellipsoid"):
        row |= score_pictures(truth, alike[method], novel, options.size or SIZE, method)
    records = {run.record.stage: run.record for run in result.stages}
    row |= {f"{stage}_seconds": records[stage].seconds for stage in STAGES}
    row |= {
        "export_front_psnr": records["export"].metrics["front_psnr_db"],
        "warnings": [sentence for run in result.stages for sentence in run.record.warnings],
        "azimuth_deg": subject.azimuth_deg,
    }
    if further:
        row["views"] = [other.row() for other in further]
    sheet = pictures(truth, {m: alike[m] for m in ("nerf", "refine", "export")})
    photos = [photo, *(other.rgba for other in further)]
    return row, np.concatenate([strip(photos, len(sheet)), sheet], 1)


def unit(mesh: Mesh | Object, side: float = 1.0) -> Any:
    """A copy in its own centered box of longest side ``side``."""
    return replace(mesh, vertices=(side * unit_box(mesh.vertices)[0]).astype(np.float32))


def _go(
    photo: np.ndarray, further: list[TakenPhoto], folder: Path, options: Options, display: Display
) -> Result:
    """All stages in a workspace of their own; finished ones are not run again. Further photos are told as if exact."""
    file = folder / "photo.png"
    save_png(file, photo)
    views = [View(folder / f"view_{other.azimuth_deg:g}.png", other.azimuth_deg) for other in further]
    for view, other in zip(views, further):
        save_png(view.path, other.rgba)
    image2mesh = Image2Mesh(options.config, options.seed, options.device, StageBars(display))
    return image2mesh([file, *views], folder / "workspace", force_from="prep" if options.force else None)


def _meshes(result: Result) -> dict[str, Mesh | Object]:
    """The meshes of nerf, refine and export from their files."""
    workspace = Workspace(result.workspace)
    stages = {stage: Mesh.load(workspace.folder(stage)) for stage in ("nerf", "refine")}
    return stages | {"export": load_object(result.mesh)}


def breakdowns(rows: list[Row]) -> list[Table]:
    """Means by the azimuth of the first photo, where there are several."""
    groups: dict[float, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.get("azimuth_deg", 0.0), []).append(row)  # rows of earlier versions have none
    if len(groups) < 2:
        return []
    lines = []
    for azimuth_deg, own in sorted(groups.items()):
        known = summarize(own, *BY_AZIMUTH)
        means = [known[method].get(score, {}).get("mean") for method, score in product(*BY_AZIMUTH)]
        lines.append([f"{azimuth_deg:g} deg", str(len(own)), *map(word, means)])
    columns = [f"{method}_{score}" for method, score in product(*BY_AZIMUTH)]
    return [Table("Means by azimuth of the photo", ["", "rows", *columns], lines)]


PHOTO = Suite(
    name="photo",
    title="From photo to mesh",
    measure=measure,
    stages=STAGES,
    fixed={"export.format": "glb", "export.turntable": False},
    methods=("nerf", "refine", "export", "ellipsoid", "noise"),
    scores=(*SHAPE_SCORES, "front_psnr", *PICTURE_SCORES, "seconds"),
    columns=(
        "export_cd", "ellipsoid_cd", "noise_cd", "export_iou", "ellipsoid_iou", "export_b_f0.1",
        "export_front_psnr", "export_psnr", "ellipsoid_psnr", "seconds",
    ),
    judged="export_cd",
    large_is_good=False,
    label=("cd", "iou"),
    heading="cd / iou. Left to right: photo (and further ones), truth, field (nerf), refined, textured (export)",
    breakdowns=breakdowns,
    content=Subject.content,
)  # fmt: skip
