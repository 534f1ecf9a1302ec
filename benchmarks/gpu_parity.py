"""Sections of benchmarks/gpu.py: every operation, and the whole fit, on the GPU beside the CPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields

import numpy as np
import torch
from gpu_watch import Bench
from recon_contenders import hull_solid
from recon_stages import orbit_views, placed

from sv3d_pipe.artifacts import Mesh, Views
from sv3d_pipe.config import Config
from sv3d_pipe.evaluate.protocol_a import noise_floor, protocol_a
from sv3d_pipe.geometry.hull import carve
from sv3d_pipe.geometry.raster import Raster, interpolate, rasterize
from sv3d_pipe.geometry.tets import marching_tetrahedra
from sv3d_pipe.nerf.composite import composite
from sv3d_pipe.nerf.field import RadianceField
from sv3d_pipe.nerf.fit_field import fit_field
from sv3d_pipe.nerf.hashgrid import Layout, encode
from sv3d_pipe.nerf.march import Samples, march
from sv3d_pipe.orbit.mini.volume_render import render_volume
from sv3d_pipe.orbit.mini.voxels import frame_axes
from sv3d_pipe.pictures import decibels
from sv3d_pipe.refine.fit_mesh import refine_mesh
from sv3d_pipe.road.context import Context


def error(ours: torch.Tensor, truth: torch.Tensor) -> float:
    """The largest difference, as a share of the largest magnitude of the truth."""
    ours, truth = ours.detach().cpu().double(), truth.detach().cpu().double()
    return float((ours - truth).abs().max() / truth.abs().max().clamp(min=1e-30))


def same_leaves(bench: Bench, *tensors: torch.Tensor) -> list[list[torch.Tensor]]:
    """The tensors on the CPU and on the device, all wanting gradients."""
    return [[t.to(device).requires_grad_() for t in tensors] for device in ("cpu", bench.device)]


def compare(
    bench: Bench, operation: str, leaves: list[list[torch.Tensor]], names: tuple[str, ...], work: Callable
) -> None:
    """A row with the errors of results and gradients on the device, the CPU's as the truth."""
    results = []
    for there in leaves:
        outputs = work(*there)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        generator = torch.Generator().manual_seed(1)
        weights = [torch.randn(o.shape, generator=generator).to(o.device) for o in outputs]
        loss = sum((o * w).sum() for o, w in zip(outputs, weights))
        results.append((*outputs, *torch.autograd.grad(loss, there)))
    here, there = results
    shapes = all(a.shape == b.shape for a, b in zip(here, there))
    errors = {n: error(b, a) for n, a, b in zip(names, here, there)} if shapes else "DIFFERENT SHAPES"
    bench.log.say("parity", operation=operation, errors=errors)


def parity(bench: Bench) -> None:
    """Every operation on the device and on the CPU: largest error as a share of the largest value."""
    generator = torch.Generator().manual_seed(0)
    rand = lambda *shape: torch.rand(*shape, generator=generator)  # noqa: E731
    layout = Layout.geometric(12, 16, 16, 256)
    names = ("encoding", "gradient of the points", "gradient of the table")
    leaves = same_leaves(bench, rand(16_384, 3), rand(layout.rows, 2) - 0.5)
    compare(bench, "hash grid", leaves, names, lambda points, table: encode(points, table, layout))
    solid = hull_solid(bench.views, 64)
    leaves = same_leaves(bench, solid.nodes + 0.2 * solid.grid.cell * (rand(*solid.nodes.shape) - 0.5),
                         solid.values().detach())  # fmt: skip
    names = ("vertices", "gradient of the nodes", "gradient of the distances")
    compare(
        bench, "marching tetrahedra", leaves, names, lambda n, s: marching_tetrahedra(solid.grid, n, s)[0]
    )
    vertices, faces = (t.detach() for t in solid.surface())
    same_pictures(bench, vertices, faces)
    samples = same_samples(bench)
    leaves = same_leaves(bench, 50 * rand(len(samples)), rand(len(samples), 3))
    names = ("color", "alpha", "gradient of the density", "gradient of the colors")

    def composited(sigma: torch.Tensor, rgb: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        moved = Samples(*(getattr(samples, f.name).to(sigma.device) for f in fields(samples)))
        return composite(sigma, rgb, moved)

    compare(bench, "compositing", leaves, names, composited)
    axes = frame_axes(0.5 + rand(2, 3), 6 * rand(2, 3))
    leaves = same_leaves(bench, 5 * rand(2, 8, 24, 24, 24))
    names = ("pictures", "gradient of the volume")
    compare(bench, "volume rendering", leaves, names,
            lambda volume: render_volume(volume, axes.to(volume.device), 48, 48))  # fmt: skip


def same_pictures(bench: Bench, vertices: torch.Tensor, faces: torch.Tensor) -> None:
    """The z-buffer on the device and on the CPU."""
    cameras = bench.views.cameras[[0, 2, -1]]
    here = rasterize(vertices, faces, cameras, 2 * bench.size)
    there = rasterize(vertices.to(bench.device), faces.to(bench.device), cameras, 2 * bench.size)
    there = Raster(*(getattr(there, f.name).cpu() for f in fields(there)))
    same = (here.face_ids == there.face_ids) & here.covered
    bench.log.say(
        "parity",
        operation="rasterization",
        same_triangle=float((here.face_ids == there.face_ids).double().mean()),
        same_mask=float((here.covered == there.covered).double().mean()),
        errors={
            "depth": error(there.depth[same], here.depth[same]),
            "barycentrics": error(there.barycentrics[same], here.barycentrics[same]),
        },
    )


def same_samples(bench: Bench) -> Samples:
    """Ray marching on the device and on the CPU; what the CPU found."""
    radius = bench.views.cameras.visible_radius
    hull = torch.from_numpy(carve(bench.views, radius).occupied)
    origins, directions = bench.views.cameras.rays(32)
    origins = np.broadcast_to(origins[:, None, None], directions.shape)
    rays = [torch.from_numpy(np.array(a, np.float32)).reshape(-1, 3) for a in (origins, directions)]
    jitter = torch.rand(len(rays[0]), generator=torch.Generator().manual_seed(1))
    found = []
    for device in ("cpu", bench.device):
        moved = (tensor.to(device) for tensor in (*rays, hull))
        found.append(march(*moved, radius, radius / 80, jitter.to(device)))
    here, there = found
    equal = len(here) == len(there) and bool((here.ray_indices == there.ray_indices.cpu()).all())
    errors = {"t": error(there.t_starts, here.t_starts)} if equal else f"{len(here)} and {len(there)} samples"
    bench.log.say("parity", operation="ray marching", errors=errors)
    return here


def agreement(bench: Bench) -> None:
    """A draft's mesh on the device against the CPU's, and the CPU's against its own with another seed.

    The devices draw other random numbers, so that the second row says what the first may be at best.
    """
    size = 64 if bench.tiny else 256
    views = orbit_views(placed(3), 5 if bench.tiny else 21, size)
    few = {"nerf.steps": 40, "nerf.surface": 32, "refine.steps": 5, "refine.grid": 24} if bench.tiny else {}
    config = Config.preset("draft").replace(few)
    here = mesh_of(config, views, Context())
    floor = round(noise_floor((here.vertices, here.faces)), 5)
    bench.log.say("mesh on the CPU", faces=len(here.faces), chamfer_noise_floor=floor)
    others = {f"mesh on {bench.device}": Context(device=bench.device), "another seed": Context(seed=24)}
    for name, context in others.items():
        other = mesh_of(config, views, context)
        scores = protocol_a((here.vertices, here.faces), (other.vertices, other.faces))
        pictures_db = apart_db(here, other, views)
        bench.log.say(f"{name} against the CPU's", size=size, renders_db=round(pictures_db, 2),
                      chamfer=round(scores["cd"], 5), iou=round(scores["iou"], 4))  # fmt: skip


def mesh_of(config: Config, views: Views, context: Context) -> Mesh:
    found, _ = fit_field(config.nerf, views, context)
    return refine_mesh(config.refine, RadianceField.from_field(found), views, context)[0]


def apart_db(one: Mesh, other: Mesh, views: Views) -> float:
    """PSNR in dB of the pictures on white of two meshes with vertex colors, from the views' cameras."""
    pictures = []
    for mesh in (one, other):
        vertices, faces, rgb = (torch.from_numpy(a) for a in (mesh.vertices, mesh.faces, mesh.rgb))
        raster = rasterize(vertices, faces, views.cameras, 2 * views.size)
        alpha = raster.covered[..., None].float()
        sheet = (interpolate(rgb, faces, raster) * alpha + 1 - alpha).numpy()
        pictures.append(sheet.reshape(len(sheet), views.size, 2, views.size, 2, 3).mean((2, 4)))
    return decibels(float(np.square(pictures[0] - pictures[1]).mean()))
