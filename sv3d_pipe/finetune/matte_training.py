"""Train the network that cuts objects out of photos, on scenes that are composed as they are needed."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from sv3d_pipe.dataset.scenes.backdrops import Backdrops, find_photographs
from sv3d_pipe.dataset.scenes.compose import Scene, compose
from sv3d_pipe.dataset.scenes.cutouts import Cutouts, find_sources
from sv3d_pipe.efficientnet import load_published
from sv3d_pipe.errors import UserError
from sv3d_pipe.prep.matting.network import MattingNet
from sv3d_pipe.prep.matting.weights import load_network, save_network

BATCH = 12
SAVE_MINUTES = 5.0  # between copies that are kept
RATE, TRUNK_SHARE = 1e-3, 0.2  # largest learning rate of AdamW, and the trunk's share of it
WARMUP = 100  # steps in which it rises
DECAY = 0.01
AVERAGED = 0.998  # decay of the averaged weights, which are what is kept
FROZEN_STAGES = 2  # of the trunk, with its stem: edges and colors are the same in all pictures
EDGE_WEIGHT = 4.0  # of pixels at the edge of an object, beside 1 elsewhere
ROUGH_WEIGHT = 0.3  # of the rougher answers
ANY_WEIGHT = 0.5  # of the second answer, beside 1 for what is meant


@dataclass(frozen=True)
class Material:
    """What scenes are made of.

    Attributes:
        cutouts: folders of data sets of `img2mesh render` and of PNG pictures with transparent background.
        backgrounds: folders of photographs.
        held_out: whether scenes are made of what is never trained on.
    """

    cutouts: tuple[Path, ...]
    backgrounds: tuple[Path, ...]
    held_out: bool = False

    def open(self) -> tuple[Cutouts, Backdrops]:
        """Raises UserError if a folder holds nothing of use."""
        folders = find_sources(list(self.cutouts))
        kept = [[one for one in folder if one.held_out == self.held_out] for folder in folders]
        if not any(kept):
            raise UserError(
                "There are too few objects to keep some for measuring; give data sets of at least a hundred objects."
            )
        return Cutouts(kept), Backdrops(find_photographs(list(self.backgrounds), self.held_out))


class Scenes(torch.utils.data.IterableDataset):
    """Scenes without end; each worker process draws its own."""

    def __init__(self, material: Material, size: int, seed: int):
        self.material, self.size, self.seed = material, size, seed

    def __iter__(self) -> Iterator[tuple[np.ndarray, ...]]:
        worker = torch.utils.data.get_worker_info()
        rng = np.random.default_rng([self.seed, worker.id if worker else 0])
        cutouts, backdrops = self.material.open()
        torch.set_num_threads(1)
        while True:
            yield arrays(compose(rng, cutouts, backdrops, self.size))


def arrays(scene: Scene) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """[3, S, S] colors, [2, S, S] what is told, [2, S, S] both alphas; uint8."""
    return np.ascontiguousarray(scene.rgb.transpose(2, 0, 1)), scene.told, np.stack([scene.meant, scene.any])


def train(
    material: Material,
    out: Path,
    start: Path | None,
    size: int,
    minutes: float,
    device: torch.device,
    seed: int,
    workers: int,
    on_step: Callable[[int, float, float], None],
) -> MattingNet:
    """Train for some time, and keep the averaged weights in a folder.

    Args:
        start: folder of a network to go on from; None starts from the published classifier.
        size: side of the scenes in pixels, a multiple of 32.
        minutes: of training; the learning rate falls to 0 over them.
        workers: processes that compose scenes; 0 composes in this one.
        on_step: called with the step's number from 1, its loss and the share of the time that is gone.
    Returns:
        the averaged network, for use.
    Raises:
        UserError: a folder holds nothing of use.
    """
    material.open()  # so that what is wrong with a folder is said here, not in a worker
    torch.manual_seed(seed)
    network = _fresh() if start is None else load_network(start)
    network.to(device, memory_format=torch.channels_last)
    averaged = copy.deepcopy(network).eval()
    optimizer = torch.optim.AdamW(_groups(network), weight_decay=DECAY)
    rates = [group["lr"] for group in optimizer.param_groups]
    loader = torch.utils.data.DataLoader(
        Scenes(material, size, seed),
        BATCH,
        num_workers=workers,
        multiprocessing_context="spawn" if workers else None,
        prefetch_factor=4 if workers else None,
    )
    began = saved = time.monotonic()
    for step, batch in enumerate(loader, 1):
        gone = min(1.0, (time.monotonic() - began) / (60 * minutes))
        for group, rate in zip(optimizer.param_groups, rates):
            group["lr"] = rate * min(1.0, step / WARMUP) * (0.5 + 0.5 * math.cos(math.pi * gone))
        colors, told, alphas = (part.to(device).float() / 255 for part in batch)
        network.train()
        loss = loss_of(network(colors, told), alphas)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        _average(averaged, network, min(AVERAGED, (1 + step) / (10 + step)))
        on_step(step, loss.item(), gone)
        if gone == 1 or time.monotonic() - saved > 60 * SAVE_MINUTES:
            save_network(averaged, out)
            saved = time.monotonic()
        if gone == 1:
            break
    return averaged


def _fresh() -> MattingNet:
    network = MattingNet()
    load_published(network.trunk)
    return network


def _groups(network: MattingNet) -> list[dict]:
    """The trunk learns more slowly, and its first stages not at all."""
    trunk = network.trunk
    for part in (trunk.stem, *trunk.stages[:FROZEN_STAGES]):
        part.requires_grad_(False)
    known = {id(weight) for weight in trunk.parameters()}
    return [
        {"params": [w for w in trunk.parameters() if w.requires_grad], "lr": RATE * TRUNK_SHARE},
        {"params": [w for w in network.parameters() if id(w) not in known], "lr": RATE},
    ]


@torch.no_grad()
def _average(averaged: nn.Module, network: nn.Module, keep: float) -> None:
    for kept, new in zip(averaged.state_dict().values(), network.state_dict().values()):
        if kept.is_floating_point():
            kept.lerp_(new, 1 - keep)
        else:
            kept.copy_(new)


def loss_of(
    # Logits [B, 2, S, S], [B, 2, S / 16, S / 16] and [B, 2, S / 8, S / 8].
    answers: list[torch.Tensor],
    alphas: torch.Tensor,  # [B, 2, S, S] in [0, 1]
) -> torch.Tensor:  # []
    """Cross entropy, more at edges, and 1 - IoU of what is meant, as in BASNet (Qin et al. 2019, section 3.3)."""
    total = _loss(answers[0], alphas, edges=True)
    for rough in answers[1:]:
        total = total + ROUGH_WEIGHT * _loss(
            rough, F.adaptive_avg_pool2d(alphas, rough.shape[-1]), edges=False
        )
    return total


def _loss(logits: torch.Tensor, alphas: torch.Tensor, edges: bool) -> torch.Tensor:
    entropy = F.binary_cross_entropy_with_logits(logits, alphas, reduction="none")
    if edges:
        near = F.max_pool2d(alphas, 7, 1, 3) + F.max_pool2d(-alphas, 7, 1, 3)  # 1 within 3 pixels of an edge
        weights = 1 + EDGE_WEIGHT * near
        entropy = (entropy * weights).mean((2, 3)) / weights.mean((2, 3))
    else:
        entropy = entropy.mean((2, 3))
    alpha = logits.sigmoid()
    both, either = (alpha * alphas).sum((2, 3)), (alpha + alphas - alpha * alphas).sum((2, 3))
    some = alphas.shape[-1] ** 2 * 1e-3  # pixels; where nothing is to be found, nothing may be
    overlap = 1 - (both + some) / (either + some)
    per_answer = (entropy + overlap).mean(0)  # [2]
    return per_answer[0] + ANY_WEIGHT * per_answer[1]
