"""Seconds of whole stages and how close to the truth they come; and the paper's numbers of steps on a GPU."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recon_rounds import say

from sv3d_pipe.artifacts import Photo, Views
from sv3d_pipe.cameras import N_FRAMES, orbit, orbit_angles
from sv3d_pipe.config import Config, OrbitConfig
from sv3d_pipe.contracts import Prior
from sv3d_pipe.dataset.invented.toys import procedural
from sv3d_pipe.device import PeakMemory
from sv3d_pipe.evaluate.protocol_a import protocol_a
from sv3d_pipe.evaluate.truth import in_world, scaled, visible_scale
from sv3d_pipe.export.export import export_mesh
from sv3d_pipe.nerf.field import RadianceField
from sv3d_pipe.nerf.fit_field import fit_field
from sv3d_pipe.refine.fit_mesh import refine_mesh
from sv3d_pipe.render.draw import render_views
from sv3d_pipe.render.objects import Object
from sv3d_pipe.road.context import Context

HARMLESS = 1e-6  # weight of a distillation by a model that knows nothing


def placed(seed: int) -> Object:
    """A procedural object that fills the frames of orbit cameras."""
    toy = procedural(seed)
    return scaled(toy, visible_scale(toy))


def orbit_views(obj: Object, count: int, size: int) -> Views:
    """True views of the sine orbit, one camera at a time: all at once would need much memory."""
    cameras = orbit(*orbit_angles("sine", OrbitConfig().photo_elevation_deg, n_frames=count))
    return Views(np.concatenate([render_views(obj, cameras[i], size) for i in range(count)]), cameras)


def warm_up() -> None:
    """Load and compile all that the stages need on the CPU, in about a second once numba's cache is filled."""
    views, context = orbit_views(placed(0), 4, 64), Context()
    config = Config().replace({"nerf.steps": 50, "nerf.surface": 16, "refine.steps": 2, "refine.grid": 16})
    field, _ = fit_field(config.nerf, views, context)
    refine_mesh(config.refine, RadianceField.from_field(field), views, context)


def road(obj: Object, config: Config, nerf_steps: list[int], size: int, context: Context) -> list[dict]:
    """One object from its true views through fits of several lengths, then refine and export from the longest.

    Returns:
        Per stage: stage, seconds of its own, seconds of the road up to it, cd and iou (protocol A).
    """
    views, done = orbit_views(obj, N_FRAMES, size), []

    def record(stage: str, seconds: float, before: float, mesh: Any) -> None:
        done.append({"stage": stage, "s": seconds, "s in all": before + seconds} | protocol_a(obj, mesh))

    for steps in sorted(nerf_steps):
        seconds, (field, _) = _clocked(fit_field, replace(config.nerf, steps=steps), views, context)
        record(f"nerf, {steps} steps", seconds, 0.0, field.mesh)
    seconds, (mesh, _) = _clocked(refine_mesh, config.refine, RadianceField.from_field(field), views, context)
    record(f"refine, {config.refine.steps} steps", seconds, done[-1]["s in all"], mesh)
    seconds, (asset, metrics) = _clocked(export_mesh, config.export, mesh, views, context)
    with tempfile.TemporaryDirectory() as folder:
        asset.save(Path(folder))
        exported = in_world(Path(folder) / "mesh.glb", metrics["transform"])
    record(f"export, {config.export.faces} faces", seconds, done[-1]["s in all"], exported)
    return done


def _clocked(work: Callable, *arguments: Any) -> tuple[float, Any]:
    start = time.perf_counter()
    result = work(*arguments)
    return time.perf_counter() - start, result


def spent(roads: list[list[dict]]) -> list[dict[str, Any]]:
    """Medians over objects, and what a further second bought.

    "cd won/s" is the fall of the median cd since the row before per further second of the road.
    """
    table, before = [], None
    for stage in zip(*roads):
        row: dict[str, Any] = {"stage": stage[0]["stage"]}
        row |= {key: statistics.median(r[key] for r in stage) for key in ("s", "s in all", "cd", "iou")}
        won = None if before is None else (before["cd"] - row["cd"]) / (row["s in all"] - before["s in all"])
        table.append(row | {"cd won/s": won})
        before = row
    return table


def random_prior(network: dict[str, dict], photo: np.ndarray, size: int, device: str) -> Prior:
    """The orbit model of these settings as refine loads it on the device, with random weights."""
    from diffusers import AutoencoderKL
    from orbit_contenders import fill
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    from sv3d_pipe.device import network_dtype
    from sv3d_pipe.orbit.schedulers import euler_scheduler
    from sv3d_pipe.orbit.sv3d.diffusion_pipeline import StableVideo3DPipeline
    from sv3d_pipe.orbit.sv3d.sv3d_painter import SV3DPainter, channels_last
    from sv3d_pipe.orbit.sv3d.unet import StableVideo3DUNet

    dtype = getattr(torch, network_dtype("auto", device))
    with torch.device(device):
        unet = StableVideo3DUNet(**network["unet"])
        vae = AutoencoderKL(**network["vae"])
        clip = CLIPVisionModelWithProjection(CLIPVisionConfig(**network["image_encoder"]))
    unet, vae, clip = fill(unet).eval().to(dtype), fill(vae).eval(), fill(clip).eval().to(dtype)
    for module in (unet, vae, clip):
        module.requires_grad_(False)
    if device.startswith("cuda"):
        channels_last(unet)
    pipeline = StableVideo3DPipeline(vae, unet, euler_scheduler(), clip)
    painter = SV3DPainter(pipeline)
    config = painter.settled(OrbitConfig(size=size))
    plan = painter.plans(config, device, N_FRAMES, with_gradient=True)[0]
    weights = sum(p.numel() for p in unet.parameters())
    say(f"random orbit model: {weights / 1e6:.0f} M weights in the UNet, {plan}")
    return painter.prior(Photo(photo), config.photo_elevation_deg, N_FRAMES, config, plan, device)


def paper_steps(
    obj: Object, config: Config, size: int, network: dict[str, dict], device: str
) -> list[dict[str, Any]]:
    """nerf and refine for the settings' steps, refine with distillation through a random orbit model.

    The model is loaded before the clock starts and stays loaded, so the peak of refine holds its weights.

    Returns:
        Per stage: stage, seconds, peak GB (of the device's tensors; on the CPU of the process), remark.
    """
    views, context = orbit_views(obj, N_FRAMES, size), Context(device=device)
    with PeakMemory(device) as nerf_memory:
        nerf_s, (field, metrics) = _clocked(fit_field, config.nerf, views, context)
    prior = random_prior(network, views.rgba[-1], size, device)
    with PeakMemory(device) as refine_memory:
        refine_s, (mesh, refined) = _clocked(
            refine_mesh, config.refine, RadianceField.from_field(field), views, context, lambda: prior
        )
    odd = "" if np.isfinite(mesh.vertices).all() else "; SOME VERTICES ARE NOT FINITE"
    odd += "" if refined["refined"] else "; the refined surface was worse and dropped"
    return [
        _stage(f"nerf, {config.nerf.steps} steps", nerf_s, nerf_memory, f"{metrics['psnr_db']:.1f} dB"),
        _stage(
            f"refine, {config.refine.steps} steps", refine_s, refine_memory,
            f"{refined['sds_steps']} steps with distillation{odd}",
        ),
    ]  # fmt: skip


def _stage(name: str, seconds: float, memory: PeakMemory, remark: str) -> dict[str, Any]:
    return {"stage": name, "s": seconds, "peak GB": memory.peak_mb * 2**20 / 1e9, "remark": remark}
