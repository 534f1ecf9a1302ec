"""MiniPipeline: the built-in model, which paints small RGBA pictures directly."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from diffusers import EulerDiscreteScheduler

from sv3d_pipe.orbit.denoising_pipeline import OrbitPipeline, PhotoCondition
from sv3d_pipe.orbit.mini.denoiser import VolumeDenoiser
from sv3d_pipe.orbit.mini.depth_guess import DepthGuesser, Guess
from sv3d_pipe.orbit.mini.knowledge import USUAL_DEPTH, knowledge_token
from sv3d_pipe.orbit.mini.pixel_codec import PixelCodec
from sv3d_pipe.orbit.mini.recognizer import SIDE, look
from sv3d_pipe.pictures import resize_rgba


@dataclass(frozen=True)
class KnownPhoto(PhotoCondition):
    """A photo of which more is known than its pixels.

    Attributes:
        guess: of the object's depth, on which the token is based; None if there is none.
    """

    guess: Guess | None = None


class MiniPipeline(OrbitPipeline):
    """Paints RGBA frames of one size, on any orbit.

    Args:
        vae: :class:`PixelCodec`, in a VAE's place.
        unet: :class:`VolumeDenoiser`, or any module with its call.
        scheduler: see :func:`sv3d_pipe.orbit.schedulers.euler_scheduler`.
        depth: guesses how deep the object is, for a denoiser that is told; None for others.
        steps, guidance: sampling steps and largest guidance scale that suit the model.
    """

    __module__ = "sv3d_pipe"  # what saved models call it by
    model_cpu_offload_seq = "unet->vae"
    _optional_components = ["depth"]
    paints_alpha = True
    takes_pose = True

    def __init__(
        self,
        vae: PixelCodec,
        unet: VolumeDenoiser | torch.nn.Module,
        scheduler: EulerDiscreteScheduler,
        depth: DepthGuesser | None = None,
        steps: int = 50,
        guidance: float = 2.5,
    ):
        super().__init__({"vae": vae, "unet": unet, "scheduler": scheduler, "depth": depth}, steps, guidance)
        self.told_depth: float | None = None

    @contextmanager
    def told(self, depth: float | None) -> Iterator[None]:
        """Around work on one photo: how deep its object is known to be, so that nothing is guessed; None is not known."""
        with self.busy:
            before, self.told_depth = self.told_depth, depth
            try:
                yield
            finally:
                self.told_depth = before

    @property
    def knows(self) -> bool:
        """Whether the denoiser is told what a recognizer sees in the photo, and how deep its object is."""
        return self.unet.config.get("knows", False)

    @property
    def size(self) -> int:
        """Side of the frames in pixels."""
        return self.vae.config.size

    def frame_size(self, size: int = 0) -> int:
        """The only size there is. Raises ValueError for any other, except 0."""
        if size not in (0, self.size):
            raise ValueError(f"the frame size of this model must be {self.size}, not {size}")
        return self.size

    def photo_frame(self, rgba: np.ndarray, size: int) -> np.ndarray:
        return resize_rgba(rgba, size)

    @torch.no_grad()
    def encode_photo(
        self,
        rgba: np.ndarray,  # [S, S, 4] float32 in [0, 1]
        elevation_deg: float,
        cond_aug: float = 0.0,
        generator: torch.Generator | None = None,
        size: int = 0,
    ) -> KnownPhoto:
        """The picture itself is the latent; the token is what is known of it, with the depth that is guessed."""
        self.frame_size(size)
        picture = torch.from_numpy(rgba).to(self._execution_device).permute(2, 0, 1)[None]
        latents = self.vae.encode(picture)
        if cond_aug > 0:
            latents = latents + cond_aug * self.draw(latents.shape, generator)
        token, guess = self._know(picture, elevation_deg) if self.knows else (None, None)
        return KnownPhoto(latents.float(), token, None if guess is None else guess.depth, guess)

    def _know(self, picture: torch.Tensor, elevation_deg: float) -> tuple[torch.Tensor, Guess | None]:
        """The token of a photo [1, 4, S, S], and the guess, from it and its mirror image, of the depth in it."""
        large = PixelCodec(SIDE).to(picture.device).encode(picture)
        fine, whole = look(torch.cat([large, large.flip(-1)]))
        guess = None if self.depth is None else self.depth.guess(fine, whole, elevation_deg)
        if self.told_depth is not None:
            guess = Guess(self.told_depth, 0.0)
        depth = USUAL_DEPTH if guess is None else guess.depth
        return knowledge_token(fine[:1], whole[:1], torch.tensor([depth])), guess

    def encode_frames(
        self,
        rgba: torch.Tensor,  # [N, S, S, 4] in [0, 1], straight alpha
    ) -> torch.Tensor:  # [N, 4, size, size]
        """Frames to the latents that are denoised; differentiable."""
        return self.vae.encode(rgba.permute(0, 3, 1, 2))

    def decode_frames(
        self,
        latents: torch.Tensor,  # [N, 4, size, size]
    ) -> torch.Tensor:  # [N, size, size, 4] RGBA in [0, 1]
        return self.vae.decode(latents).permute(0, 2, 3, 1)
