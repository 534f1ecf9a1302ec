"""Train the network that guesses depth: compute the features of all photos once, then fit small networks to them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import Progress, TextColumn

from sv3d_pipe.errors import UserError
from sv3d_pipe.finetune.assembly import save_model
from sv3d_pipe.finetune.known_views import FLATTEST, framed, seen
from sv3d_pipe.orbit.mini.depth_guess import DepthGuesser
from sv3d_pipe.orbit.store.load import load_pipeline

AT_ONCE = 256  # photos that are judged
UNITS_FROM = 4096  # photos whose features are taken as the units of all
BATCH = 128
RATE = 1e-3  # largest learning rate of AdamW
WARMUP = 100  # steps in which it rises
DECAY = 0.05


@dataclass(frozen=True)
class PhotoFeatures:
    """What is seen in N photos, and how deep their objects are.

    Attributes:
        fine: [N, 120, 12, 12] and whole [N, 1280], float16, of :func:`sv3d_pipe.orbit.mini.recognizer.look`.
        elevation_deg: [N]. target: [N] ln(depth).
    """

    fine: torch.Tensor
    whole: torch.Tensor
    elevation_deg: torch.Tensor
    target: torch.Tensor

    def __len__(self) -> int:
        return len(self.target)

    def take(self, index: torch.Tensor, device: torch.device) -> tuple[torch.Tensor, ...]:
        """The inputs of the network for photos ``index`` [B]."""
        parts = (self.fine, self.whole, self.elevation_deg)
        return tuple(part[index].float().to(device) for part in parts)


def train_model(
    sets: Sequence[Sequence[Any]], out: Path, model: str, steps: int, device: str, seed: int
) -> str:
    """Give a model a newly trained network, with progress on stderr, and save it.

    Args:
        sets: photos to learn from, and maybe photos to measure on.
        model: as :func:`sv3d_pipe.orbit.store.find.find_model` takes it.
    Returns:
        what was measured, in a sentence.
    """
    torch.manual_seed(seed)
    pipeline = load_pipeline(model, device)
    guesser = DepthGuesser().to(device)
    with Progress(*Progress.get_default_columns(), TextColumn("{task.fields[loss]}")) as progress:
        seeing = progress.add_task("Looking at photos", total=sum(map(len, sets)), loss="")
        photos = [look_at(orbits, guesser, seed, lambda: progress.advance(seeing)) for orbits in sets]
        training = progress.add_task("Training", total=steps, loss="")

        def on_step(step: int, loss: float) -> None:
            progress.update(training, completed=step, loss=f"loss {loss:.3f}")

        train(guesser, photos[0], steps, seed, on_step)
    pipeline.register_modules(depth=guesser)
    out.mkdir(parents=True, exist_ok=True)
    save_model(pipeline, pipeline.unet.state_dict(), out)
    kinds = ("training photos", "validation photos")
    off = [f"{errors(guesser, p).abs().mean():.3f} on {len(p)} {kind}" for p, kind in zip(photos, kinds)]
    return f"Mean error of ln(depth): {', '.join(off)}."


@torch.inference_mode()
def look_at(
    orbits: Sequence[Any], guesser: DepthGuesser, seed: int, on_object: Callable[[], None] = lambda: None
) -> PhotoFeatures:
    """The photos of a data set twice, framed as prep frames them: as they are and mirrored, in random detail.

    Args:
        orbits: records as :class:`sv3d_pipe.dataset.orbit_set.OrbitSet` gives them, every view a photo.
        seed: of the detail.
        on_object: called after each.
    Raises:
        UserError: a record does not say how deep its object is, or there is none.
    """
    rows = []
    for i in range(len(orbits)):
        record = orbits[i]
        if len(record.depth) != len(record.rgba):
            raise UserError(
                f"The data set does not say how deep {record.name} is; render the data set again with this version."
            )
        rng = np.random.default_rng((seed, i))
        photos = torch.stack([framed(v, rng) for views in (record.rgba, record.rgba.flip(2)) for v in views])
        fine, whole = (part.cpu() for part in seen(photos.to(guesser.device)))
        said = record.elevation_deg.repeat(2), record.depth.repeat(2)
        rows.append((fine, whole, *said))
        on_object()
    if not rows:
        raise UserError("The data set holds no photos; make some with `img2mesh render --orbit photos`.")
    fine, whole, elevation_deg, depth = map(torch.cat, zip(*rows))
    return PhotoFeatures(fine, whole, elevation_deg, depth.clamp(min=FLATTEST).log())


def train(
    guesser: DepthGuesser, photos: PhotoFeatures, steps: int, seed: int, on_step: Callable[[int, float], None]
) -> None:
    """Fit the heads to the photos; the recognizer stays as it is.

    The loss is the negative logarithm of a Laplace density whose width the network predicts too.

    Args:
        guesser: trained in place, on the device of its weights.
        on_step: called with the step's number from 1 and its loss, a mean over the heads.
    """
    generator = torch.Generator().manual_seed(seed)
    some = torch.randperm(len(photos), generator=generator)[:UNITS_FROM]
    guesser.units.take(photos.fine[some], photos.whole[some])
    optimizer = torch.optim.AdamW(guesser.parameters(), RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _share(step, steps))
    guesser.train()
    for step in range(1, steps + 1):
        index = torch.randint(len(photos), (BATCH,), generator=generator)
        guess, error = guesser(*photos.take(index, guesser.device))
        missed = (guess - photos.target[index].to(guess.device)).abs()
        loss = (error + missed * torch.exp(-error)).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(guesser.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        on_step(step, loss.item())
    guesser.eval()


def _share(step: int, steps: int) -> float:
    """Of the largest learning rate: it rises in a line and falls by half a cosine to 0."""
    return min(1.0, (step + 1) / WARMUP) * (0.5 + 0.5 * math.cos(math.pi * step / steps))


@torch.no_grad()
def errors(guesser: DepthGuesser, photos: PhotoFeatures) -> torch.Tensor:
    """Guess minus truth of ln(depth) for each photo [N]."""
    guesses = [
        guesser(*photos.take(index, guesser.device))[0].mean(0).cpu()
        for index in torch.arange(len(photos)).split(AT_ONCE)
    ]
    return torch.cat(guesses) - photos.target
