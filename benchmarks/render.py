"""How fast does `img2mesh render` make data: objects per minute, and one orbit compared with other renderers.

The first table is the whole command: meshes and invented objects are read, textured, lit, rendered from a dynamic
orbit, encoded and packed, including the start of the processes. The second is one lit orbit around one object by each
renderer that is installed: ours, embree through trimesh (rays through the same subpixels, unlit), pyrender (OSMesa or
EGL, unlit, no anti-aliasing), Blender (Cycles, 64 samples).
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import sv3d_pipe  # noqa: F401  (sets the OpenMP wait policy before torch is imported)
from sv3d_pipe.cameras import Cameras
from sv3d_pipe.dataset.collect import collect
from sv3d_pipe.dataset.engine import DataSet, render_data_set
from sv3d_pipe.dataset.invented.inventions import invent
from sv3d_pipe.dataset.shoot import Shoot
from sv3d_pipe.dataset.trajectories import content_radius, draw_trajectory
from sv3d_pipe.errors import UserError
from sv3d_pipe.render.blender import find_blender, render_with_blender
from sv3d_pipe.render.draw import nearest_texels, render_views
from sv3d_pipe.render.lighting import Studio
from sv3d_pipe.render.objects import Object


def command_speed(jobs: list, size: int, views: int, workers: int) -> tuple[float, float, float]:
    """Objects per minute of the whole command; processor seconds and megabytes per object.

    Processor seconds are reliable on a machine that has other work; objects per minute are not.
    """
    folder = Path(tempfile.mkdtemp(prefix="img2mesh-"))
    try:
        start, used = time.perf_counter(), sum(os.times()[:4])
        manifest = render_data_set(DataSet(folder, jobs, Shoot(size, views, "dynamic"), 0), workers)
        minutes, used = (time.perf_counter() - start) / 60, sum(os.times()[:4]) - used
        megabytes = sum(shard["bytes"] for shard in manifest["shards"]) / 1e6
        count = manifest["rendered"]
        return count / minutes, used / count, megabytes / count
    finally:
        shutil.rmtree(folder)


def by_embree(obj: Object, cameras: Cameras, size: int, supersample: int) -> np.ndarray:
    """[N, size, size, 4] unlit, by rays through the same sub-pixels. ImportError without embreex."""
    import trimesh
    from trimesh.ray.ray_pyembree import RayMeshIntersector

    mesh = trimesh.Trimesh(obj.vertices, obj.faces, process=False)
    tracer, fine = RayMeshIntersector(mesh), size * supersample
    pictures = []
    for i in range(len(cameras)):
        origin, directions = cameras[i].rays(fine)
        directions = directions.reshape(-1, 3)
        origins = np.broadcast_to(origin, directions.shape)
        face, ray, place = tracer.intersects_id(
            origins, directions, multiple_hits=False, return_locations=True
        )
        weights = trimesh.triangles.points_to_barycentric(mesh.triangles[face], place)
        sheet = np.zeros((fine * fine, 4), np.float32)
        uv = (obj.corner_uv[face] * weights[..., None]).sum(1)
        sheet[ray] = np.column_stack([nearest_texels(obj.texture, uv), np.ones(len(ray))])
        pictures.append(sheet.reshape(size, supersample, size, supersample, 4).mean((1, 3)))
    pictures = np.stack(pictures)
    pictures[..., :3] /= np.maximum(pictures[..., 3:], 1e-6)
    return pictures


def by_pyrender(obj: Object, cameras: Cameras, size: int) -> np.ndarray:
    """[N, size, size, 4] unlit. ImportError or another without pyrender and a GL library."""
    os.environ.setdefault("PYOPENGL_PLATFORM", "osmesa")
    import pyrender
    import trimesh

    from sv3d_pipe.render.blender import to_glb

    mesh = trimesh.load(trimesh.util.wrap_as_stream(to_glb(obj, 1.0)), file_type="glb", force="mesh")
    scene = pyrender.Scene(bg_color=[0, 0, 0, 0])
    scene.add(pyrender.Mesh.from_trimesh(mesh))
    node = scene.add(pyrender.PerspectiveCamera(np.radians(cameras.fov_deg), aspectRatio=1.0))
    drawer = pyrender.OffscreenRenderer(size, size)
    flags = pyrender.RenderFlags.RGBA | pyrender.RenderFlags.FLAT
    pictures = []
    for c2w in cameras.c2w:
        scene.set_pose(node, c2w)
        pictures.append(drawer.render(scene, flags=flags)[0])
    drawer.delete()
    return np.stack(pictures)


def seconds_of(draw: Callable[[], np.ndarray], repeats: int) -> float:
    """The best of several runs, after one to warm up."""
    draw()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        draw()
        times.append(time.perf_counter() - start)
    return min(times)


def compare(size: int, views: int, seed: int, repeats: int) -> None:
    """One orbit of one object by every renderer there is."""
    obj, rng = invent(seed), np.random.default_rng(seed)
    path, studio = draw_trajectory("dynamic", views, rng), Studio.random(rng)
    cameras = path.cameras(content_radius(obj, path))
    supersample = 3 if size <= 256 else 2
    contenders = {
        "ours, lit": lambda: render_views(obj, cameras, size, studio, supersample),
        "ours, unlit": lambda: render_views(obj, cameras, size, None, supersample),
        "embree through trimesh, unlit": lambda: by_embree(obj, cameras, size, supersample),
        "pyrender, unlit": lambda: by_pyrender(obj, cameras, size),
        "Blender Cycles, lit": lambda: render_with_blender(obj, cameras, size, studio, find_blender()),
    }
    print(f"\n{views} views of {size} pixels around {len(obj.faces)} triangles", flush=True)
    ours = None
    for name, draw in contenders.items():
        try:
            seconds = seconds_of(draw, repeats)
        except (ImportError, OSError, AttributeError, UserError) as error:
            print(f"  {name}: not here ({str(error).splitlines()[0]})", flush=True)
            continue
        ours = ours or seconds
        print(f"  {name}: {seconds:.2f} s, {seconds / ours:.1f} x ours, lit", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--objects", type=Path, help="folder of meshes")
    parser.add_argument("--procedural", type=int, default=40)
    parser.add_argument("--limit", type=int, default=40, help="number of meshes, spread over the folder")
    parser.add_argument("--sizes", type=int, nargs="+", default=[128, 576])
    parser.add_argument("--views", type=int, default=21)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument(
        "--seed", type=int, default=3, help="seed of the object on which renderers are compared"
    )
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    found = collect(options.objects, 0, 1, 0) if options.objects else []
    kinds = {"meshes": found[:: max(1, len(found) // options.limit)][: options.limit]}
    kinds["invented"] = collect(None, options.procedural, 1, 0) if options.procedural else []
    print(f"{options.workers} processes, {options.views} views")
    for size in options.sizes:
        for kind, jobs in kinds.items():
            if jobs:
                rate, used, megabytes = command_speed(jobs, size, options.views, options.workers)
                about = f"{used:.2f} processor seconds and {megabytes:.2f} MB each"
                print(
                    f"  {size} pixels, {len(jobs)} {kind}: {rate:.0f} objects per minute, {about}", flush=True
                )
    for size in options.sizes:
        compare(size, options.views, options.seed, options.repeats)


if __name__ == "__main__":
    main()
