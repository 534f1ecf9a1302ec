"""Results as one picture: the prepared photo, some painted views, the mesh from all sides.

    python benchmarks/gallery.py examples/*.png --views 0 --sides 8 --out docs/results.jpg
    python benchmarks/gallery.py --invented 900001 900007 --out checkpoints/mini/results.jpg

One row per photo, or per invented object rendered from its front. Finished stages in the workspaces are reused.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import imageio.v2 as imageio
import numpy as np
from command import run

from sv3d_pipe.artifacts import Photo, Views
from sv3d_pipe.cameras import orbit
from sv3d_pipe.config import Config
from sv3d_pipe.contact_sheet import strip
from sv3d_pipe.dataset.invented.inventions import invent
from sv3d_pipe.errors import UserError
from sv3d_pipe.evaluate.truth import Angles, scaled, visible_scale
from sv3d_pipe.export.turntable import MARGIN
from sv3d_pipe.pictures import save_png
from sv3d_pipe.pipeline import Image2Mesh
from sv3d_pipe.render.draw import render_views
from sv3d_pipe.render.objects import load_object
from sv3d_pipe.road.workspace import Workspace

PHOTO_SIZE = 576


def photograph(seed: int, folder: Path, config: Config) -> Path:
    """A transparent picture of the invented object of this seed."""
    obj = invent(seed)
    camera = Angles.of(config.orbit, seed=0).cameras()[-1]
    path = folder / f"{seed}.png"
    save_png(path, render_views(scaled(obj, visible_scale(obj)), camera, PHOTO_SIZE, supersample=2)[0])
    return path


def row(photo: Path, folder: Path, preset: str, views: int, sides: int, size: int) -> np.ndarray:
    """[size, (1 + views + sides) * size, 3]: the first side is the photo's."""
    image2mesh = Image2Mesh.from_preset(preset)
    result = image2mesh(photo, folder / photo.stem)
    workspace = Workspace(result.workspace)
    painted = Views.load(workspace.folder("orbit")).rgba[:-1]
    shown = painted[np.arange(views) * len(painted) // max(views, 1)]
    mesh = load_object(result.mesh)
    cameras = orbit(np.arange(sides) * (360 / sides), image2mesh.config.orbit.photo_elevation_deg)
    mesh = scaled(mesh, visible_scale(mesh) * MARGIN)
    around = render_views(mesh, cameras, 2 * size, supersample=2)
    return strip([Photo.load(workspace.folder("prep")).rgba, *shown, *around], size)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", nargs="*", type=Path)
    parser.add_argument("--invented", nargs="*", type=int, default=[], help="seeds of invented objects")
    parser.add_argument("--preset", default="draft")
    parser.add_argument("--views", type=int, default=6, help="number of painted views")
    parser.add_argument("--sides", type=int, default=4, help="number of views of the mesh")
    parser.add_argument("--size", type=int, default=128, help="side of each picture in pixels")
    parser.add_argument("--work", type=Path, default=Path("out/gallery"))
    parser.add_argument("--out", type=Path, default=Path("out/gallery/gallery.jpg"))
    options = parser.parse_args()
    if not options.photos and not options.invented:
        raise UserError("Name photos, or seeds after --invented.")
    options.work.mkdir(parents=True, exist_ok=True)
    config = Config.preset(options.preset)
    photos = options.photos + [photograph(seed, options.work, config) for seed in options.invented]
    rows = [
        row(photo, options.work, options.preset, options.views, options.sides, options.size)
        for photo in photos
    ]
    imageio.imwrite(options.out, (np.concatenate(rows) * 255 + 0.5).astype(np.uint8), quality=85)
    print(options.out)


if __name__ == "__main__":
    run(main)
