"""A pipeline of diffusers as an orbit model: what SV3D and mini have in common."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace

import numpy as np
import torch

from sv3d_pipe.artifacts import Photo
from sv3d_pipe.config import OrbitConfig
from sv3d_pipe.errors import UserError
from sv3d_pipe.orbit.denoising_pipeline import OrbitOutput, OrbitPipeline
from sv3d_pipe.orbit.memory_plan import Plan
from sv3d_pipe.orbit.model import Angles, Painted
from sv3d_pipe.orbit.prior import OrbitPrior
from sv3d_pipe.pictures import decibels, on_white
from sv3d_pipe.road.context import Context


class Painter:
    """The shared half of an :class:`sv3d_pipe.orbit.model.OrbitModel`; the other half differs with the pipeline.

    Args:
        pipeline: loaded. name: as the user calls the model.
        identify: computes ``identity``.
    """

    def __init__(self, pipeline: OrbitPipeline, name: str = "", identify: Callable[[], str] = str):
        self.pipeline, self.name, self._identify = pipeline, name, identify

    @property
    def identity(self) -> str:
        return self._identify()

    @property
    def takes_pose(self) -> bool:
        return self.pipeline.takes_pose

    def in_use(self) -> AbstractContextManager[None]:
        return self.pipeline.in_use()

    def settled(self, config: OrbitConfig) -> OrbitConfig:
        own = self.pipeline.config
        steps, guidance = config.steps or own.steps, config.guidance or own.guidance
        if guidance < 1:
            raise UserError(f"orbit.guidance must be at least 1, or 0 for the model's own, not {guidance}.")
        try:
            size = self.pipeline.frame_size(config.size)
        except ValueError as error:
            raise UserError(f"orbit.size {config.size} does not work: {error}.") from None
        return replace(config, steps=steps, guidance=guidance, size=size)

    def paint(
        self, photo: Photo, angles: Angles, config: OrbitConfig, plan: Plan, context: Context
    ) -> Painted:
        """The random numbers are those of the released sampling code: one generator on the device, seeded with
        the run's seed itself."""
        target = white(self.pipeline.photo_frame(photo.rgba, config.size))  # [S, S, 3]
        with self.pipeline.busy, context.bar("orbit", config.steps) as bar:
            self.pipeline.adopt(plan, context.device)

            def report(pipe, index: int, timestep: torch.Tensor, tensors: dict) -> dict:
                bar.update(1, self.progress(timestep, tensors["denoised"], target))
                return {}

            output = self.pipeline(
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
        facts = {} if output.depth is None else {"depth": round(output.depth, 4)}
        own_db = psnr_db(white(output.own_last_frame), target)
        return Painted(self.cut_out(output, angles), own_db, facts)

    def progress(self, timestep: torch.Tensor, denoised: torch.Tensor, target: np.ndarray) -> str:
        """What the bar shows after a step, from the clean latents [T, 4, h, w] as the model now sees them."""
        raise NotImplementedError

    def cut_out(self, output: OrbitOutput, angles: Angles) -> np.ndarray:
        """The frames as RGBA [T, S, S, 4]; the cameras stand where the angles say."""
        raise NotImplementedError

    def prior(
        self, photo: Photo, elevation_deg: float, frames: int, config: OrbitConfig, plan: Plan, device: str
    ) -> OrbitPrior:
        with self.pipeline.busy:
            self.pipeline.adopt(plan, device)
            return OrbitPrior(self.pipeline, photo.rgba, elevation_deg, config.size, frames)


def white(frame: np.ndarray) -> np.ndarray:
    """A frame [S, S, 3 or 4] on white [S, S, 3]."""
    return on_white(frame) if frame.shape[-1] == 4 else frame


def psnr_db(frame: np.ndarray, target: np.ndarray) -> float:
    """PSNR in dB of pictures [S, S, 3] in [0, 1]."""
    return decibels(float(np.mean((frame.astype(np.float64) - target) ** 2)))
