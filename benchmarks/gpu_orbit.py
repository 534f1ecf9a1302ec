"""Sections of benchmarks/gpu.py: orbits and distillation by a network of SV3D's size with random weights."""

from __future__ import annotations

from typing import Any
from unittest import mock

import numpy as np
import torch
from gpu_fit import settings
from gpu_watch import GB, Bench, Steps

from sv3d_pipe.cameras import N_FRAMES
from sv3d_pipe.config import OrbitConfig
from sv3d_pipe.nerf.field import RadianceField
from sv3d_pipe.orbit.memory_plan import Plan, candidates, first_that_fits
from sv3d_pipe.orbit.sv3d import sv3d_painter
from sv3d_pipe.refine.fit_mesh import refine_mesh

CAPS_GB = (12.0, 8.0, 6.5)
PAPER_STEPS, PAPER_SDS_STEPS = 1000, 40
ALLOWED_S, ALLOWED_GB = 300, 24


def paint(bench: Bench, plan: Plan, steps: int) -> np.ndarray:
    """An orbit of N_FRAMES frames by the plan, decoded."""
    pipeline, photo = bench.prior.pipeline, bench.views.rgba[-1]
    pipeline.adopt(plan, bench.device)
    generator = torch.Generator(bench.device).manual_seed(0)
    return pipeline(
        photo, None, 10.0, num_inference_steps=steps, max_guidance_scale=2.5, size=bench.size, generator=generator
    ).frames  # fmt: skip


def orbit(bench: Bench) -> None:
    """SV3D with random weights: its 50 steps and decoding in the fastest way."""
    _, row = bench.peak(lambda: bench.prior)
    weights = sum(p.numel() for p in bench.prior.pipeline.unet.parameters())
    bench.log.say("random SV3D on the device", **row, unet_weights=weights)
    steps = 2 if bench.tiny else 50
    paint(bench, Plan(), 1)
    frames, row = bench.peak(lambda: paint(bench, Plan(), steps))
    bench.found["orbit"] = row["s"]
    bench.log.say("orbit", steps=steps, size=bench.size, plan=str(Plan()), **row,
                  finite=bool(np.isfinite(frames).all()))  # fmt: skip


def plans(bench: Bench) -> None:
    """Seconds and memory of a few steps by every plan, the most economical one first."""
    few = 2
    for plan in reversed(candidates(offload=bench.cuda)):
        _, row = bench.peak(lambda: paint(bench, plan, few))  # noqa: B023
        bench.log.say("orbit by a plan", steps=few, plan=str(plan), **row)


def caps(bench: Bench) -> None:
    """Less memory than the card has: which plan is chosen, and does it hold?"""
    if not bench.cuda:
        return
    total = torch.cuda.get_device_properties(bench.device).total_memory
    painter = sv3d_painter.SV3DPainter(bench.prior.pipeline)
    config = painter.settled(OrbitConfig(size=bench.size))
    for cap in CAPS_GB:
        bench.prior.pipeline.adopt(Plan(offload=True), bench.device)  # the weights leave the device
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction(cap * GB / total, bench.device)
        tried: list[str] = []

        def attempt(plan: Plan) -> Any:
            tried.append(str(plan))  # noqa: B023
            return paint(bench, plan, 2)

        def free(device: str) -> int:
            return int(cap * GB) - torch.cuda.memory_allocated(device)  # noqa: B023

        try:
            with mock.patch.object(sv3d_painter, "free_bytes", free):
                known = painter.plans(config, bench.device, N_FRAMES)
            _, row = bench.peak(lambda: first_that_fits(known, attempt, bench.device, lambda _: None))  # noqa: B023
            bench.log.say("orbit in capped memory", cap_gb=cap, chosen=tried[0], held=tried[-1], **row)
        except Exception:
            bench.log.say("orbit in capped memory", cap_gb=cap, tried=tried)
            bench.log.failed(f"caps, {cap} GB")
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0, bench.device)


def distillation(bench: Bench) -> None:
    """One step of refine with distillation: seconds and memory."""
    config = settings(bench, refine_steps=10, sds_every=1)
    start = RadianceField.from_field(bench.field)
    bench.prior.pipeline.adopt(Plan(together=False, chunk=1), bench.device)
    last = config.refine.steps
    steps = Steps(bench.device, "refine", {last - 1: bench.sync, last: bench.sync})
    (_, metrics), row = bench.peak(
        lambda: refine_mesh(config.refine, start, bench.views, steps.context, lambda: bench.prior)
    )
    del row["s"]
    stamps = steps.bars["refine"].stamps
    seconds = stamps[-1] - stamps[-2]
    bench.found["distillation"] = seconds
    bench.log.say("refine step with distillation", s=round(seconds, 3), **row, sds_steps=metrics["sds_steps"])
    known = [bench.found.get(name) for name in ("orbit", "nerf", "refine")]
    if None not in known:
        bench.log.say(
            "orbit, nerf and refine with distillation, added up", allowed_s=ALLOWED_S,
            s=round(sum(known) + PAPER_SDS_STEPS * seconds, 1),
        )  # fmt: skip


def whole(bench: Bench) -> None:
    """The paper's 1000 steps of refine with distillation in one go, if time is left, added to the stages before."""
    expected = bench.found.get("refine", 60.0) + PAPER_SDS_STEPS * bench.found.get("distillation", 2.0)
    if expected > bench.left_s and not bench.tiny:
        bench.log.say("skipped", section="whole", expected_s=round(expected), left_s=round(bench.left_s))
        return
    config = settings(bench, refine_steps=PAPER_STEPS)
    start = RadianceField.from_field(bench.field)
    bench.prior.pipeline.adopt(Plan(together=False, chunk=1), bench.device)
    steps = Steps(bench.device)
    (_, metrics), row = bench.peak(
        lambda: refine_mesh(config.refine, start, bench.views, steps.context, lambda: bench.prior)
    )
    bench.log.say("refine with distillation", steps=config.refine.steps, **row, metrics=metrics)
    before = [bench.found.get(name) for name in ("orbit", "nerf")]
    if None not in before:
        bench.log.say(
            "orbit, nerf and refine with distillation", s=round(sum(before) + row["s"], 1),
            allowed_s=ALLOWED_S, allowed_gb=ALLOWED_GB,
        )  # fmt: skip
