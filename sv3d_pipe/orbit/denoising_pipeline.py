"""Painting an orbit by taking noise away: what all diffusers pipelines here have in common.

:meth:`OrbitPipeline.__call__` proceeds as SV3D's released sampling code does (arXiv 2403.12008):
same conditions, same noise levels, same order of random draws.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from diffusers import DiffusionPipeline
from diffusers.utils import BaseOutput
from diffusers.utils.torch_utils import randn_tensor
from PIL import Image

from sv3d_pipe.cameras import N_FRAMES, orbit_azimuths
from sv3d_pipe.device import give_back
from sv3d_pipe.orbit.conditioning import as_rgba, edm_scalings, time_ids, triangle_scales
from sv3d_pipe.orbit.memory_plan import Plan
from sv3d_pipe.orbit.schedulers import SOLVERS, dpm_scheduler

OUTPUT_TYPES = ("np", "pt", "pil", "latent")


@dataclass(frozen=True)
class PhotoCondition:
    """The photo as the denoiser sees it.

    Attributes:
        latents: [1, 4, h, w], not scaled by a VAE's factor.
        token: [1, 1, C] what is known of the photo besides; None for models that take none.
        depth: how deep the model takes the object for (:func:`sv3d_pipe.geometry.extent.relative_depth`); None
            where it does not say.
    """

    latents: torch.Tensor
    token: torch.Tensor | None
    depth: float | None = None


@dataclass
class OrbitOutput(BaseOutput):
    """What a pipeline returns.

    Attributes:
        frames: [T, S, S, C], C = 4 (straight-alpha RGBA) or 3 (RGB on white) as the pipeline paints; the last
            frame is the photo. In [0, 1] for "np" and "pt"; a list of T images for "pil"; [T, 4, h, w]
            latents, nothing replaced, for "latent".
        own_last_frame: the model's own picture of the photo's view, in the type of one frame.
        depth: as in :class:`PhotoCondition`.
    """

    frames: np.ndarray | torch.Tensor | list[Image.Image]
    own_last_frame: np.ndarray | torch.Tensor | Image.Image
    depth: float | None = None


class OrbitPipeline(DiffusionPipeline):
    """Paints an orbit of views around the object of a photo; the two kinds say how pictures are encoded.

    ``unet`` is any module with the call ``(sample [B, T, 8, h, w], timestep, encoder_hidden_states [B, 1, C] or
    None, added_time_ids [B, T, 3], return_dict=False) -> ([B, T, 4, h, w],)``, predicting velocity. The time
    ids hold, per frame, noise on the photo, polar angle and azimuth in radians.

    Attributes:
        paints_alpha: frames are RGBA, or RGB on white.
        guidance_together: both halves of guidance in one call of the UNet, or one after the other: the
            same frames in half the memory.
        busy: hold it while painting; how the networks are laid out in memory is the pipeline's state.
    """

    paints_alpha: ClassVar[bool]
    _callback_tensor_inputs = ["latents", "denoised"]

    def __init__(self, components: dict[str, Any], steps: int, guidance: float):
        super().__init__()
        self.register_modules(**components)
        self.register_to_config(steps=steps, guidance=guidance)
        self.guidance_together = True
        self.busy = threading.RLock()
        self._users = 0

    @classmethod
    def load_config(cls, *args: Any, **options: Any) -> Any:
        """As diffusers reads it; models of img2mesh 0.1.0 name the files that their parts were in, and parts
        that they do not have."""
        found = super().load_config(*args, **options)
        config = found[0] if isinstance(found, tuple) else found
        for name, part in list(config.items()):
            if isinstance(part, list) and part[0] is None:
                del config[name]
            elif isinstance(part, list) and part[0].startswith("sv3d_pipe."):
                part[0] = "sv3d_pipe"
        return found

    def adopt(self, plan: Plan, device: str) -> None:
        """Be set up as planned, on the device, whatever it was set up for before."""
        self.remove_all_hooks()
        self.guidance_together = plan.together
        if plan.offload:
            self.enable_model_cpu_offload(device=device)
        else:
            self.to(device, silence_dtype_warnings=True)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Around work: when the last user leaves, the weights leave the device for the CPU."""
        with self.busy:
            self._users += 1
        try:
            yield
        finally:
            with self.busy:
                self._users -= 1
                device = str(self._execution_device)
                if self._users == 0 and device != "cpu":
                    self.remove_all_hooks()
                    self.to("cpu", silence_dtype_warnings=True)
                    give_back(device)

    @property
    def takes_pose(self) -> bool:
        """Whether it can paint any orbit, or static ones alone."""
        raise NotImplementedError

    def frame_size(self, size: int = 0) -> int:
        """The side of the frames in pixels if ``size`` is asked for; 0 is the model's own. Raises ValueError."""
        raise NotImplementedError

    def photo_frame(self, rgba: np.ndarray, size: int) -> np.ndarray:
        """A photo [P, P, 4] as the frame [size, size, C] that the pipeline would paint of it."""
        raise NotImplementedError

    def encode_photo(
        self,
        rgba: np.ndarray,  # [S, S, 4] float32 in [0, 1]
        elevation_deg: float,
        cond_aug: float = 0.0,
        generator: torch.Generator | None = None,
        size: int = 0,
    ) -> PhotoCondition:
        """The photo as a condition: its latent, with noise on the picture in [-1, 1], and its token, without.

        Args:
            elevation_deg: from which it was taken.
        """
        raise NotImplementedError

    def encode_frames(
        self,
        rgba: torch.Tensor,  # [N, S, S, 4] in [0, 1], straight alpha
    ) -> torch.Tensor:  # [N, 4, h, w]
        """Frames to the latents that are denoised; differentiable."""
        raise NotImplementedError

    def decode_frames(
        self,
        latents: torch.Tensor,  # [N, 4, h, w]
    ) -> torch.Tensor:  # [N, S, S, C] in [0, 1]
        """Latents to frames."""
        raise NotImplementedError

    @torch.no_grad()
    def __call__(
        self,
        image: Image.Image | np.ndarray,
        azimuth_deg: np.ndarray | None = None,
        elevation_deg: np.ndarray | float = 10.0,
        num_inference_steps: int | None = None,
        max_guidance_scale: float | None = None,
        cond_aug: float = 1e-5,
        size: int = 0,
        solver: str = "euler",
        generator: torch.Generator | None = None,
        output_type: str = "np",
        callback_on_step_end: Callable[[Any, int, torch.Tensor, dict], dict] | None = None,
        callback_on_step_end_tensor_inputs: tuple[str, ...] = ("latents",),
        return_dict: bool = True,
    ) -> OrbitOutput | tuple:
        """Paint the orbit.

        Args:
            image: the object on a transparent background, centered: an image or [S, S, 4] (float in
                [0, 1] or uint8).
            azimuth_deg: [T] degrees, counter-clockwise seen from above; the last frame is the photo.
                None: 21 frames, evenly spaced.
            elevation_deg: [T] or one number, degrees, positive above the object.
            num_inference_steps: None takes the model's own.
            max_guidance_scale: None takes the model's own; the largest scale, reached by the middle frame and
                falling to 1 at both ends; 1 saves the unconditional half of the work.
            cond_aug: deviation of the noise added to the photo, which lies in [-1, 1].
            size: side of the frames in pixels; 0 is the model's own, see :meth:`frame_size`.
            solver: "euler" (SV3D's own) or "dpm" (DPM-Solver++ 2M) on the same noise levels.
            generator: its first numbers are the photo's noise, the next the frames'; as in the released
                code if it lies on the compute device.
            output_type: "np", "pt", "pil" or "latent".
            callback_on_step_end: called with (pipeline, step, timestep, tensors) after each step; it
                returns the tensors it changed.
            callback_on_step_end_tensor_inputs: of "latents" and "denoised" (this step's estimate of
                the clean latents).
        Returns:
            OrbitOutput, or its values as a tuple.
        Raises:
            ValueError: for arguments outside these ranges.
        """
        # 1. Check inputs
        rgba = as_rgba(image)
        azimuth_deg = orbit_azimuths(N_FRAMES) if azimuth_deg is None else np.asarray(azimuth_deg, np.float64)
        elevation_deg = np.broadcast_to(np.asarray(elevation_deg, np.float64), azimuth_deg.shape)
        if num_inference_steps is None:
            num_inference_steps = self.config.steps
        if max_guidance_scale is None:
            max_guidance_scale = self.config.guidance
        self._check(num_inference_steps, max_guidance_scale, callback_on_step_end_tensor_inputs)
        _one_of("solver", solver, SOLVERS)
        _one_of("output_type", output_type, OUTPUT_TYPES)
        device, size = self._execution_device, self.frame_size(size)

        # 2. Encode the photo (the first random draw)
        photo = self.encode_photo(rgba, float(elevation_deg[-1]), cond_aug, generator, size)

        # 3. Poses and guidance
        ids = time_ids(azimuth_deg, elevation_deg, cond_aug).to(device)  # [T, 3]
        scales = triangle_scales(len(ids), max_guidance_scale).to(device) if max_guidance_scale > 1 else None

        # 4. Noise levels, of a scheduler of this call's own: it counts its steps, and threads share the model
        plain = solver == "euler" or num_inference_steps == 1  # the first step is the same in both
        scheduler = type(self.scheduler).from_config(self.scheduler.config)
        if not plain:
            scheduler = dpm_scheduler(scheduler)
        scheduler.set_timesteps(num_inference_steps, device=device)

        # 5. Start from noise (the second random draw)
        shape = (len(ids), *photo.latents.shape[1:])
        latents = self.draw(shape, generator) * scheduler.init_noise_sigma

        # 6. Denoise
        with self.progress_bar(total=num_inference_steps) as bar:
            for i, t in enumerate(scheduler.timesteps):
                scaled = scheduler.scale_model_input(latents, t)
                velocity = self.predict_velocity(scaled, t, photo, ids, scales)
                c_skip, c_out, _, _ = edm_scalings(scheduler.sigmas[i])
                denoised = c_skip * latents + c_out * velocity
                latents = scheduler.step(velocity, t, latents, return_dict=False)[0]
                if callback_on_step_end is not None:
                    tensors = {"latents": latents, "denoised": denoised}
                    chosen = {name: tensors[name] for name in callback_on_step_end_tensor_inputs}
                    latents = callback_on_step_end(self, i, t, chosen).get("latents", latents)
                bar.update()

        # 7. Decode; the photo takes the last frame's place
        result = self._output(latents, rgba, size, output_type)
        result.depth = photo.depth
        self.maybe_free_model_hooks()
        return result if return_dict else result.to_tuple()

    def predict_velocity(
        self,
        scaled: torch.Tensor,  # [T, 4, h, w] noisy latents * c_in
        timestep: torch.Tensor | float,  # ln(sigma) / 4
        photo: PhotoCondition,
        ids: torch.Tensor,  # [T, 3] from conditioning.time_ids
        scales: torch.Tensor | None,  # [T] guidance per frame; None: conditional only
    ) -> torch.Tensor:  # [T, 4, h, w]
        """The denoiser's answer; under guidance the unconditional rows come first.

        Without condition the photo's latent and token are 0; noise level and poses stay.
        """
        if scales is None:
            return self._ask([photo], scaled, timestep, ids)[0]
        token = None if photo.token is None else torch.zeros_like(photo.token)
        rows = [PhotoCondition(torch.zeros_like(photo.latents), token), photo]
        if self.guidance_together:
            unconditional, conditional = self._ask(rows, scaled, timestep, ids)
        else:
            unconditional, conditional = (self._ask([row], scaled, timestep, ids)[0] for row in rows)
        return unconditional + scales[:, None, None, None] * (conditional - unconditional)

    def _ask(
        self,
        rows: list[PhotoCondition],  # B of them
        scaled: torch.Tensor,  # [T, 4, h, w]
        timestep: torch.Tensor | float,
        ids: torch.Tensor,  # [T, 3]
    ) -> torch.Tensor:  # [B, T, 4, h, w]
        """One call of the denoiser with the same noisy frames under several conditions."""
        frames = len(scaled)
        sample = torch.stack(
            [torch.cat([scaled, row.latents.expand(frames, -1, -1, -1)], 1) for row in rows]
        )  # [B, T, 8, h, w]
        tokens = None if rows[0].token is None else torch.cat([row.token for row in rows])
        return self.unet(
            sample.to(self.unet.dtype),
            timestep,
            encoder_hidden_states=None if tokens is None else tokens.to(self.unet.dtype),
            added_time_ids=ids.expand(len(rows), *ids.shape),
            return_dict=False,
        )[0].float()

    def draw(self, shape: tuple[int, ...], generator: torch.Generator | None) -> torch.Tensor:
        """Normal float32 noise on the pipeline's device."""
        return randn_tensor(shape, generator=generator, device=self._execution_device, dtype=torch.float32)

    def _output(self, latents: torch.Tensor, rgba: np.ndarray, size: int, kind: str) -> OrbitOutput:
        if kind == "latent":
            return OrbitOutput(frames=latents, own_last_frame=latents[-1])
        frames = self.decode_frames(latents)
        own = frames[-1].clone()
        frames[-1] = torch.from_numpy(self.photo_frame(rgba, size)).to(frames)
        if kind != "pt":
            frames, own = frames.cpu().numpy(), own.cpu().numpy()
        if kind == "pil":
            frames, own = [_to_pil(frame) for frame in frames], _to_pil(own)
        return OrbitOutput(frames=frames, own_last_frame=own)

    def _check(self, steps: int, scale: float, names: tuple[str, ...]) -> None:
        if steps < 1:
            raise ValueError(f"num_inference_steps must be at least 1, not {steps}")
        if scale < 1:
            raise ValueError(f"max_guidance_scale must be at least 1, not {scale}")
        unknown = set(names) - set(self._callback_tensor_inputs)
        if unknown:
            raise ValueError(f"no callback tensor {sorted(unknown)}; known: {self._callback_tensor_inputs}")


def _to_pil(picture: np.ndarray) -> Image.Image:
    return Image.fromarray((picture * 255 + 0.5).astype(np.uint8))


def _one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}, not {value!r}")
