"""Mini as an orbit model: frames with alpha, and masks of the one solid that its volume is."""

from __future__ import annotations

import numpy as np
import torch

from sv3d_pipe.artifacts import Photo
from sv3d_pipe.config import OrbitConfig
from sv3d_pipe.orbit.conditioning import time_ids
from sv3d_pipe.orbit.denoising_pipeline import OrbitOutput
from sv3d_pipe.orbit.masks import crisp, cut_out
from sv3d_pipe.orbit.memory_plan import Plan
from sv3d_pipe.orbit.mini.knowledge import with_depths
from sv3d_pipe.orbit.mini.pixel_pipeline import MiniPipeline
from sv3d_pipe.orbit.mini.seen_depth import seen_depth
from sv3d_pipe.orbit.model import Angles, Painted
from sv3d_pipe.orbit.painter import Painter, psnr_db, white
from sv3d_pipe.road.context import Context


class MiniPainter(Painter):
    """A :class:`MiniPipeline` as an orbit model."""

    pipeline: MiniPipeline

    _measured: tuple[Photo, float | None] | None = (
        None  # the last photo's depth, which painting and masks need
    )

    def paint(
        self, photo: Photo, angles: Angles, config: OrbitConfig, plan: Plan, context: Context
    ) -> Painted:
        with self.pipeline.told(self._depth(photo, angles, plan, context.device)):
            return super().paint(photo, angles, config, plan, context)

    def plans(
        self, config: OrbitConfig, device: str, frames: int, with_gradient: bool = False
    ) -> tuple[Plan, ...]:
        """So small a model can only save memory by working on one half of guidance at a time."""
        return (Plan(together=False),) if config.low_vram else (Plan(), Plan(together=False))

    def brief(self, config: OrbitConfig, plan: Plan, context: Context) -> None:
        pass

    def progress(self, timestep: torch.Tensor, denoised: torch.Tensor, target: np.ndarray) -> str:
        own = self.pipeline.decode_frames(denoised[-1:])[0].cpu().numpy()
        return f"{psnr_db(white(own), target):.1f} dB"

    def cut_out(self, output: OrbitOutput, angles: Angles) -> np.ndarray:
        return output.frames

    def solid(self, rgba: np.ndarray, photo: Photo, angles: Angles, config: OrbitConfig) -> np.ndarray:
        """A single step paints the mean of all that is possible, and its soft masks fit no solid; a denoiser that
        thinks in a volume then says what the solid is. Several steps paint one possibility, masks and all."""
        if config.steps > 1 or not hasattr(self.pipeline.unet, "silhouettes"):
            return crisp(rgba)
        with self.pipeline.told(self._depth(photo, angles)):
            return cut_out(rgba, solid_masks(self.pipeline, photo.rgba, angles))

    def _depth(
        self, photo: Photo, angles: Angles, plan: Plan | None = None, device: str = ""
    ) -> float | None:
        """How deep the object is, as further photos of it show; None where none does."""
        if not (photo.further and self.pipeline.knows):
            return None
        if self._measured is None or self._measured[0] is not photo:
            with self.pipeline.busy:
                if plan is not None:
                    self.pipeline.adopt(plan, device)
                self._measured = photo, seen_depth(self.pipeline, photo, float(angles[1][-1]))
        return self._measured[1]


def solid_masks(
    pipeline: MiniPipeline,
    photo: np.ndarray,  # [S, S, 4] in [0, 1], straight alpha
    angles: Angles,
) -> np.ndarray:  # [N, S, S] in [0, 1]
    """What the solid that a :class:`VolumeDenoiser` sees in the photo covers in each frame.

    How deep it is is uncertain, so where the model guesses, several depths count alike.
    """
    poses = time_ids(*angles, cond_aug=0.0)[:, 1:].to(pipeline.unet.device)
    condition = pipeline.encode_photo(photo.astype(np.float32), float(angles[1][-1]))
    tokens = condition.token
    if condition.guess is not None:
        tokens = with_depths(tokens, condition.guess.possible())
    return pipeline.unet.silhouettes(condition.latents, poses, tokens).cpu().numpy()
