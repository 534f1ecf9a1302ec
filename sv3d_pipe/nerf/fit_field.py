"""The nerf stage: fit a radiance field to the views and extract its surface."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from sv3d_pipe.artifacts import Field, Views
from sv3d_pipe.config import NerfConfig
from sv3d_pipe.errors import UserError
from sv3d_pipe.geometry.hull import AGREEMENT, COVERED, Hull, carve
from sv3d_pipe.nerf.composite import composite
from sv3d_pipe.nerf.field import RadianceField
from sv3d_pipe.nerf.field_render import psnr, psnr_of
from sv3d_pipe.nerf.fusion import extract
from sv3d_pipe.nerf.hollow import Hollow, find_hollow
from sv3d_pipe.nerf.march import march
from sv3d_pipe.nerf.occupancy import OccupancyGrid
from sv3d_pipe.nerf.rays import Pictures, draw, pictures
from sv3d_pipe.nerf.stereo import find_depths
from sv3d_pipe.pictures import decibels
from sv3d_pipe.road.context import Checkpoint, Context, resume_generator

MARGIN = 1.05  # the field's cube beside the sphere that every camera sees
STEPS_ACROSS = 160  # ray marching intervals along the cube's side
LEARNING_RATE, LAST_LEARNING_RATE = 1e-2, 5e-4
OCCUPANCY_EVERY = 40  # steps between two looks at the density
SHOWN_EVERY = 10  # steps between two readings of the error, for which a GPU has to be waited for
MOST_RAYS = 8192
HUBER = 0.02  # color errors beyond this count linearly: what contradicts is outvoted, not averaged
LEAST_SIZE = 96  # pixels per side of views that show hollows; at 64 a pixel is as large as a cell
TRIAL_STEPS = 300  # of the fits that decide whether a hollow is real
TRIAL_GAIN = 0.5  # dB that the pixels that look into a hollow must gain


class HashGrid:
    """The reconstructor that is built in, see :class:`sv3d_pipe.contracts.Reconstructor`."""

    identity = "hash grid"

    def fit(self, config: NerfConfig, views: Views, context: Context) -> tuple[Field, dict]:
        return fit_field(config, views, context)

    def load(self, folder: Path) -> RadianceField:
        return RadianceField.from_field(Field.load(folder))


def fit_field(config: NerfConfig, views: Views, context: Context) -> tuple[Field, dict]:
    """Fit a hash-grid radiance field to the views; extract a closed surface.

    Returns:
        the field with its mesh, and metrics: psnr_db over all views on white, photo_psnr_db of the
        photo at its own size, hull_agreement, hull_covered, hollow_share (of the hull's cells that were
        opened), and the surface's numbers.
    Raises:
        UserError: when the views show no object at all.
    """
    radius = views.cameras.visible_radius * MARGIN
    hull = _carve(views, radius, context)
    saved = context.checkpoint.load()
    if saved is None:
        occupied = _opened(config, views, hull.occupied, radius, context)
    else:
        occupied = saved["grid"]["hull"].cpu().numpy()
    model, grid = _fit(config, views, occupied, radius, context)

    model.eval()
    metrics = {"psnr_db": psnr(model, grid, Pictures(views.rgba, views.cameras, context.device, views.seen))}
    if views.photo is not None:
        photo = Pictures(views.photos[-1:], views.photo_camera, context.device)
        metrics["photo_psnr_db"] = psnr(model, grid, photo)
    mesh, surface_metrics = extract(model, grid, config.surface, context)
    metrics |= {
        "hull_agreement": hull.agreement,
        "hull_covered": hull.covered,
        "hollow_share": float(1 - occupied.sum() / hull.occupied.sum()),
    } | surface_metrics
    weights = {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}
    return Field(weights, model.shape, mesh), metrics


def _carve(views: Views, radius: float, context: Context) -> Hull:
    hull = carve(views, radius)
    if not hull.occupied.any():
        raise UserError(
            "The views show no object that they agree on; use a photo whose object stands out from "
            "its background."
        )
    if hull.covered < COVERED:
        context.warn(
            f"The views contradict each other: the shape that half of them agree on covers only "
            f"{hull.covered:.0%} of what they show."
        )
    elif hull.agreement < AGREEMENT[2]:
        context.warn(
            f"The views contradict each other: only {hull.agreement:.0%} of them agree on the shape."
        )
    return hull


def _fit(
    config: NerfConfig, views: Views, occupied: np.ndarray, radius: float, context: Context
) -> tuple[RadianceField, OccupancyGrid]:
    cells = torch.from_numpy(occupied).to(context.device)
    grid = OccupancyGrid(cells, radius, 2 * radius / STEPS_ACROSS)
    model = RadianceField(radius, config.levels, config.table_log2, min(16, config.finest), config.finest)
    model = model.initialize(torch.Generator().manual_seed(context.generator("nerf-init").initial_seed()))
    model.to(context.device)
    optimize(config, model, grid, pictures(views, config.photo_weight, context.device), context)
    return model, grid


def _opened(
    config: NerfConfig, views: Views, hull: np.ndarray, radius: float, context: Context
) -> np.ndarray:
    """The hull [G, G, G], without its hollows if short fits show that the views agree with them.

    Views smaller than LEAST_SIZE are not asked. A fit never opens a hollow of its own: its first fog becomes a lid, a local minimum.
    """
    if views.size < LEAST_SIZE:
        return hull
    depths = find_depths(views, radius, context)
    hollow = find_hollow(hull, depths, radius)
    if hollow is None:
        return hull
    opened = hull & ~hollow.cells
    short = replace(config, steps=min(config.steps, TRIAL_STEPS))
    trial = replace(
        context, checkpoint=Checkpoint(), open_bar=lambda _, total: context.bar("trying a hollow", total)
    )
    closed_db, opened_db = (
        _hollow_psnr(*_fit(short, views, occupied, radius, trial), views, depths.views, hollow)
        for occupied in (hull, opened)
    )
    gain_db = opened_db - closed_db
    return opened if gain_db[0] >= TRIAL_GAIN and gain_db[1] >= 0 else hull


def _hollow_psnr(
    model: RadianceField, grid: OccupancyGrid, views: Views, chosen: np.ndarray, hollow: Hollow
) -> np.ndarray:
    """PSNR in dB of the pixels that look into the hollow, and of all whose rays cross it: [2]."""
    seen = None if views.seen is None else views.seen[chosen]
    drawn = Pictures(views.rgba[chosen], views.cameras[chosen], str(grid.hull.device), seen)
    size, side = drawn.size, hollow.looks.shape[1]
    found = []
    for mask in (hollow.looks, hollow.crosses):
        view, row, column = mask.nonzero()
        row, column = ((2 * i + 1) * size // (2 * side) for i in (row, column))
        pixels = torch.from_numpy((view * size + row) * size + column).to(grid.hull.device)
        known = pixels if drawn.seen is None else pixels[drawn.seen[pixels]]
        found.append(psnr_of(model, grid, drawn.at_centers(known)))
    return np.array(found)


def optimize(
    config: NerfConfig,
    model: RadianceField,
    grid: OccupancyGrid,
    sets: list[tuple[Pictures, float]],
    context: Context,
) -> None:
    """Adam on random rays; continues from the context's checkpoint when there is one."""
    generator = context.generator("nerf")
    optimizer = torch.optim.Adam(
        model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.99), eps=1e-15, fused=True
    )
    progress = {"step": 0, "samples_per_ray": 64.0, "mse": None}
    _choose_pixels(sets, grid, context)
    sets = [(drawn, share) for drawn, share in sets if len(drawn)]
    hit_share = sum(share * len(s) / s.rgba[..., 0].numel() for s, share in sets) / sum(w for _, w in sets)
    saved = context.checkpoint.load()
    if saved is not None:
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        resume_generator(generator, saved["generator"])
        grid.restore(saved["grid"])
        progress = saved["progress"]

    def state() -> dict:
        return {
            "model": model.state_dict(), "optimizer": optimizer.state_dict(), "grid": grid.state(),
            "generator": generator.get_state(), "progress": progress,
        }  # fmt: skip

    with context.bar("nerf", config.steps) as bar:
        if progress["step"]:
            bar.update(progress["step"])
        while progress["step"] < config.steps:
            _set_learning_rate(optimizer, progress["step"] / config.steps)
            error = _step(config, model, grid, sets, optimizer, generator, progress)
            shown = None
            if error is not None and progress["step"] % SHOWN_EVERY == 0:
                before, now = progress["mse"], float(error)
                progress["mse"] = now if before is None else 0.6 * before + 0.4 * now
                shown = f"{decibels(progress['mse'] * hit_share):.1f} dB"
            progress["step"] += 1
            if progress["step"] % OCCUPANCY_EVERY == 0 and progress["step"] < config.steps:
                grid.update(model, generator)
            bar.update(1, shown)
            context.checkpoint.save(state)


def _choose_pixels(sets: list[tuple[Pictures, float]], grid: OccupancyGrid, context: Context) -> None:
    """Drop the pixels whose rays miss the hull: nothing can be learned from them."""
    with context.bar("choosing rays", sum(len(drawn) for drawn, _ in sets)) as bar:
        for drawn, _ in sets:
            kept = []
            for part in drawn.chosen.split(2**16):
                rays = drawn.at_centers(part)
                start = torch.zeros(len(part), device=part.device)
                samples = march(
                    rays.origins, rays.directions, grid.occupied, grid.radius, 2 * grid.step, start
                )
                kept.append(samples.starts[1:] > samples.starts[:-1])
                bar.update(len(part))
            drawn.choose(torch.cat(kept))


def _set_learning_rate(optimizer: torch.optim.Optimizer, done: float) -> None:
    """Exponential decay from LEARNING_RATE to LAST_LEARNING_RATE over the last two thirds."""
    decay = (LAST_LEARNING_RATE / LEARNING_RATE) ** max(0.0, (done - 1 / 3) * 1.5)
    for group in optimizer.param_groups:
        group["lr"] = LEARNING_RATE * decay


def _step(
    config: NerfConfig,
    model: RadianceField,
    grid: OccupancyGrid,
    sets: list[tuple[Pictures, float]],
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
    progress: dict,
) -> torch.Tensor | None:
    """One step on about ``config.samples`` samples. Returns the mean squared color error, None without samples."""
    n_rays = int(np.clip(config.samples / progress["samples_per_ray"], 64, MOST_RAYS))
    batch = draw(sets, n_rays, generator)
    noise = torch.rand(len(batch.rgba), 4, generator=generator, device=batch.rgba.device)
    samples = march(batch.origins, batch.directions, grid.occupied, grid.radius, grid.step, noise[:, 3])
    progress["samples_per_ray"] = 0.9 * progress["samples_per_ray"] + 0.1 * max(len(samples) / n_rays, 0.5)
    if len(samples) == 0:
        return None
    color, alpha = composite(*model(samples.points(batch.origins, batch.directions)), samples)
    background = noise[:, :3]  # a random one per ray leaves no color that transparency could imitate
    seen = color + (1 - alpha[:, None]) * background
    wanted = batch.rgba[:, :3] + (1 - batch.rgba[:, 3:]) * background
    color_loss = F.huber_loss(seen, wanted, delta=HUBER) / HUBER  # robust: generated views disagree
    loss = color_loss + config.mask_weight * F.mse_loss(alpha, batch.rgba[:, 3])
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    return F.mse_loss(seen.detach(), wanted)
