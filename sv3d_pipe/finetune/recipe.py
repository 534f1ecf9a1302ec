"""How an orbit model is trained: one frozen dataclass, from which the command's options are made."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sv3d_pipe.errors import UserError
from sv3d_pipe.files import read_own_json, write_atomically
from sv3d_pipe.settings import option


@dataclass(frozen=True)
class Recipe:
    """Settings of a training run; the defaults are those of mini."""

    phase: Literal["u", "c", "p"] = option(
        "p",
        "SV3D's phases. u: static orbits, no camera angles. c: angles from the start. p: add angles to a"
        " model of phase u, or train a model that has them further.",
    )
    train: Literal["full", "temporal", "lora"] = option(
        "full",
        "What is trained. full: everything; temporal: only the layers over time; lora: LoRA on the linear layers.",
    )
    objective: Literal["denoise", "distill"] = option(
        "denoise",
        "denoise: learn from the data; distill: learn to do the starting model's many steps in a few.",
    )
    steps: int = option(100_000, "Stop after this many steps.", at_least=1)
    minutes: float = option(
        90.0,
        "Stop after this many minutes of training; 0: no limit, and a resumed run gives identical results.",
        at_least=0,
    )
    batch: int = option(8, "Objects per step, over all processes.", at_least=1)
    accumulate: int = option(
        1, "Split the objects of a step into this many parts, to save memory.", at_least=1
    )
    frames: int = option(6, "Frames per object, including the photo.", at_least=2)
    optimizer: Literal["muon", "adamw"] = option(
        "muon", "adamw: AdamW for all weights; muon: Muon for those of linear layers, AdamW for the rest."
    )
    learning_rate: float = option(1e-3, "Largest learning rate; it falls along a cosine to a twentieth.")
    warmup: int = option(200, "Steps over which the learning rate rises.", at_least=0)
    p_mean: float = option(0.7, "Mean of ln(sigma), the level of the noise that the model learns to remove.")
    p_std: float = option(1.6, "Standard deviation of ln(sigma).", at_least=0)
    noise_share: float = option(
        0.9, "Share of examples that get nearly pure noise instead, sigma 30 to 700.", at_least=0, at_most=1
    )
    weight_cap: float = option(
        5.0, "Upper limit of the loss weight (sigma^2 + 1) / sigma^2; 0: no limit.", at_least=0
    )
    front_weight: float = option(
        0.5,
        "Loss weight of frames at the photo's azimuth; those behind the object have 1.",
        at_least=0,
        at_most=1,
    )
    drop_photo: float = option(
        0.05, "Share of examples trained without the photo, which guidance needs.", at_least=0, at_most=1
    )
    oversample: int = option(
        3, "How many times as often textured objects are drawn as plain ones.", at_least=1, at_most=1000
    )
    ema: float = option(0.999, "Decay of the averaged weights, which are what is saved.", at_least=0)
    rank: int = option(16, "Rank of LoRA's matrices.", at_least=1)
    student_steps: int = option(4, "Sampling steps of a distilled model.", at_least=1)
    teacher_steps: int = option(20, "Sampling steps of the model it learns from.", at_least=1)
    precision: Literal["auto", "float32", "bfloat16"] = option(
        "auto", "Number format of the computation; auto: bfloat16 where the device is made for it."
    )
    checkpointing: bool = option(
        False, "Compute activations twice instead of keeping them: a third slower, much less memory."
    )
    adam_8bit: bool = option(False, "Keep Adam's state in 8 bits (needs bitsandbytes and a GPU).")
    save_minutes: float = option(
        5.0, "Minutes between checkpoints, each with validation and pictures.", at_least=0
    )
    sample_steps: int = option(
        0, "Sampling steps of the validation pictures; 0 is the model's own.", at_least=0
    )
    seed: int = option(0, "Seed of weights, batches and noise.", at_least=0, at_most=2**32)


MINI = Recipe()
# Where the paper is silent (learning rate, noise levels, dropout): SVD's image-to-video and multi-view
# models (arXiv 2311.15127, appendix D), which SV3D starts from.
SV3D = Recipe(
    steps=50_000,
    minutes=0.0,
    batch=64,
    frames=21,
    optimizer="adamw",
    learning_rate=1e-5,
    noise_share=0.0,
    weight_cap=0.0,
    drop_photo=0.1,
    oversample=1,
    ema=0.9999,
    teacher_steps=50,
    checkpointing=True,
    save_minutes=30.0,
)
# What may change from one part of a run to the next; everything else makes it another run.
FREE = {"steps", "minutes", "accumulate", "checkpointing", "save_minutes", "sample_steps"}


def settle(recipe: Recipe, folder: Path) -> None:
    """Write the recipe beside the run, once.

    Raises:
        UserError: a run with another recipe is there.
    """
    path = folder / "recipe.json"
    before = read_own_json(path, "delete it to train with these settings") if path.exists() else {}
    now = dataclasses.asdict(recipe)
    if (folder / "training.pt").exists():
        for name in set(before) & set(now) - FREE:
            if before[name] != now[name]:
                raise UserError(
                    f"{folder} holds a run with {name} {before[name]}, not {now[name]}; give the same settings to"
                    " continue it, or choose another folder."
                )
    if before != now:
        write_atomically(path, json.dumps(now, indent=1))
