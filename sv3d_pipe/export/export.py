"""The last stage: a mesh with vertex colors and its views become a textured asset in files."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from sv3d_pipe.artifacts import Mesh, Views, on_white, resize_rgba
from sv3d_pipe.config import ExportConfig
from sv3d_pipe.context import Context
from sv3d_pipe.evaluate.images import decibels
from sv3d_pipe.export.clean import clean
from sv3d_pipe.export.formats import Asset, encode, encode_glb, encode_png, normalize, parse_formats
from sv3d_pipe.export.render import front_view
from sv3d_pipe.export.texture import Paint, bake
from sv3d_pipe.export.turntable import contact_sheet, encode_mp4, render_turntable
from sv3d_pipe.export.unwrap import texels, unwrap

LARGEST_CHECK = 576  # the front view is compared at the photo's size, but not above this


def export_mesh(
    config: ExportConfig, mesh: Mesh, views: Views, context: Context
) -> tuple[Asset, dict[str, Any]]:
    """Clean, unwrap, paint and encode a mesh. Runs on the CPU whatever the device.

    Metrics: ``front_psnr_db`` of the encoded GLB, read back and seen from the photo's camera at
    ``front_psnr_size``, against the photo (both on white); face, vertex and component counts;
    ``watertight``; ``photo_coverage`` and ``seen_coverage`` (shares of the texels); and ``transform``:
    world = scale * file + center.
    Raises UserError for an unknown format, before any work.
    """
    formats = parse_formats(config.format)
    with context.bar("export", len(views.cameras) + 5) as bar:
        mesh, report = clean(mesh, config.faces)
        if report["dropped_components"]:
            context.warn(f"Dropped {report['dropped_components']} small or hidden loose parts of the mesh.")
        bar.update(1)
        asset, paint = _paint(config, mesh, views, lambda: bar.update(1))
        bar.update(1)
        glb = encode_glb(asset)
        size = min(LARGEST_CHECK, len(target_view(views)))
        psnr_db = front_psnr(glb, asset, views, size)
        bar.update(1, f"{psnr_db:.1f} dB")
        documents = encode(asset, formats)
        bar.update(1)
        if config.turntable:
            documents.update(_previews(asset, views, context))
        bar.update(1)
    metrics = {
        "front_psnr_db": psnr_db,
        "front_psnr_size": size,
        **report,
        "photo_coverage": paint.photo_coverage,
        "seen_coverage": paint.seen_coverage,
        "transform": {"scale": asset.scale, "center": list(asset.center)},
    }
    return dataclasses.replace(asset, documents=documents), metrics


def _paint(config: ExportConfig, mesh: Mesh, views: Views, on_view) -> tuple[Asset, Paint]:
    cut = unwrap(mesh, config.texture)
    surface = texels(mesh, cut, config.texture)
    paint = bake(mesh, surface, views, config.texture, on_view)
    vertices, scale, center = normalize(mesh.vertices)
    asset = Asset(vertices[cut.source], cut.faces, cut.uv, paint.texture, cut.source, scale, center)
    return asset, paint


def target_view(views: Views) -> np.ndarray:
    """[S, S, 4]: the photo, or the last frame where there is none of higher resolution."""
    return views.rgba[-1] if views.photo is None else views.photo


def front_psnr(glb: bytes, asset: Asset, views: Views, size: int) -> float:
    """PSNR in dB of a GLB file, read back, from the last camera against the photo, both on white."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mesh.glb"
        path.write_bytes(glb)
        seen = front_view(path, views.cameras[-1], size, asset.scale, asset.center)
    photo = target_view(views)
    wanted = photo if len(photo) == size else resize_rgba(photo, size)
    error = float(np.mean((on_white(seen) - on_white(wanted)) ** 2))
    return round(decibels(error), 3)


def _previews(asset: Asset, views: Views, context: Context) -> dict[str, bytes]:
    """The contact sheet and, if the encoder works, the video."""
    x, y, z = views.cameras.origins[-1]
    frames = render_turntable(asset, float(np.degrees(np.arctan2(y, np.hypot(x, z)))))
    documents = {"contact_sheet.png": encode_png(contact_sheet(target_view(views), frames))}
    try:
        documents["turntable.mp4"] = encode_mp4(frames)
    except Exception as error:  # a missing or broken ffmpeg shows itself in many ways
        context.warn(f"The turntable video was not written ({type(error).__name__}: {error}).")
    return documents
