"""The suite ``orbit``: the orbit model's novel views beside the truth, and beside two baselines.

The photo is a render from the orbit's last camera; the model paints the orbit; the frames that are not the
photo are compared with renders: as painted (model), and with the sharp masks that surfaces are fitted to
(views). Baselines: every frame is the photo; a gray ellipsoid with its extents.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from sv3d_pipe.artifacts import Photo
from sv3d_pipe.contact_sheet import strip
from sv3d_pipe.evaluate.display import Display
from sv3d_pipe.evaluate.scores import PICTURE_SCORES, compare_pictures
from sv3d_pipe.evaluate.suite import Options, Suite
from sv3d_pipe.evaluate.tables import Row, Table, word
from sv3d_pipe.evaluate.truth import Angles, ellipsoid, place
from sv3d_pipe.pictures import resize_rgba
from sv3d_pipe.render.draw import render_views
from sv3d_pipe.road.context import Context

PHOTO_SIZE = 576
METHODS = ("model", "views", "photo", "ellipsoid")
SHOWN = (2, 5, 8, 11, 14, 17)  # frames of the contact sheet
SHOWN_SIZE = 96
BAND_DEG = 10


def measure(path: Path, folder: Path, options: Options, display: Display) -> tuple[Row, np.ndarray]:
    """The model's and the baselines' scores on one object, in the mean and frame by frame."""
    from sv3d_pipe.orbit.paint import paint_frames, sharpen

    config = options.config.orbit
    obj = place(path, options.up, display.say)
    camera = Angles.of(config, options.seed).cameras()[-1]
    photo = render_views(obj, camera, PHOTO_SIZE, supersample=2)[0]
    context = Context(device=options.device, seed=options.seed, open_bar=display.bar)
    start = time.perf_counter()
    painted, metrics = paint_frames(config, Photo(photo), context)
    row: Row = {"model_seconds": time.perf_counter() - start, "kind": metrics["kind"]}

    size, cameras = options.size or painted.size, painted.cameras
    own, sharp = (
        np.stack([resize_rgba(frame, size) for frame in rgba])
        for rgba in (painted.rgba, sharpen(config, painted, Photo(painted.photo), context))
    )
    frames = {
        "truth": render_views(obj, cameras, size),
        "model": own,
        "views": sharp,
        "photo": np.repeat(resize_rgba(photo, size)[None], len(own), 0),
        "ellipsoid": render_views(ellipsoid(photo, camera), cameras, size),
    }
    row["frames"] = _angles_of(cameras.origins[:-1])
    for method in METHODS:
        scores = compare_pictures(frames["truth"][:-1], frames[method][:-1])
        row |= {f"{method}_{name}": float(np.mean(values)) for name, values in scores.items()}
        row["frames"] |= {f"{method}_{name}": values for name, values in scores.items()}
    shown = list(SHOWN)
    picture = strip([photo, *frames["truth"][shown], *frames["model"][shown]], SHOWN_SIZE)
    return row | {"size": size, "warnings": context.warnings}, picture


def _angles_of(origins: np.ndarray) -> dict[str, list[float]]:
    """Where cameras [N, 3] are: elevation, and azimuth's distance from the photo (at +z), in degrees."""
    x, y, z = origins.T.astype(np.float64)
    return {
        "elevation_deg": np.degrees(np.arctan2(y, np.hypot(x, z))).tolist(),
        "from_photo_deg": np.abs(np.degrees(np.arctan2(x, z))).tolist(),
    }


def breakdowns(rows: list[Row]) -> list[Table]:
    """PSNR by the camera's elevation in bands of 10 degrees, and by azimuth's distance from the photo."""
    return [
        _by("Mean PSNR by elevation of the camera", rows, "elevation_deg", BAND_DEG),
        _by("Mean PSNR by azimuth distance from the photo", rows, "from_photo_deg", 2 * BAND_DEG),
    ]


def _by(title: str, rows: list[Row], angle: str, band: float) -> Table:
    """Frames of all objects grouped by an angle: [low, low + band) degrees."""
    angles = np.concatenate([r["frames"][angle] for r in rows])
    group = np.floor(np.round(angles, 3) / band).astype(int)
    psnr = {m: np.concatenate([r["frames"][f"{m}_psnr"] for r in rows]) for m in METHODS}
    lines = [
        [f"{g * band:.0f} to {(g + 1) * band:.0f} deg", str((group == g).sum())]
        + [word(float(psnr[m][group == g].mean())) for m in METHODS]
        for g in np.unique(group)
    ]
    return Table(title, ["", "frames", *METHODS], lines)


ORBIT = Suite(
    name="orbit",
    title="Novel views of the orbit model",
    measure=measure,
    stages=("orbit",),
    methods=METHODS,
    scores=(*PICTURE_SCORES, "seconds"),
    columns=(
        "model_psnr", "views_psnr", "photo_psnr", "ellipsoid_psnr", "model_ssim", "model_mask_iou", "photo_mask_iou",
        "ellipsoid_mask_iou", "model_seconds",
    ),
    judged="model_psnr",
    large_is_good=True,
    label=("psnr", "mask_iou"),
    heading="PSNR / mask IoU. Left to right: photo; six true frames; the model's",
    breakdowns=breakdowns,
)  # fmt: skip
