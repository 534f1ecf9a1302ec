"""An orbit model as a judge of rendered orbits: what score distillation asks it."""

from __future__ import annotations

import numpy as np
import torch

from sv3d_pipe.orbit.conditioning import edm_scalings, time_ids, triangle_scales
from sv3d_pipe.orbit.denoising_pipeline import OrbitPipeline


class OrbitPrior:
    """One photo's orbit model in EDM form, see :class:`sv3d_pipe.contracts.Prior`.

    Args:
        pipeline: a loaded orbit model.
        rgba: [P, P, 4] the photo it is conditioned on.
        elevation_deg: from which that was taken.
        size: side of the frames in pixels; 0 is the model's own.
        frames: of an orbit, the photo's last.
    """

    def __init__(
        self, pipeline: OrbitPipeline, rgba: np.ndarray, elevation_deg: float, size: int, frames: int
    ):
        self.pipeline, self.frames = pipeline, frames
        self.size = pipeline.frame_size(size)
        with torch.no_grad():
            self.condition = pipeline.encode_photo(rgba.astype(np.float32), elevation_deg, size=self.size)

    def encode(
        self,
        rgba: torch.Tensor,  # [T, size, size, 4] in [0, 1], straight alpha
    ) -> torch.Tensor:  # [T, 4, h, w]
        """Frames to latents; differentiable."""
        return self.pipeline.encode_frames(rgba)

    @torch.no_grad()
    def denoise(
        self,
        noisy: torch.Tensor,  # [T, 4, h, w]
        sigma: float,
        azimuth_deg: np.ndarray,  # [T]
        elevation_deg: np.ndarray,  # [T]
        guidance: float = 1.0,
    ) -> torch.Tensor:  # [T, 4, h, w]
        """The model's estimate of the clean latents.

        Args:
            azimuth_deg, elevation_deg: world angles in the order of the orbit; the last frame must
                have the photo's own pose.
            guidance: largest guidance scale, reached by the middle frame; 1 is without guidance.
        """
        c_skip, c_out, c_in, c_noise = edm_scalings(torch.tensor(float(sigma), device=noisy.device))
        ids = time_ids(azimuth_deg, elevation_deg, cond_aug=1e-5).to(noisy.device)
        scales = triangle_scales(len(ids), guidance).to(noisy.device) if guidance > 1 else None
        velocity = self.pipeline.predict_velocity(noisy * c_in, c_noise, self.condition, ids, scales)
        return c_skip * noisy + c_out * velocity
