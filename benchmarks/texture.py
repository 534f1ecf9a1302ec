"""How well does export texture a mesh, given the true shape? PSNR of the exported file against its own pictures.

Each object is rendered on the sine orbit (21 views of --size, the last one also as a photo of 576 pixels), its
own mesh is exported with a texture baked from these pictures, and the GLB, read back from its file, is
rendered from the same cameras. On white, range [0, 1].
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from command import object_options, run

from sv3d_pipe.artifacts import Mesh
from sv3d_pipe.config import ExportConfig, OrbitConfig
from sv3d_pipe.evaluate.picture_scores import psnr
from sv3d_pipe.evaluate.truth import Angles, find_objects, place, true_views
from sv3d_pipe.export.export import export_mesh
from sv3d_pipe.export.textured_views import file_views
from sv3d_pipe.pictures import on_white, save_png
from sv3d_pipe.render.draw import render_views
from sv3d_pipe.road.context import Context

PHOTO_SIZE = 576


def measure(path: Path, size: int, config: ExportConfig, folder: Path) -> dict:
    """Export one object; its scores. Writes the GLB and a strip: photo, the same view of the file, 4 x error."""
    obj = place(path)
    views = true_views(obj, Angles.of(OrbitConfig(), seed=0), size)
    photo = render_views(obj, views.cameras[-1], PHOTO_SIZE)
    gray = np.full((len(obj.vertices), 3), 0.5, np.float32)
    mesh, views = Mesh(obj.vertices, obj.faces, gray), replace(views, photos=photo)
    asset, metrics = export_mesh(config, mesh, views, Context())
    glb = folder / f"{path.stem}.glb"
    glb.write_bytes(asset.documents["mesh.glb"])
    place_back = (metrics["transform"]["scale"], metrics["transform"]["center"])
    around = psnr(file_views(glb, views.cameras, size, *place_back), views.rgba)
    front = on_white(file_views(glb, views.cameras[-1], PHOTO_SIZE, *place_back)[0])
    error = 4 * np.abs(front - on_white(photo))
    save_png(folder / f"{path.stem}.png", np.concatenate([on_white(photo), front, error], 1))
    return {
        "front_db": metrics["front_psnr_db"],
        "views_db": float(around.mean()),
        "worst_view_db": float(around.min()),
        "faces": metrics["faces"],
    }


def main() -> None:
    parser = object_options(__doc__, "out/texture")
    parser.add_argument("--size", type=int, default=256, help="side of the views")
    parser.add_argument("--texture", type=int, default=1024)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    config = ExportConfig(texture=options.texture, turntable=False)
    rows = {}
    for name, path in find_objects(options.objects, tuple(options.ids), options.limit).items():
        rows[name] = measure(path, options.size, config, options.out)
        print(name, *(f"{key} {value:.1f}" for key, value in rows[name].items()), flush=True)
    for key in ("front_db", "views_db", "worst_view_db"):
        values = np.array([row[key] for row in rows.values()])
        print(f"{key}: median {np.median(values):.1f}, mean {values.mean():.1f}, worst {values.min():.1f}")
    (options.out / "texture.json").write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    run(main)
