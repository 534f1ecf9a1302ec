"""SV3D at its real size with random weights: conversion and a small orbit, minutes and peak memory.

    python benchmarks/full_size.py --work /tmp/sv3d [--keep]

Writes a checkpoint in the original layout (fp16, 4.7 GB), converts it strictly, converts it back, and
paints a 2-step orbit of 21 frames of 128 x 128 pixels. Every part runs in its own process, so that its peak memory
is measured separately. Needs 16 GB of disk and 16 GB of memory; only the numbers matter, the pictures mean nothing.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import resource
import shutil
import time
from pathlib import Path

import sv3d_pipe  # noqa: F401  (sets the OpenMP wait policy before torch is imported)

SEED = 0


def official_shapes(pose: bool = True) -> dict[str, tuple[int, ...]]:
    """Every tensor of the released checkpoint, the two unused groups included."""
    import torch

    from sv3d_pipe.orbit.sv3d.convert.conversion import empty_modules, official_shape
    from sv3d_pipe.orbit.sv3d.convert.layout import DECODER, ENCODER

    shapes = {}
    for module in empty_modules(full_size(pose), torch.float16).values():
        ours = module.shapes()
        shapes |= {t.key: official_shape(ours[t.name], t.change) for t in module.tensors}
    copy = {
        key.replace(DECODER, f"{ENCODER}decoder."): shape
        for key, shape in shapes.items()
        if key.startswith(DECODER)
    }
    text = {
        "token_embedding.weight": (49408, 1024),
        "positional_embedding": (77, 1024),
        "ln_final.weight": (1024,),
        "ln_final.bias": (1024,),
        "text_projection": (1024, 1024),
        "logit_scale": (),
    }
    shapes |= copy | {f"conditioner.embedders.0.open_clip.model.{key}": shape for key, shape in text.items()}
    post = f"{ENCODER}post_quant_conv."
    return shapes | {f"{post}weight": (4, 4, 1, 1), f"{post}bias": (4,)}


def full_size(pose: bool = True) -> dict[str, dict]:
    """Settings of the released networks."""
    unet = {
        "sample_size": 72,
        "projection_class_embeddings_input_dim": 1280 if pose else 256,
        "down_block_types": ["CrossAttnDownBlockSpatioTemporal"] * 3 + ["DownBlockSpatioTemporal"],
        "up_block_types": ["UpBlockSpatioTemporal"] + ["CrossAttnUpBlockSpatioTemporal"] * 3,
        "block_out_channels": [320, 640, 1280, 1280],
        "layers_per_block": 2,
        "num_attention_heads": [5, 10, 20, 20],
        "num_frames": 21,
    }
    vae = {
        "block_out_channels": [128, 256, 512, 512],
        "down_block_types": ["DownEncoderBlock2D"] * 4,
        "up_block_types": ["UpDecoderBlock2D"] * 4,
        "layers_per_block": 2,
        "latent_channels": 4,
        "use_post_quant_conv": False,
    }
    clip = {
        "hidden_size": 1280,
        "intermediate_size": 5120,
        "num_hidden_layers": 32,
        "num_attention_heads": 16,
        "patch_size": 14,
        "projection_dim": 1024,
        "hidden_act": "gelu",
    }
    return {"unet": unet, "vae": vae, "image_encoder": clip}


def write_random(path: Path) -> None:
    """A checkpoint whose activations stay near unit size."""
    import torch
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(SEED)
    state = {}
    for key, shape in official_shapes().items():
        if len(shape) < 2:
            ones = (
                "norm" in key or "ln_" in key or key.endswith((".in_layers.0.weight", ".out_layers.0.weight"))
            )
            value = torch.ones(shape) if ones and key.endswith("weight") else torch.zeros(shape)
        else:
            value = torch.randn(shape, generator=generator) / math.sqrt(math.prod(shape[1:]))
        state[key] = value.half()
    save_file(state, path)


def convert(path: Path, folder: Path) -> None:
    from sv3d_pipe.orbit.sv3d.convert import to_folder

    to_folder(path, folder, "fp16")


def convert_back(folder: Path, path: Path) -> None:
    from sv3d_pipe.orbit.sv3d.convert import to_file

    to_file(folder, path, "fp16")


def orbit(folder: Path, dtype: str) -> None:
    import numpy as np
    import torch

    from sv3d_pipe.orbit.store.load import load_pipeline

    start = time.perf_counter()
    pipeline = load_pipeline(str(folder), "cpu", dtype)
    print(f"  loaded in {time.perf_counter() - start:.0f} s, {dtype}", flush=True)
    photo = np.ones((128, 128, 4), np.float32)
    stamps = []
    frames = pipeline(
        photo,
        size=128,
        num_inference_steps=2,
        generator=torch.Generator().manual_seed(SEED),
        callback_on_step_end=lambda *_: stamps.append(time.perf_counter()) or {},
    ).frames
    print(f"  second step {stamps[1] - stamps[0]:.1f} s; frames {frames.shape}", flush=True)
    assert np.isfinite(frames).all() and frames.std() > 0


def measured(what: str, function, *arguments) -> None:
    """Run in a fresh process; print its time and largest resident memory."""
    process = multiprocessing.get_context("spawn").Process(target=_report, args=(what, function, arguments))
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"{what} failed")


def _report(what: str, function, arguments) -> None:
    start = time.perf_counter()
    function(*arguments)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # KiB on Linux
    print(f"| {what} | {seconds / 60:.2f} min | {peak:.2f} GiB |", flush=True)


def size_of(path: Path) -> str:
    files = path.rglob("*") if path.is_dir() else [path]
    return f"{path.name}: {sum(f.stat().st_size for f in files if f.is_file()) / 2**30:.2f} GiB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="folder for the files; created if missing")
    parser.add_argument(
        "--dtype", default="bfloat16", help="number format of the UNet and image encoder in the orbit"
    )
    parser.add_argument("--keep", action="store_true", help="keep the files for another run")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    original, folder, back = (
        options.work / name for name in ("sv3d_p.safetensors", "sv3d-p", "back.safetensors")
    )
    print("| part | time | peak resident memory |\n|---|---|---|", flush=True)
    if not original.exists():
        measured("write the random checkpoint", write_random, original)
    if not folder.exists():
        measured("convert to a folder, fp16", convert, original, folder)
    if not back.exists():
        measured("convert back to a file, fp16", convert_back, folder, back)
    measured("load, 21 frames of 128 px, 2 steps", orbit, folder, options.dtype)
    print("; ".join(size_of(path) for path in (original, folder, back)))
    if not options.keep:
        shutil.rmtree(options.work)


if __name__ == "__main__":
    main()
