"""StableVideo3DPipeline: one photo to an orbit of frames around the object (SV3D, arXiv 2403.12008).

The road through :meth:`StableVideo3DPipeline.__call__` is that of the released sampling code:
same conditions, same noise levels, same order of random draws.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, DiffusionPipeline, EulerDiscreteScheduler
from diffusers.utils import BaseOutput
from diffusers.utils.torch_utils import randn_tensor
from PIL import Image

from sv3d_pipe.cameras import N_FRAMES, orbit_azimuths
from sv3d_pipe.orbit.conditioning import (
    as_rgba,
    clip_pixels,
    edm_scalings,
    photo_on_white,
    time_ids,
    triangle_scales,
)
from sv3d_pipe.orbit.mini.denoiser import VolumeDenoiser

# from_pretrained resolves these four by name among the modules already imported.
from sv3d_pipe.orbit.mini.depth_guess import DepthGuesser, Guess
from sv3d_pipe.orbit.mini.knowledge import USUAL_DEPTH, knowledge_token
from sv3d_pipe.orbit.mini.pixel_codec import PixelCodec
from sv3d_pipe.orbit.mini.recognizer import SIDE, look
from sv3d_pipe.orbit.sv3d.schedulers import SOLVERS, dpm_scheduler, euler_scheduler
from sv3d_pipe.orbit.sv3d.unet import StableVideo3DUNet
from sv3d_pipe.pictures import resize_rgba

__all__ = ["PhotoCondition", "StableVideo3DPipeline", "StableVideo3DPipelineOutput", "euler_scheduler"]
OUTPUT_TYPES = ("np", "pt", "pil", "latent")


@dataclass(frozen=True)
class PhotoCondition:
    """The photo as the denoiser sees it.

    Attributes:
        latents: [1, 4, h, w], not scaled by the VAE's factor.
        token: [1, 1, C] CLIP image embedding, or what a :class:`VolumeDenoiser` is told (sv3d_pipe.orbit.mini.knowledge);
            None for models that take none.
        guess: of the object's depth, on which that is based; None if there is none.
    """

    latents: torch.Tensor
    token: torch.Tensor | None
    guess: Guess | None = None


@dataclass
class StableVideo3DPipelineOutput(BaseOutput):
    """What the pipeline returns.

    Attributes:
        frames: [T, S, S, C], C = 4 (straight-alpha RGBA) with a PixelCodec and 3 (RGB on white) with
            a VAE; the last frame is the photo. In [0, 1] for "np" and "pt"; a list of T images for
            "pil"; [T, 4, h, w] latents, nothing replaced, for "latent".
        own_last_frame: the model's own picture of the photo's view, in the type of one frame.
        depth: how deep the model took the object for (:func:`sv3d_pipe.geometry.extent.relative_depth`), if it guesses.
    """

    frames: np.ndarray | torch.Tensor | list[Image.Image]
    own_last_frame: np.ndarray | torch.Tensor | Image.Image
    depth: float | None = None


class StableVideo3DPipeline(DiffusionPipeline):
    """Paints an orbit of views around the object of a photo.

    Args:
        vae: ``PixelCodec`` (RGBA) or ``AutoencoderKL`` (RGB on white).
        unet: ``StableVideo3DUNet`` (sv3d-u, sv3d-p) or any module with its call: ``(sample [B, T, 8,
            h, w], timestep, encoder_hidden_states [B, 1, C] or None, added_time_ids [B, T, 3],
            return_dict=False) -> ([B, T, 4, h, w],)``, predicting velocity. The time ids hold, per
            frame, noise on the photo, polar angle and azimuth in radians.
        scheduler: see :func:`euler_scheduler`.
        image_encoder: ``CLIPVisionModelWithProjection``; None for models that need no token.
        depth: guesses how deep the object is, for models that do not know; None for others.
        steps, guidance: sampling steps and largest guidance scale that suit the model; SV3D's are the defaults.

    Attributes:
        guidance_together: both halves of guidance in one call of the UNet, or one after the other: the
            same frames in half the memory.
        frames_per_decode: frames that a VAE decodes at a time.
    """

    __module__ = "sv3d_pipe"  # what saved models call it by

    model_cpu_offload_seq = "image_encoder->unet->vae"
    _optional_components = ["image_encoder", "depth"]
    _callback_tensor_inputs = ["latents", "denoised"]

    def __init__(
        self,
        vae: PixelCodec | AutoencoderKL,
        unet: StableVideo3DUNet | VolumeDenoiser | torch.nn.Module,
        scheduler: EulerDiscreteScheduler,
        image_encoder: torch.nn.Module | None = None,
        depth: DepthGuesser | None = None,
        steps: int = 50,
        guidance: float = 2.5,
    ):
        super().__init__()
        self.register_modules(
            vae=vae, unet=unet, scheduler=scheduler, image_encoder=image_encoder, depth=depth
        )
        self.register_to_config(steps=steps, guidance=guidance)
        self.guidance_together = True
        self.frames_per_decode = 1

    @classmethod
    def load_config(cls, *args: Any, **options: Any) -> Any:
        """As diffusers reads it; models of img2mesh 0.1.0 name the files that their parts were in."""
        found = super().load_config(*args, **options)
        config = found[0] if isinstance(found, tuple) else found
        for part in config.values():
            if isinstance(part, list) and isinstance(part[0], str) and part[0].startswith("sv3d_pipe."):
                part[0] = "sv3d_pipe"
        return found

    @property
    def takes_pose(self) -> bool:
        """False for a UNet whose extra numbers are the noise on the photo alone (sv3d-u)."""
        return not isinstance(self.unet, StableVideo3DUNet) or len(self.unet.widths) > 1

    @property
    def knows(self) -> bool:
        """True for a network that is told what a recognizer sees in the photo, and how deep its object is."""
        return isinstance(self.unet, VolumeDenoiser) and self.unet.config.knows

    @property
    def paints_alpha(self) -> bool:
        """True when frames are RGBA, False when they are RGB on white (a VAE)."""
        return not isinstance(self.vae, AutoencoderKL)

    @property
    def size(self) -> int:
        """Side of the frames that the model was made for, in pixels."""
        if not self.paints_alpha:
            return self.unet.config.sample_size * 2 ** (len(self.vae.config.block_out_channels) - 1)
        return self.vae.config.size

    @property
    def size_step(self) -> int:
        """Frames may have any side that is a multiple of this: 64 for SV3D, the one size for RGBA models."""
        if self.paints_alpha:
            return self.size
        halvings = len(self.vae.config.block_out_channels) + len(self.unet.config.block_out_channels) - 2
        return 2**halvings

    def frame_size(self, size: int = 0) -> int:
        """The side of the frames for a wish of ``size``; 0 is the model's own. Raises ValueError."""
        allowed = size == self.size if self.paints_alpha else size > 0 and size % self.size_step == 0
        if size and not allowed:
            only = f"{self.size}" if self.paints_alpha else f"a multiple of {self.size_step}"
            raise ValueError(f"the frames of this model must have size {only}, not {size}")
        return size or self.size

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
    ) -> StableVideo3DPipelineOutput | tuple:
        """Paint the orbit.

        Args:
            image: the object on transparent background, centred: an image or [S, S, 4] (float in
                [0, 1] or uint8).
            azimuth_deg: [T] degrees, counter-clockwise seen from above; the last frame is the photo.
                None: 21 frames, evenly spaced.
            elevation_deg: [T] or one number, degrees, positive above the object.
            num_inference_steps: None takes the model's own.
            max_guidance_scale: None takes the model's own; the largest scale, reached by the middle frame, falling to 1 at both ends;
                1 saves the unconditional half of the work.
            cond_aug: deviation of the noise added to the photo, which lies in [-1, 1].
            size: side of the frames in pixels; 0 is the model's own, see :attr:`size_step`.
            solver: "euler" (SV3D's own) or "dpm" (DPM-Solver++ 2M) on the same noise levels.
            generator: its first numbers are the photo's noise, the next the frames'; as in the released
                code if it lies on the compute device.
            output_type: "np", "pt", "pil" or "latent".
            callback_on_step_end: called with (pipeline, step, timestep, tensors) after each step; it
                returns the tensors it changed.
            callback_on_step_end_tensor_inputs: of "latents" and "denoised" (this step's estimate of
                the clean latents).
        Returns:
            StableVideo3DPipelineOutput, or its values as a tuple.
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

        # 4. Noise levels
        plain = solver == "euler" or num_inference_steps == 1  # the first step is the same in both
        scheduler = self.scheduler if plain else dpm_scheduler(self.scheduler)
        scheduler.set_timesteps(num_inference_steps, device=device)

        # 5. Start from noise (the second random draw)
        shape = (len(ids), *photo.latents.shape[1:])
        latents = randn_tensor(shape, generator=generator, device=device, dtype=torch.float32)
        latents = latents * scheduler.init_noise_sigma

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
        result.depth = None if photo.guess is None else photo.guess.depth
        self.maybe_free_model_hooks()
        return result if return_dict else result.to_tuple()

    def encode_photo(
        self,
        rgba: np.ndarray,  # [S, S, 4] float32 in [0, 1]
        elevation_deg: float,
        cond_aug: float = 0.0,
        generator: torch.Generator | None = None,
        size: int = 0,
    ) -> PhotoCondition:
        """The photo's latent, with noise on the picture in [-1, 1], and its token, without.

        With a PixelCodec the latent is the picture, so the noise goes there.

        Args:
            elevation_deg: the photo's, by which a model that guesses depth does so.
        """
        device, size = self._execution_device, self.frame_size(size)
        if not self.paints_alpha:
            white = torch.from_numpy(photo_on_white(rgba, size)).to(device)
            picture = (white * 2 - 1).permute(2, 0, 1)[None]  # [1, 3, S, S]
        else:
            picture = self.vae.encode(torch.from_numpy(rgba).to(device).permute(2, 0, 1)[None])
        noise = randn_tensor(picture.shape, generator=generator, device=device) if cond_aug > 0 else 0.0
        noisy = picture + cond_aug * noise
        if not self.paints_alpha:
            noisy = self.vae.encode(noisy.to(self.vae.dtype)).latent_dist.mode()
        token = guess = None
        if self.image_encoder is not None:
            token = self.image_encoder(clip_pixels(picture).to(self.image_encoder.dtype)).image_embeds[
                :, None
            ]
        elif self.knows:
            token, guess = self._know(rgba, elevation_deg)
        return PhotoCondition(noisy.float(), token, guess)

    def _know(self, rgba: np.ndarray, elevation_deg: float) -> tuple[torch.Tensor, Guess | None]:
        """The token of a photo [S, S, 4], and the guess, from the photo and its mirror image, of the depth in it."""
        picture = torch.from_numpy(rgba).to(self._execution_device).permute(2, 0, 1)[None]
        large = PixelCodec(SIDE).to(picture.device).encode(picture)
        fine, whole = look(torch.cat([large, large.flip(-1)]))
        guess = None if self.depth is None else self.depth.guess(fine, whole, elevation_deg)
        depth = USUAL_DEPTH if guess is None else guess.depth
        return knowledge_token(fine[:1], whole[:1], torch.tensor([depth])), guess

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

    def encode_frames(
        self,
        rgba: torch.Tensor,  # [N, S, S, 4] in [0, 1], straight alpha
    ) -> torch.Tensor:  # [N, 4, h, w]
        """Frames to the latents that are denoised; differentiable. A VAE takes them in their size."""
        rgba = rgba.permute(0, 3, 1, 2)
        if self.paints_alpha:
            return self.vae.encode(rgba)
        white = rgba[:, :3] * rgba[:, 3:] + 1 - rgba[:, 3:]
        latents = self.vae.encode((white * 2 - 1).to(self.vae.dtype)).latent_dist.mode()
        return latents.float() * self.vae.config.scaling_factor

    def decode_frames(
        self,
        latents: torch.Tensor,  # [N, 4, h, w]
    ) -> torch.Tensor:  # [N, S, S, 4] RGBA or [N, S, S, 3] RGB, in [0, 1]
        """Latents to frames, ``frames_per_decode`` at a time with a VAE (its memory grows with them)."""
        if self.paints_alpha:
            return self.vae.decode(latents).permute(0, 2, 3, 1)
        latents = (latents / self.vae.config.scaling_factor).to(self.vae.dtype)
        chunks = latents.split(self.frames_per_decode)
        frames = torch.cat([self.vae.decode(chunk).sample.float() for chunk in chunks])
        return (frames / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)

    def _output(
        self, latents: torch.Tensor, rgba: np.ndarray, size: int, kind: str
    ) -> StableVideo3DPipelineOutput:
        if kind == "latent":
            return StableVideo3DPipelineOutput(frames=latents, own_last_frame=latents[-1])
        frames = self.decode_frames(latents)
        own = frames[-1].clone()
        photo = resize_rgba(rgba, size) if self.paints_alpha else photo_on_white(rgba, size)
        frames[-1] = torch.from_numpy(photo).to(frames)
        if kind != "pt":
            frames, own = frames.cpu().numpy(), own.cpu().numpy()
        if kind == "pil":
            frames, own = [_to_pil(frame) for frame in frames], _to_pil(own)
        return StableVideo3DPipelineOutput(frames=frames, own_last_frame=own)

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
