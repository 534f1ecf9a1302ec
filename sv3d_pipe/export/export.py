"""The last stage: a mesh with vertex colors and its views become a textured asset in files."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from sv3d_pipe.artifacts import Mesh, Views
from sv3d_pipe.config import ExportConfig
from sv3d_pipe.errors import UserError
from sv3d_pipe.export.asset import Asset, placed
from sv3d_pipe.export.bake import Paint, bake
from sv3d_pipe.export.clean import clean
from sv3d_pipe.export.file_cameras import described, in_file, named_cameras
from sv3d_pipe.export.formats import encode, encode_png
from sv3d_pipe.export.libraries import require_libraries
from sv3d_pipe.export.promises import broken_promises
from sv3d_pipe.export.textured_views import file_views
from sv3d_pipe.export.turntable import contact_sheet, encode_mp4, render_turntable
from sv3d_pipe.export.unwrap import texels, unwrap
from sv3d_pipe.geometry.extent import relative_depth, stretched, unit_box
from sv3d_pipe.mesh_formats import WRITTEN, parse_formats
from sv3d_pipe.pictures import decibels, on_white, resize_rgba
from sv3d_pipe.road.context import Context

LARGEST_FRONT = 576  # the front view is compared at the photo's size, but not above this
LARGEST_VIEW = 256  # the other views likewise


def export_mesh(
    config: ExportConfig, mesh: Mesh, views: Views, context: Context
) -> tuple[Asset, dict[str, Any]]:
    """Clean, unwrap, paint and encode a mesh. Runs on the CPU whatever the device.

    Metrics: ``front_psnr_db`` of the encoded GLB, read back and seen from the photo's camera at
    ``front_psnr_size``, against the photo (both on white); ``views_psnr_db``, the mean of the same over
    all frames at ``views_psnr_size``; face, vertex and component counts; ``watertight``;
    ``photo_coverage`` and ``seen_coverage`` (shares of the texels); ``depth``, see :class:`ExportConfig`;
    ``transform``: world = scale * GLB + center, axis by axis; and where there is a photo ``cameras``, those in the
    GLB, see :func:`sv3d_pipe.export.file_cameras.described`.
    Raises UserError before any work for an unknown format, a library that a setting needs, or a depth for
    views of a capture; later for a depth that a flat mesh cannot have. What the written files do not keep of the
    settings is said with what was reached, see :func:`sv3d_pipe.export.promises.broken_promises`.
    """
    formats = parse_formats(config.format)
    require_libraries(config)
    if config.depth and views.to_world is not None:
        raise UserError("The views of a capture show how deep the object is; leave out export.depth.")
    if config.up == "z" and not any(WRITTEN[name].any_up for name in formats):
        others = ", ".join(name for name, form in WRITTEN.items() if form.any_up)
        context.warn(f"A glb file always has y up, as glTF requires; export.up applies only to {others}.")
    with context.bar("export", len(views.cameras) + 5) as bar:
        mesh, report = clean(mesh, config.faces, config.watertight, config.remesh, views)
        if report["dropped_components"]:
            context.warn(f"Dropped {report['dropped_components']} small or hidden loose parts of the mesh.")
        bar.update(1)
        asset, paint = _paint(config, mesh, views, lambda: bar.update(1))
        bar.update(1)
        documents = encode(asset, tuple(dict.fromkeys((*formats, "glb"))), config.up, config.scale)
        bar.update(1)
        transform = {"scale": [s / config.scale for s in asset.scale], "center": list(asset.center)}
        checks = check_file(documents["mesh.glb"], transform, views)
        bar.update(1, f"{checks['front_psnr_db']:.1f} dB")
        if "glb" not in formats:
            del documents["mesh.glb"]
        for sentence in broken_promises(config, asset, documents, formats):
            context.warn(sentence)
        if config.turntable:
            documents.update(_previews(asset, views, context))
        bar.update(1)
    metrics = {
        **checks,
        **report,
        "photo_coverage": paint.photo_coverage,
        "seen_coverage": paint.seen_coverage,
        "depth": round(relative_depth(asset.vertices), 4),
        "transform": transform,
    }
    if asset.cameras:
        metrics["cameras"] = described(placed(asset, "y", config.scale))
    return dataclasses.replace(asset, documents=documents), metrics


def _paint(config: ExportConfig, mesh: Mesh, views: Views, on_view) -> tuple[Asset, Paint]:
    cut = unwrap(mesh, config.texture)
    surface = texels(mesh, cut, config.texture)
    paint = bake(mesh, surface, views, config.texture, on_view)
    vertices, factor = stretched(mesh.vertices, config.depth) if config.depth else (mesh.vertices, 1.0)
    vertices, scale, center = unit_box(vertices)
    scales = (scale, scale, scale / factor)
    return Asset(
        vertices[cut.source].astype(np.float32),
        cut.faces,
        cut.uv,
        paint.texture,
        cut.source,
        scales,
        tuple(center.tolist()),
        {name: in_file(camera, scales, center) for name, camera in named_cameras(views).items()},
    ), paint


def target_view(views: Views) -> np.ndarray:
    """[S, S, 4]: the photo, or the last frame where there is none of higher resolution."""
    return views.rgba[-1] if views.photo is None else views.photo


def check_file(glb: bytes, transform: dict[str, Any], views: Views) -> dict[str, Any]:
    """A GLB file, read back, seen from the cameras of the views and compared with them on white.

    Args:
        transform: ``scale`` [3] and ``center`` [3] with world = scale * file + center.
    Returns:
        ``front_psnr_db`` at ``front_psnr_size``, ``views_psnr_db`` at ``views_psnr_size`` (the mean over
        the frames that no border cuts).
    """
    photo, place = target_view(views), (transform["scale"], transform["center"])
    front, around, whole = min(LARGEST_FRONT, len(photo)), min(LARGEST_VIEW, views.size), views.whole()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mesh.glb"
        path.write_bytes(glb)
        ahead = file_views(path, views.photo_camera, front, *place)
        others = file_views(path, whole.cameras, around, *place)
    return {
        "front_psnr_db": _psnr_db(ahead, photo[None], front),
        "front_psnr_size": front,
        "views_psnr_db": _psnr_db(others, whole.rgba, around),
        "views_psnr_size": around,
    }


def _psnr_db(seen: np.ndarray, wanted: np.ndarray, size: int) -> float:
    """Mean PSNR in dB of pictures [N, size, size, 4] against others of any size, on white."""
    if wanted.shape[1] != size:
        wanted = np.stack([resize_rgba(picture, size) for picture in wanted])
    errors = ((on_white(seen) - on_white(wanted)) ** 2).mean((1, 2, 3))
    return round(float(np.mean([decibels(error) for error in errors])), 3)


def _previews(asset: Asset, views: Views, context: Context) -> dict[str, bytes]:
    """The contact sheet and, if the encoder works, the video."""
    x, y, z = views.photo_camera.origins[0]
    frames = render_turntable(asset, float(np.degrees(np.arctan2(y, np.hypot(x, z)))))
    documents = {"contact_sheet.png": encode_png(contact_sheet(target_view(views), frames))}
    try:
        documents["turntable.mp4"] = encode_mp4(frames)
    except Exception as error:  # a missing or broken ffmpeg shows itself in many ways
        context.warn(f"The turntable video was not written ({type(error).__name__}: {error}).")
    return documents
