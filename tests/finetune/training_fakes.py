"""Toy orbits drawn in closed form, toy models, and the road to the miniature sv3d-p."""

import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator

from sv3d_pipe.finetune.recipe import Recipe
from sv3d_pipe.orbit.mini.denoiser import VolumeDenoiser
from sv3d_pipe.orbit.mini.pixel_codec import PixelCodec
from sv3d_pipe.orbit.mini.pixel_pipeline import MiniPipeline
from sv3d_pipe.orbit.mini.voxels import frame_axes, project
from sv3d_pipe.orbit.schedulers import euler_scheduler
from sv3d_pipe.orbit.sv3d.diffusion_pipeline import StableVideo3DPipeline

sys.path.append(str(Path(__file__).parents[1] / "orbit"))  # sv3d_tiny


@dataclass(frozen=True)
class Record:
    name: str
    rgba: torch.Tensor
    azimuth_deg: torch.Tensor
    elevation_deg: torch.Tensor
    textured: bool = False
    background: tuple[float, float, float] = (1.0, 1.0, 1.0)
    depth: torch.Tensor = torch.zeros(0)
    photos: "Photos | tuple" = ()


@dataclass(frozen=True)
class Photos:
    """Large pictures [P, P, 4] uint8 of a toy."""

    pictures: list[torch.Tensor]
    azimuth_deg: torch.Tensor
    elevation_deg: torch.Tensor
    depth: torch.Tensor

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, number: int) -> torch.Tensor:
        return self.pictures[number]


def with_photos(one: Record) -> Record:
    """A toy whose views are its photos too, six times as large; the second is twice as deep as the first."""
    large = one.rgba.repeat_interleave(6, 1).repeat_interleave(6, 2)
    depth = 0.5 * torch.arange(1.0, len(large) + 1)
    return replace(one, photos=Photos(list(large), one.azimuth_deg, one.elevation_deg, depth))


def record(seed: int, views: int = 6, size: int = 32, static: bool = True, textured: bool = False) -> Record:
    """Two colored balls on the side of the object, seen from around."""
    rng = np.random.default_rng(seed)
    azimuth = np.arange(views, dtype=np.float32) * (360 / views)
    elevation = np.full(views, 10.0) if static else rng.uniform(-20, 40, views)
    centers = torch.tensor([[0.45, 0.1, 0.1], [-0.3, -0.2, 0.4]])
    colors = rng.uniform(0.1, 1, (2, 3))
    axes = frame_axes(
        torch.tensor(np.radians(90 - elevation)).float(), torch.tensor(np.radians(azimuth)).float()
    )
    where, depth = project(centers, axes[None])
    return Record(
        f"toy{seed}",
        torch.from_numpy(np.stack([_balls(where[0, k], depth[0, k], colors, size) for k in range(views)])),
        torch.from_numpy(azimuth),
        torch.from_numpy(elevation.astype(np.float32)),
        textured,
    )


def _balls(where, depth, colors, size) -> np.ndarray:
    y, x = (np.mgrid[:size, :size] + 0.5) * 2 / size - 1
    picture = np.zeros((size, size, 4), np.uint8)
    for k in np.argsort(-depth.numpy()):
        inside = (x - where[k, 0].item()) ** 2 + (y - where[k, 1].item()) ** 2 < 0.4**2
        picture[inside] = [*(colors[k] * 255).astype(np.uint8), 255]
    return picture


def toy_pipeline(knows: bool = False) -> MiniPipeline:
    """A very small mini with random weights, always the same."""
    torch.manual_seed(0)
    unet = VolumeDenoiser(size=32, grid=8, channels=(8, 16), width=32, depth=1, knows=knows)
    return MiniPipeline(
        vae=PixelCodec(size=32), unet=unet, scheduler=euler_scheduler(), steps=1, guidance=1.0
    )


def toy_recipe(**changes) -> Recipe:
    toy = {
        "steps": 12,
        "minutes": 0.0,
        "batch": 2,
        "frames": 3,
        "learning_rate": 3e-3,
        "warmup": 0,
    }
    toy |= {
        "optimizer": "adamw"
    }  # Muon rounds to bfloat16 on its way: not the same in parts, or in processes
    return Recipe(**(toy | {"precision": "float32", "save_minutes": 99.0} | changes))


def cpu() -> Accelerator:
    return Accelerator(cpu=True)


def tiny_sv3d(folder: Path, kind: str = "p") -> StableVideo3DPipeline:
    """The miniature sv3d-p, or a sv3d-u made of it by cutting its angles off, painting 64 x 64 pixels."""
    import sv3d_tiny

    from sv3d_pipe.orbit.sv3d.convert import to_folder

    state = sv3d_tiny.weights(sv3d_tiny.numbers())
    if kind == "u":
        head = "model.diffusion_model.label_emb.0.0.weight"
        state[head] = state[head][:, :256].contiguous()
    path = sv3d_tiny.write(folder / f"sv3d_{kind}.safetensors", state)
    to_folder(path, folder / f"sv3d-{kind}", "fp32", heads=sv3d_tiny.HEADS)
    return sv3d_tiny.load(folder / f"sv3d-{kind}")
