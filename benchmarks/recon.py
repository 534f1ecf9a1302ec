"""How fast is the reconstruction, part by part compared with alternatives, and what does more time buy?

    python benchmarks/recon.py --json out/recon.json
    python benchmarks/recon.py --only stages --objects DIR --limit 5 --preset standard
    python benchmarks/recon.py --only paper --device cuda

kernels  the hash grid compared with plain torch, the rasterizer with embree (`pip install embreex`), marching
         tetrahedra with versions that visit every tetrahedron. On the CPU.
fit      the whole nerf stage compared with the same stage without our kernels, at equal PSNR. On the CPU.
stages   seconds of nerf, refine and export, and the chamfer distance (protocol A) that they reach.
paper    SV3D's 600 steps of nerf and 1000 of refine at 576 px with distillation through a network of SV3D's
         size and random weights: seconds and peak memory. On CUDA only.

Everything runs in one process. Contenders take turns; ratios are medians over the rounds of a contender's seconds
divided by ours in the same round.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import sv3d_pipe  # noqa: F401  (before torch)

# isort: split
import numba
import numpy as np
import torch
from command import run
from full_size import full_size
from recon_contenders import hash_grid, hull_solid, marching, rasterizer
from recon_fit import whole_fit
from recon_rounds import compared, say, show, write
from recon_stages import HARMLESS, orbit_views, paper_steps, placed, road, spent, warm_up

from sv3d_pipe.cameras import N_FRAMES
from sv3d_pipe.config import PRESETS, Config
from sv3d_pipe.device import resolve_device
from sv3d_pipe.errors import UserError
from sv3d_pipe.evaluate.truth import find_objects, place
from sv3d_pipe.refine.mesh_picture import supersampling
from sv3d_pipe.road.context import Context

PARTS = ("kernels", "fit", "stages", "paper")
PAPER = {
    "nerf.steps": 600, "refine.steps": 1000, "refine.render": 576, "refine.sds": "on", "refine.sds_weight": HARMLESS,
}  # fmt: skip
PAPER_SIZE = 576
CAPTION = "s in all: of the road up to here. cd, iou: protocol A. cd won/s: since the row before."
PAPER_GB = 24  # what the peak should stay below


def kernels(options: argparse.Namespace, config: Config) -> list[dict[str, Any]]:
    views = orbit_views(placed(options.seed), N_FRAMES, options.size)
    solid = hull_solid(views, options.grid)
    shown = np.linspace(0, N_FRAMES - 1, config.refine.views_per_step).astype(int)
    every = [
        hash_grid(config.nerf, views, with_points=False),
        hash_grid(config.nerf, views, with_points=True),
        rasterizer(solid, views.cameras[shown], options.size * supersampling(options.size)),
        marching(solid),
    ]
    return [compared(comparison, options.rounds) for comparison in every]


def fit(options: argparse.Namespace, config: Config) -> dict[str, Any]:
    views = orbit_views(placed(options.seed), N_FRAMES, options.fit_size)
    config = config.replace({"nerf.steps": options.fit_steps})
    return compared(whole_fit(config.nerf, views, options.seed), options.fit_rounds, warm_up=False)


def stages(options: argparse.Namespace, config: Config) -> dict[str, Any]:
    steps = sorted({max(1, round(config.nerf.steps * share)) for share in (0.1, 0.25, 0.5, 1)})
    objects = {f"procedural {options.seed}": lambda: placed(options.seed)}
    if options.objects:
        found = find_objects(options.objects, limit=options.limit, seed=options.seed)
        objects = {name: lambda path=path: place(path) for name, path in found.items()}
    roads = {}
    for name, load in objects.items():
        context = Context(device=options.device, seed=options.seed)
        roads[name] = road(load(), config, steps, options.size, context)
        say(f"{name}: " + ", ".join(f"{r['stage']}: {r['s']:.1f} s, cd {r['cd']:.4f}" for r in roads[name]))
    table = spent(list(roads.values()))
    title = f"stages on {options.device}, preset {options.preset}, {N_FRAMES} true views of "
    title += f"{options.size} px, medians of {len(roads)} object{'s' * (len(roads) > 1)}"
    show(title, table, CAPTION)
    return {"title": title, "rows": table, "objects": roads}


def paper(options: argparse.Namespace, config: Config) -> dict[str, Any]:
    if not options.device.startswith("cuda"):
        why = "The paper's numbers of steps with distillation are measured on CUDA only; there is no such device."
        print(why)
        return {"not run": why}
    config = config.replace(PAPER)
    table = paper_steps(placed(options.seed), config, PAPER_SIZE, full_size(), options.device)
    name = torch.cuda.get_device_name(options.device)
    title = f"the paper's steps at {PAPER_SIZE} px on {name}, preset {options.preset} otherwise"
    fits = "within" if table[-1]["peak GB"] <= PAPER_GB else "ABOVE"
    show(title, table, f"refine's peak is {fits} {PAPER_GB} GB")
    return {"title": title, "rows": table}


def machine() -> str:
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    threads = f"{torch.get_num_threads()} threads of torch, {numba.get_num_threads()} of numba"
    return f"{os.cpu_count()} cores, {threads}, load {load}"


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--only", nargs="+", choices=PARTS, default=PARTS, help="parts to run; by default all")
    add("--preset", choices=sorted(PRESETS), default="draft", help="settings of the stages")
    add("--size", type=int, default=256, help="side of the views in pixels")
    add("--grid", type=int, default=64, help="cubes along the tetrahedral grid's longest side, for kernels")
    add("--rounds", type=int, default=9, help="repetitions of every kernel")
    add("--fit-steps", type=int, default=300, help="steps of our fit")
    add("--fit-size", type=int, default=128, help="side of the fit's views in pixels")
    add("--fit-rounds", type=int, default=2, help="repetitions of the fit")
    add("--objects", type=Path, help="folder of meshes for stages, instead of a procedural one")
    add("--limit", type=int, help="use at most this many of them, drawn by the seed")
    add("--seed", type=int, default=3, help="of the procedural object and the choice of meshes")
    add("--device", default="auto", help="for stages and paper: auto, cpu, cuda or cuda:N")
    add("--json", "--out", type=Path, help="write every number here")
    options = parser.parse_args(given)
    if min(options.rounds, options.fit_rounds, options.fit_steps) < 1:
        raise UserError("--rounds, --fit-rounds and --fit-steps must be at least 1.")
    if options.limit is not None and options.limit < 1:
        raise UserError("--limit must be at least 1.")
    options.device = resolve_device(options.device)
    return options


def main(given: list[str] | None = None) -> dict[str, Any]:
    options = arguments(given)
    config = Config.preset(options.preset).replace({"export.format": "glb", "export.turntable": False})
    report: dict[str, Any] = {"options": {k: str(v) for k, v in vars(options).items()}, "before": machine()}
    print(machine())
    warm_up()
    for name, part in {"kernels": kernels, "fit": fit, "stages": stages, "paper": paper}.items():
        if name in options.only:
            report[name] = part(options, config)
            if options.json:
                write(options.json, report)
    report["after"] = machine()
    print(f"before: {report['before']}; after: {report['after']}")
    if options.json:
        write(options.json, report)
    return report


if __name__ == "__main__":
    run(main)
