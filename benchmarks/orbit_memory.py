"""Count the memory that SV3D needs at full size, without a GPU and without its weights.

    python benchmarks/orbit_memory.py

The networks are run on fake tensors (sizes without numbers), and the bytes of all storages alive are
counted after each operation. What a device adds (workspaces of its convolutions, fragmentation,
the caching allocator) is not counted here: `sv3d_pipe.orbit.memory_plan` adds a margin for it. Attention counts
as one operation without a score matrix, as in PyTorch's fused kernels.

The tables: bytes alive at the worst moment; the same as feature maps of the network's first level
per pixel, which is how the plan stores it; the total of each plan.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable

import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler
from full_size import full_size
from rich.console import Console
from rich.table import Table
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

import sv3d_pipe  # noqa: F401  (before torch)
from sv3d_pipe.orbit.memory_plan import GB, MARGIN, Load, candidates
from sv3d_pipe.orbit.schedulers import euler_scheduler
from sv3d_pipe.orbit.sv3d.diffusion_pipeline import TILE, StableVideo3DPipeline
from sv3d_pipe.orbit.sv3d.sv3d_painter import load_of
from sv3d_pipe.orbit.sv3d.unet import StableVideo3DUNet

FRAMES, LATENT, SIZE = 21, 72, 576
UNET, VAE, CLIP = full_size().values()


class Alive(TorchDispatchMode):
    """Bytes of all storages made under it and still held; those of ``known`` modules do not count."""

    def __init__(self, known: torch.nn.Module):
        super().__init__()
        self.sizes = {t.untyped_storage()._cdata: 0 for t in (*known.parameters(), *known.buffers())}
        self.now = self.peak = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self.sizes:
            return
        self.sizes[key] = storage.nbytes()
        self.now += self.sizes[key]
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._forget, key)

    def _forget(self, key: int) -> None:
        self.now -= self.sizes.pop(key)


def peak(module: torch.nn.Module, work: Callable[[], object]) -> int:
    """Largest number of bytes alive during ``work``, without the weights."""
    with Alive(module) as alive:
        work()
    return alive.peak


def full_size(scheduler: EulerDiscreteScheduler) -> StableVideo3DPipeline:
    """UNet and CLIP in float16, VAE in float32."""
    vae = AutoencoderKL(**VAE)
    torch.set_default_dtype(torch.float16)
    unet = StableVideo3DUNet(**UNET)
    clip = CLIPVisionModelWithProjection(CLIPVisionConfig(**CLIP))
    torch.set_default_dtype(torch.float32)
    return StableVideo3DPipeline(vae, unet, scheduler, clip)


@torch.no_grad()
def unet_peak(unet: StableVideo3DUNet, halves: int, size: int = SIZE, frames: int = FRAMES) -> int:
    sample = torch.empty(halves, frames, 8, size // 8, size // 8, dtype=unet.dtype)
    token = torch.empty(halves, 1, 1024, dtype=unet.dtype)
    ids = torch.empty(halves, frames, 3)
    return peak(unet, lambda: unet(sample, torch.empty(()), token, ids))


@torch.no_grad()
def decode_peak(vae: AutoencoderKL, frames: int, latent: int = LATENT) -> int:
    latents = torch.empty(frames, 4, latent, latent)
    return peak(vae, lambda: vae.decode(latents))


def encode_peak(vae: AutoencoderKL) -> int:
    """Of one frame with the graph that a gradient needs."""
    frame = torch.empty(1, 3, SIZE, SIZE, requires_grad=True)
    vae.requires_grad_(False)
    return peak(vae, lambda: torch.autograd.grad(vae.encode(frame).latent_dist.mode().sum(), frame))


@torch.no_grad()
def clip_peak(clip: CLIPVisionModelWithProjection) -> int:
    pixels = torch.empty(1, 3, 224, 224, dtype=clip.dtype)
    return peak(clip, lambda: clip(pixels))


def counted(pipeline: StableVideo3DPipeline, load: Load) -> Table:
    """Counted bytes beside what the plan assumes (without its margin)."""
    unet, vae = pipeline.unet, pipeline.vae
    latent_map = FRAMES * LATENT**2 * UNET["block_out_channels"][0] * 2
    picture = SIZE**2 * VAE["block_out_channels"][0] * 4
    rows = [
        ("UNet, guidance together", unet_peak(unet, 2), 2 * load.half, 2 * latent_map),
        ("UNet, guidance apart", unet_peak(unet, 1), load.half, latent_map),
    ]
    rows += [(f"VAE decode, {n}", decode_peak(vae, n), n * load.decode, n * picture) for n in (1, 2, 3, 4)]
    rows += [
        (
            f"VAE decode, 1 tile of {8 * TILE} px",
            decode_peak(vae, 1, TILE),
            load.tile,
            picture * (8 * TILE / SIZE) ** 2,
        ),
        ("VAE encode with gradient, 1", encode_peak(vae), load.encode, picture),
    ]
    table = Table("activations", "counted GB", "maps", "plan GB", title=f"{FRAMES} frames of {SIZE} px")
    for name, bytes_, planned, unit in rows:
        table.add_row(name, f"{bytes_ / GB:.2f}", f"{bytes_ / unit:.1f}", f"{planned / GB:.2f}")
    table.add_row("CLIP", f"{clip_peak(pipeline.image_encoder) / GB:.2f}", "", "")
    return table


def totals(load: Load) -> Table:
    table = Table("plan", "GB", title=f"Weights and activations x {MARGIN}")
    known = dict.fromkeys((*candidates(offload=True), *candidates(offload=True, low_vram=True)))
    for plan in known:
        table.add_row(str(plan), f"{plan.peak(load) / GB:.1f}")
    return table


def other_sizes(pipeline: StableVideo3DPipeline) -> Table:
    """How well one constant serves other orbits."""
    table = Table("frames", "size", "counted GB", "plan GB", title="UNet, guidance apart")
    for frames, size in ((21, 256), (21, 448), (21, 768), (9, 576), (42, 576)):
        count = unet_peak(pipeline.unet, 1, size, frames)
        planned = load_of(pipeline, frames, size).half
        table.add_row(str(frames), str(size), f"{count / GB:.2f}", f"{planned / GB:.2f}")
    return table


def main() -> None:
    console = Console(width=110)
    scheduler = euler_scheduler()
    with FakeTensorMode(allow_non_fake_inputs=True):
        pipeline = full_size(scheduler)
        load = load_of(pipeline, FRAMES, SIZE)
        weights = {"UNet": load.unet, "CLIP": load.encoder, "VAE": load.vae}
        console.print("Weights: " + ", ".join(f"{name} {size / GB:.2f} GB" for name, size in weights.items()))
        for table in (counted(pipeline, load), other_sizes(pipeline), totals(load)):
            console.print(table)


if __name__ == "__main__":
    main()
