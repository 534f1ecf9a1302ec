"""The suite ``frames``: nerf, refine and export on orbits that somebody painted, of which nobody knows the truth.

The frames are cut out as the road cuts out SV3D's. The mesh of all of them is judged by its own views and by its
shape; a second mesh, of all frames but four, predicts these four. Where a true mesh is given after all, both
protocols compare it with the first mesh, see :mod:`sv3d_pipe.evaluate.alignment`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from sv3d_pipe.artifacts import Views
from sv3d_pipe.cameras import orbit, orbit_azimuths
from sv3d_pipe.contact_sheet import strip
from sv3d_pipe.evaluate.alignment import ABOUT as ABOUT_ALIGNMENT
from sv3d_pipe.evaluate.alignment import aligned_scores
from sv3d_pipe.evaluate.display import Display
from sv3d_pipe.evaluate.orbit_files import OrbitFiles
from sv3d_pipe.evaluate.outline import ABOUT as ABOUT_FRINGE
from sv3d_pipe.evaluate.outline import fringe
from sv3d_pipe.evaluate.picture_scores import psnr, silhouette_iou
from sv3d_pipe.evaluate.recon_suite import STAGES, reconstruct
from sv3d_pipe.evaluate.scores import SHAPE_SCORES, noise
from sv3d_pipe.evaluate.suite import Options, Suite
from sv3d_pipe.evaluate.surface_samples import soundness, topology
from sv3d_pipe.evaluate.tables import Row
from sv3d_pipe.evaluate.truth import render_clay, upright
from sv3d_pipe.orbit.masks import crisp
from sv3d_pipe.pictures import BEST_DB, on_white
from sv3d_pipe.pipeline import PHOTO_ROUTE
from sv3d_pipe.prep.one_against_all import mended
from sv3d_pipe.prep.white_orbit import cut_from_white
from sv3d_pipe.render.draw import render_views
from sv3d_pipe.render.objects import Object
from sv3d_pipe.road.context import Context

PREDICTED = 4
SHOWN_SIZE = 144
ABOUT = {
    "heldout_psnr, heldout_mask_iou": f"{PREDICTED} frames, evenly spread, predicted by the exported mesh of the other "
    "frames: PSNR against the frame as it was painted, on white; IoU of the silhouette and the frame's cut-out",
    "psnr, mask_iou, front_psnr": "the same of the frames that the mesh was made of: their mean, and the photo's view",
    "fringe": f"{ABOUT_FRINGE}; export: the mesh seen by the frames' cameras, frames: the pictures in their cut-outs' "
    "outline; fringe_change is export's less the frames': below 0 the mesh's outline is whiter",
    "euler, components, floaters": "of the exported mesh, seams merged: vertices - edges + faces (2 for a ball); parts "
    "that share no vertex; share of the area outside of the largest part",
    **ABOUT_ALIGNMENT,
}


def measure(files: OrbitFiles, folder: Path, options: Options, display: Display) -> tuple[Row, np.ndarray]:
    """The scores of one orbit; the files of its mesh stay in the folder, those of the second one in ``heldout/``."""
    truth = None if files.truth is None else upright(files.truth, options.up, display.say)
    frames = files.frames()
    white, count = on_white(frames), len(frames)
    angles = orbit_azimuths(count), np.full(count, files.elevation_deg)
    cameras, masks = orbit(*angles), cut_out(frames, angles)[..., 3] > 0.5
    held = held_out(count)
    mesh, seconds, warnings = _fit(frames, angles, options, folder, display)
    kept = np.setdiff1d(np.arange(count), held)
    guess, _, _ = _fit(frames[kept], (angles[0][kept], angles[1][kept]), options, folder / "heldout", display)

    seen, predicted = (
        render_views(shape, cameras, frames.shape[1], supersample=2) for shape in (mesh, guess)
    )
    row: Row = {f"{stage}_seconds": seconds[stage] for stage in STAGES}
    row |= {"frames_fringe": fringe(white, masks)}
    row |= {f"export_{name}": score for name, score in _scores(mesh, seen, white, masks).items()}
    row["export_fringe_change"] = row["export_fringe"] - row["frames_fringe"]
    foretold = _alike(predicted[held], white[held], masks[held])
    row |= {f"export_heldout_{name}": float(np.mean(values)) for name, values in foretold.items()}
    if truth is not None:
        with display.bar("scores", 1) as bar:
            row |= aligned_scores(truth, mesh, options.seed)
            row |= {f"noise_{name}": score for name, score in noise(truth, options.seed).items()}
            bar.update(1)
    row |= {"heldout": {"frame": held.tolist(), **foretold}, "elevation_deg": files.elevation_deg}
    shown = shown_frames(count)
    clay = render_clay(mesh, cameras[shown], 2 * SHOWN_SIZE)
    lines = (white[shown], seen[shown], clay, predicted[shown])
    picture = np.concatenate([strip(list(line), SHOWN_SIZE) for line in lines])
    return row | {"frames": count, "size": frames.shape[1], "warnings": warnings}, picture


def held_out(count: int) -> np.ndarray:
    """The frames that are predicted: the middles of :data:`PREDICTED` equal parts of those that are not the photo."""
    return ((np.arange(PREDICTED) + 0.5) * (count - 1) / PREDICTED).astype(int)


def shown_frames(count: int) -> list[int]:
    """Columns of the sheet: the photo, then around the object the predicted frames and between them the one behind."""
    held = held_out(count).tolist()
    half = PREDICTED // 2
    return [count - 1, *held[:half], (count - 1) // 2, *held[half:]]


def cut_out(
    frames: np.ndarray,  # [N, S, S, 4] straight alpha
    angles: tuple[np.ndarray, np.ndarray],  # azimuth_deg, elevation_deg [N]
) -> np.ndarray:  # [N, S, S, 4]
    """The frames in masks as a surface can be fitted to them: as the orbit stage does with SV3D's.

    Frames without transparency are cut out of white; the others have their masks already.
    """
    opaque = frames[..., 3].min() == 1
    return crisp(cut_from_white(frames[..., :3], orbit(*angles)) if opaque else frames)


def _fit(
    frames: np.ndarray,
    angles: tuple[np.ndarray, np.ndarray],
    options: Options,
    folder: Path,
    display: Display,
) -> tuple[Object, dict[str, float], list[str]]:
    """The exported mesh of these frames alone in the world of the cameras, the stages' seconds, and warnings."""
    folder.mkdir(exist_ok=True)
    context = Context(device=options.device, seed=options.seed, open_bar=display.bar)
    rgba = cut_out(frames, angles)
    views, _ = mended(Views(rgba, orbit(*angles), photos=rgba[-1:]))
    meshes, seconds = reconstruct(options, views, context, folder)
    return meshes["export"], seconds, context.warnings


def _scores(mesh: Object, seen: np.ndarray, white: np.ndarray, masks: np.ndarray) -> Row:
    """The scores that need no truth, of a mesh and its pictures [N, S, S, 4] from the frames' cameras."""
    alike = _alike(seen, white, masks)
    return {
        "front_psnr": alike["psnr"][-1],
        **{name: float(np.mean(values)) for name, values in alike.items()},
        "fringe": fringe(on_white(seen), seen[..., 3] > 0.5),
        **soundness(mesh),
        **topology(mesh),
    }


def _alike(
    seen: np.ndarray,  # [N, S, S, 4]
    white: np.ndarray,  # [N, S, S, 3] the frames
    masks: np.ndarray,  # [N, S, S] bool
) -> dict[str, list[float]]:
    """PSNR in dB, cut at 100, and mask IoU, per picture."""
    wanted = np.concatenate([white, masks[..., None]], -1)
    return {
        "psnr": np.minimum(psnr(seen, white), BEST_DB).tolist(),
        "mask_iou": silhouette_iou(seen, wanted).tolist(),
    }


def content(files: OrbitFiles) -> list[Any]:
    """What an orbit's row depends on besides the settings; the cut-out's version is that of the orbit stage."""
    version = next(stage.version for stage in PHOTO_ROUTE.stages if stage.name == "orbit")
    return [files.content(), version]


FRAMES = Suite(
    name="frames",
    title="Meshes of painted orbits",
    measure=measure,
    content=content,
    stages=STAGES,
    fixed={"orbit.kind": "static", "refine.sds": "off", "export.format": "glb", "export.turntable": False},
    methods=(*STAGES, "frames", "turned", "fitted", "noise"),
    scores=(
        "heldout_psnr", "heldout_mask_iou", "psnr", "mask_iou", "front_psnr", "fringe", "fringe_change", "euler",
        "floaters", *SHAPE_SCORES, "seconds",
    ),
    columns=(
        "export_heldout_psnr", "export_heldout_mask_iou", "export_front_psnr", "export_fringe", "frames_fringe",
        "export_euler", "export_components", "export_floaters", "turned_cd", "turned_iou", "fitted_cd", "fitted_iou",
        "seconds",
    ),
    judged="export_heldout_psnr",
    large_is_good=True,
    label=("heldout_psnr", "heldout_mask_iou", "cd", "iou"),
    heading="Columns: photo, two predicted views, behind, two more. Lines: frames, mesh, its shape, mesh without the four",
    about=ABOUT,
)  # fmt: skip
