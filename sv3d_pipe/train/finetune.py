"""Fine-tune an orbit model on an orbit data set, or train a new one like `mini` from nothing."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from sv3d_pipe.evaluate.images import psnr
from sv3d_pipe.orbit.conditioning import edm_scalings
from sv3d_pipe.train.dataset import Batch, OrbitSet


@dataclass(frozen=True)
class Recipe:
    """How to train.

    Attributes:
        steps, minutes: whichever budget is spent first ends the training; the learning rate falls
            with the share spent.
        batch, frames: objects per step and frames per object (the photo included).
        learning_rate: peak, reached after 200 steps, then a cosine down to a twentieth.
        noise_share: share of examples at nearly pure noise (sigma log-uniform in 30..700); the
            others have ln sigma ~ N(0.7, 1.6) (SVD, arXiv 2311.15127, appendix D).
        drop_photo: share of examples without the photo, for guidance.
        ema: decay of the averaged weights that are kept.
    """

    steps: int = 100_000
    minutes: float = 100.0
    batch: int = 8
    frames: int = 6
    learning_rate: float = 6e-4
    noise_share: float = 0.5
    drop_photo: float = 0.05
    ema: float = 0.999
    seed: int = 0


class Trainer:
    """One training run, resumable from its last checkpoint.

    Args:
        unet, codec: the denoiser and the picture codec of an orbit model; unet is trained in place.
        data: training objects.
        recipe: see :class:`Recipe`.
        folder: where checkpoint and log are kept.
        device: torch device.
        bfloat16: run the network under bfloat16 autocast.
    """

    def __init__(
        self, unet, codec, data: OrbitSet, recipe: Recipe, folder: Path, device: str, bfloat16: bool
    ):
        self.unet, self.codec, self.data, self.recipe = unet.to(device), codec.to(device), data, recipe
        self.folder, self.device, self.bfloat16 = folder, device, bfloat16
        self.optimizer = torch.optim.AdamW(
            unet.parameters(), recipe.learning_rate, (0.9, 0.98), weight_decay=0.01
        )
        self.average = {name: p.detach().clone() for name, p in unet.named_parameters()}
        self.step, self.seconds = 0, 0.0
        if self._checkpoint.exists():
            self._resume()

    @property
    def _checkpoint(self) -> Path:
        return self.folder / "training.pt"

    def _resume(self) -> None:
        state = torch.load(self._checkpoint, weights_only=True, map_location=self.device)
        self.unet.load_state_dict(state["unet"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average, self.step, self.seconds = state["average"], state["step"], state["seconds"]

    def save(self) -> None:
        """Keep everything needed to go on, whole or not at all."""
        state = {
            "unet": self.unet.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average,
            "step": self.step,
            "seconds": self.seconds,
        }
        partial = self._checkpoint.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(self._checkpoint)

    @property
    def share_spent(self) -> float:
        """How much of the budget is used: 1 means done."""
        return min(1.0, max(self.step / self.recipe.steps, self.seconds / (60 * self.recipe.minutes)))

    def run(
        self, on_step: Callable[[float, float], None], validate: Callable[[], dict] | None = None
    ) -> None:
        """Train until the budget is spent.

        Args:
            on_step: called with (share spent, loss) after every step.
            validate: called every five minutes with the averaged weights in place; logged.
        """
        rng = np.random.default_rng((self.recipe.seed, self.step))
        batches = self.data.batches(self.recipe.batch, self.recipe.frames, rng)
        losses: list[float] = []
        saved = time.monotonic()
        try:
            while self.share_spent < 1:
                start = time.monotonic()
                generator = torch.Generator(self.device).manual_seed(self.recipe.seed * 1_000_003 + self.step)
                losses.append(self._update(next(batches), generator))
                self.seconds += time.monotonic() - start
                on_step(self.share_spent, float(np.mean(losses[-50:])))
                if time.monotonic() - saved > 300 or self.share_spent >= 1:
                    self._log(float(np.mean(losses)), validate)
                    losses.clear()
                    self.save()
                    saved = time.monotonic()
        except KeyboardInterrupt:
            self.save()
            raise

    def _update(self, batch: Batch, generator: torch.Generator) -> float:
        spent = self.share_spent
        rate = self.recipe.learning_rate * (0.05 + 0.95 * (0.5 + 0.5 * math.cos(math.pi * spent)))
        self.optimizer.param_groups[0]["lr"] = rate * min(1.0, (self.step + 1) / 200)
        loss = denoising_loss(self.unet, self.codec, batch, self.recipe, generator, self.bfloat16)
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.unet.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        decay = min(self.recipe.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for name, parameter in self.unet.named_parameters():
                self.average[name].lerp_(parameter, 1 - decay)
        return float(loss.detach())

    def _log(self, loss: float, validate: Callable[[], dict] | None) -> None:
        row = {
            "step": self.step,
            "samples": self.step * self.recipe.batch,
            "minutes": self.seconds / 60,
            "loss": loss,
        }
        if validate is not None:
            with self.averaged():
                row |= validate()
        with (self.folder / "log.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")

    def averaged(self):
        """A context in which the denoiser carries the averaged weights."""
        return _Swapped(self.unet, self.average)


class _Swapped:
    def __init__(self, unet, weights):
        self.unet, self.weights = unet, weights

    def __enter__(self):
        self.kept = {name: p.detach().clone() for name, p in self.unet.named_parameters()}
        self.unet.load_state_dict(self.weights, strict=False)

    def __exit__(self, *_):
        self.unet.load_state_dict(self.kept, strict=False)


def draw_sigma(count: int, recipe: Recipe, generator: torch.Generator) -> torch.Tensor:
    """[count] noise levels as :class:`Recipe` says."""
    device = generator.device
    usual = torch.exp(0.7 + 1.6 * torch.randn(count, generator=generator, device=device))
    low, high = math.log(30.0), math.log(700.0)
    pure = torch.exp(low + (high - low) * torch.rand(count, generator=generator, device=device))
    chosen = torch.rand(count, generator=generator, device=device) < recipe.noise_share
    return torch.where(chosen, pure, usual)


def denoising_loss(unet, codec, batch: Batch, recipe: Recipe, generator: torch.Generator, bfloat16: bool):
    """Weighted squared error of the denoised latents.

    The velocity weight (sigma^2 + 1) / sigma^2 is capped at 5, after min-SNR (arXiv 2303.09556).
    """
    device = generator.device
    rgba = batch.rgba.to(device).permute(0, 1, 4, 2, 3)  # [B, T, 4, S, S]
    clean = codec.encode(rgba.flatten(0, 1)).unflatten(0, rgba.shape[:2])  # [B, T, C, s, s]
    sigma = draw_sigma(len(clean), recipe, generator)
    s = sigma[:, None, None, None, None]
    noisy = clean + s * torch.randn(clean.shape, generator=generator, device=device)
    kept = torch.rand(len(clean), generator=generator, device=device) >= recipe.drop_photo
    photo = (clean[:, -1:] * kept[:, None, None, None, None]).expand_as(clean)
    ids = batch.time_ids().to(device)  # [B, T, 3]
    c_skip, c_out, c_in, c_noise = edm_scalings(s)
    with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
        velocity = unet(torch.cat([noisy * c_in, photo], 2), c_noise.flatten(), None, ids, return_dict=False)[
            0
        ]
    denoised = c_out * velocity.float() + c_skip * noisy
    weight = ((sigma**2 + 1) / sigma**2).clamp(max=5)
    return (weight * (denoised - clean).square().mean((1, 2, 3, 4))).mean()


@torch.no_grad()
def one_step_psnr(unet, codec, data: OrbitSet, device: str, objects: int = 38, frames: int = 8) -> dict:
    """PSNR on white of the prediction from pure noise, over fixed novel views, beside the copied photo."""
    rng = np.random.default_rng(0)
    generator = torch.Generator(device).manual_seed(0)
    model, copied = [], []
    batches = data.batches(1, frames, rng)
    for _ in range(min(objects, len(data))):
        batch = next(batches)
        rgba = batch.rgba.to(device).permute(0, 1, 4, 2, 3)
        clean = codec.encode(rgba.flatten(0, 1)).unflatten(0, rgba.shape[:2])
        sigma = torch.tensor(700.0, device=device)
        noisy = sigma * torch.randn(clean.shape, generator=generator, device=device)
        c_skip, c_out, c_in, c_noise = edm_scalings(sigma)
        sample = torch.cat([noisy * c_in, clean[:, -1:].expand_as(clean)], 2)
        denoised = (
            c_out * unet(sample, c_noise, None, batch.time_ids().to(device), return_dict=False)[0]
            + c_skip * noisy
        )
        frames_out = codec.decode(denoised[0, :-1]).permute(0, 2, 3, 1).cpu().numpy()
        truth = codec.decode(clean[0]).permute(0, 2, 3, 1).cpu().numpy()
        model.append(psnr(frames_out, truth[:-1]))
        copied.append(psnr(np.repeat(truth[-1:], frames - 1, 0), truth[:-1]))
    return {"val_psnr_db": float(np.mean(model)), "val_copied_photo_db": float(np.mean(copied))}


def save_model(unet, codec, folder: Path, recipe: Recipe) -> None:
    """Write the orbit model as a diffusers folder, with the recipe beside it."""
    from sv3d_pipe.orbit.pipeline import StableVideo3DPipeline, euler_scheduler

    StableVideo3DPipeline(
        vae=codec, image_encoder=None, unet=unet, scheduler=euler_scheduler(), steps=1, guidance=1.0
    ).save_pretrained(folder)
    (folder / "recipe.json").write_text(json.dumps(asdict(recipe), indent=1))
