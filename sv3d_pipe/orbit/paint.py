"""The orbit stage: the photo becomes 21 views with known cameras."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from sv3d_pipe.artifacts import Photo, Views
from sv3d_pipe.cameras import orbit, orbit_angles
from sv3d_pipe.config import OrbitConfig
from sv3d_pipe.errors import UserError
from sv3d_pipe.orbit.angles import camera_angles
from sv3d_pipe.orbit.conditioning import photo_on_white
from sv3d_pipe.orbit.masks import crisp, cut_from_white, cut_out, solid_masks
from sv3d_pipe.orbit.memory_plan import Plan, adopt, first_that_fits, frame_size, plans, ready
from sv3d_pipe.orbit.mini.denoiser import VolumeDenoiser
from sv3d_pipe.orbit.sv3d.diffusion_pipeline import StableVideo3DPipeline, StableVideo3DPipelineOutput
from sv3d_pipe.pictures import decibels, on_white, resize_rgba
from sv3d_pipe.road.context import Context

FEW_STEPS = 12  # fewer are enough only for models trained to need few, as mini


def paint(config: OrbitConfig, photo: Photo, context: Context) -> tuple[Views, dict[str, Any]]:
    """Paint the views around the photo's object, as a surface can be fitted to them.

    Returns:
        the views of :func:`paint_frames` with the masks of :func:`sharpen` and the photo in the last one's
        place; and its metrics, with ``coverage``, the share of the pixels that show the object.
    Raises:
        UserError: angles or a size that the model cannot paint, or too little memory.
    """
    painted, metrics = paint_frames(config, photo, context)
    frames = sharpen(config, painted, context)
    frames[-1] = resize_rgba(photo.rgba, frames.shape[1])
    metrics = metrics | {"coverage": round(float(frames[..., 3].mean()), 4)}
    return replace(painted, rgba=frames), metrics


def paint_frames(config: OrbitConfig, photo: Photo, context: Context) -> tuple[Views, dict[str, Any]]:
    """The model's own pictures of the views around the photo's object; masks may be soft.

    The random numbers are those of the released sampling code: one generator on the device, seeded
    with the run's seed itself.

    Returns:
        Views at the model's resolution or ``config.size``, the last one from where the photo was taken; and
        metrics: ``photo_psnr_db``, the model's own picture of the photo's view against the photo, on white,
        and ``depth``, how deep it took the object for, if it guesses that.
    Raises:
        UserError: angles or a size that the model cannot paint, or too little memory.
    """
    angles = camera_angles(config, context.seed)
    pipeline = ready(config, context.device)
    own = pipeline.config
    config = replace(config, steps=config.steps or own.steps, guidance=config.guidance or own.guidance)
    if config.guidance < 1:
        raise UserError(
            f"orbit.guidance must be at least 1, or 0 for the model's own, not {config.guidance}."
        )
    size = frame_size(config, pipeline)
    kind = "given" if config.azimuths or config.elevations else config.kind
    if not pipeline.takes_pose and kind != "static":
        kind, angles = "static", orbit_angles("static", config.elevation_deg)
        context.warn(f"The orbit model {config.model} takes no camera poses, so the orbit is static.")
    known = plans(config, pipeline, context.device, len(angles[0]))
    if not pipeline.paints_alpha:
        _warn_of_few_steps(config, context)
        context.say(f"Plan: UNet in {str(pipeline.unet.dtype)[6:]} on {context.device}, {known[0]}.")
    target = _photo_at(size, photo, with_alpha=pipeline.paints_alpha)  # [S, S, 3]

    def attempt(plan: Plan) -> StableVideo3DPipelineOutput:
        adopt(pipeline, plan, context.device)
        return _sample(pipeline, config, photo, angles, target, context)

    output = first_that_fits(known, attempt, context.device, context.say)
    frames = output.frames if pipeline.paints_alpha else np.stack([cut_from_white(f) for f in output.frames])
    metrics = {
        "photo_psnr_db": round(_psnr_db(output.own_last_frame, target), 2),
        "frames": len(frames),
        "size": size,
        "kind": kind,
        "steps": config.steps,
        "guidance": config.guidance,
    }
    if output.depth is not None:
        metrics["depth"] = round(output.depth, 4)
    return Views(frames, orbit(*angles), photo.rgba), metrics


def sharpen(config: OrbitConfig, painted: Views, context: Context) -> np.ndarray:
    """The frames [N, S, S, 4] of :func:`paint_frames` with mask edges about one pixel wide.

    A single step paints the mean of all that is possible, and its soft masks are no solid's; a model that
    thinks in a volume then says what the solid is. Several steps paint one possibility, masks and all.
    """
    pipeline = ready(config, context.device)
    if (config.steps or pipeline.config.steps) > 1 or not isinstance(pipeline.unet, VolumeDenoiser):
        return crisp(painted.rgba)
    return cut_out(painted.rgba, solid_masks(pipeline, painted.photo, camera_angles(config, context.seed)))


def _warn_of_few_steps(config: OrbitConfig, context: Context) -> None:
    if config.steps < FEW_STEPS:
        few = "1 sampling step is" if config.steps == 1 else f"{config.steps} sampling steps are"
        context.warn(
            f"{few} too few for {config.model}; use orbit.steps=50, or 20 with orbit.solver=dpm, "
            "and orbit.guidance=2.5."
        )


def _sample(
    pipeline: StableVideo3DPipeline,
    config: OrbitConfig,
    photo: Photo,
    angles: tuple[np.ndarray, np.ndarray],
    target: np.ndarray,
    context: Context,
) -> StableVideo3DPipelineOutput:
    """One orbit, with a progress bar. Its metric is the photo's own view where decoding is cheap, else the noise."""
    with context.bar("orbit", config.steps) as bar:

        def report(pipe, index: int, timestep: torch.Tensor, tensors: dict) -> dict:
            if pipe.paints_alpha:
                own = pipe.decode_frames(tensors["denoised"][-1:])[0].cpu().numpy()
                metric = f"{_psnr_db(own, target):.1f} dB"
            else:
                metric = f"noise {math.exp(4 * float(timestep)):.3g}"
            bar.update(1, metric)
            return {}

        return pipeline(
            photo.rgba,
            *angles,
            num_inference_steps=config.steps,
            max_guidance_scale=config.guidance,
            size=config.size,
            solver=config.solver,
            generator=torch.Generator(context.device).manual_seed(context.seed),
            callback_on_step_end=report,
            callback_on_step_end_tensor_inputs=("denoised",),
        )


def _psnr_db(frame: np.ndarray, target: np.ndarray) -> float:
    """Of a frame [S, S, 3 or 4] against the photo on white [S, S, 3]."""
    return decibels(float(np.mean((_white(frame).astype(np.float64) - target) ** 2)))


def _white(frame: np.ndarray) -> np.ndarray:
    return on_white(frame) if frame.shape[-1] == 4 else frame


def _photo_at(size: int, photo: Photo, with_alpha: bool) -> np.ndarray:
    """[size, size, 3] the photo on white as the model was given it."""
    return on_white(resize_rgba(photo.rgba, size)) if with_alpha else photo_on_white(photo.rgba, size)
