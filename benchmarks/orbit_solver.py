"""How few sampling steps are enough: SV3D's Euler solver beside the solver of second order.

    python benchmarks/orbit_solver.py --objects DIR --out out/orbit_solver

For renders of a few objects the orbit is sampled from the same noise by both solvers with several
numbers of steps. The error is the RMS difference of the final latents from Euler with --reference
steps; PSNR is that of the decoded frames, on white, against the reference's. Rows are kept, so an
interrupted run goes on where it was.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from sv3d_pipe.artifacts import on_white
from sv3d_pipe.cameras import orbit, orbit_angles
from sv3d_pipe.evaluate.images import decibels
from sv3d_pipe.evaluate.suite import resumed
from sv3d_pipe.orbit.models import identity, load_pipeline
from sv3d_pipe.render.objects import load_object
from sv3d_pipe.render.views import render_views

ELEVATION_DEG = 10.0
EULER, DPM = (12, 16, 20, 25, 50), (12, 16, 20, 25)


def photo_of(path: Path) -> np.ndarray:
    """The object from azimuth 0, [576, 576, 4]."""
    obj = load_object(path)
    return render_views(obj, orbit([0.0], ELEVATION_DEG, obj.camera_radius()), 576, supersample=2)[0]


def judge(path: Path, guidance: float, options: argparse.Namespace, folder: Path) -> dict[str, float]:
    return errors(photo_of(path), guidance, options)


def errors(photo: np.ndarray, guidance: float, options: argparse.Namespace) -> dict[str, float]:
    """RMS error and PSNR of every solver and number of steps, and the latents' own deviation."""
    pipeline = load_pipeline(options.model, options.device)

    def sample(solver: str, steps: int) -> torch.Tensor:
        return pipeline(
            photo,
            *orbit_angles("sine", ELEVATION_DEG),
            num_inference_steps=steps,
            max_guidance_scale=guidance,
            solver=solver,
            generator=torch.Generator(options.device).manual_seed(23),
            output_type="latent",
        ).frames

    def white(latents: torch.Tensor) -> np.ndarray:
        frames = pipeline.decode_frames(latents).cpu().numpy()
        return on_white(frames) if pipeline.paints_alpha else frames

    reference = sample("euler", options.reference)
    row = {"deviation": float(reference.std())}
    for solver, counts in (("euler", EULER), ("dpm", DPM)):
        for steps in counts:
            latents = sample(solver, steps)
            row[f"{solver}-{steps}"] = float((latents - reference).square().mean().sqrt())
            row[f"{solver}-{steps} dB"] = decibels(float(np.mean((white(latents) - white(reference)) ** 2)))
    return row


def table(rows: list[dict], guidance: float, reference: int) -> Table:
    """Mean over the objects; one line per number of steps."""
    deviation = np.mean([row["deviation"] for row in rows])
    title = (
        f"Distance from {reference} Euler steps, guidance {guidance:g}, {len(rows)} objects "
        f"(latents' own deviation {deviation:.3f})"
    )
    result = Table("steps", "euler RMS", "dpm RMS", "euler dB", "dpm dB", title=title)
    for steps in EULER:
        line = [str(steps)]
        for unit, digits in (("", 4), (" dB", 1)):
            for solver in ("euler", "dpm"):
                found = [row[key] for row in rows if (key := f"{solver}-{steps}{unit}") in row]
                line.append(f"{np.mean(found):.{digits}f}" if found else "")
        result.add_row(*line)
    return result


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--objects", type=Path, required=True, help="folder of meshes")
    parser.add_argument("--limit", type=int, default=4, help="how many, evenly spaced in the sorted names")
    parser.add_argument("--model", default="mini", help="mini or a model folder")
    parser.add_argument("--guidance", type=float, nargs="+", default=[1.0, 2.5])
    parser.add_argument("--reference", type=int, default=200, help="Euler steps of the reference")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, help="of PyTorch")
    parser.add_argument("--out", type=Path, default=Path("out/orbit_solver"))
    return parser.parse_args()


def main() -> None:
    options = parse()
    if options.threads:
        torch.set_num_threads(options.threads)
    paths = sorted(options.objects.rglob("*.glb"))
    paths = [paths[i] for i in np.linspace(0, len(paths) - 1, options.limit).astype(int)]
    settings = {"weights": identity(options.model), "reference": options.reference, "steps": [EULER, DPM]}
    console = Console(width=110)
    for guidance in options.guidance:
        rows = []
        for path in paths:
            name = f"{path.stem}-{guidance:g}"
            work = partial(judge, path, guidance, options)
            rows.append(resumed(options.out, name, settings, work))
            console.print(f"{name} done")
        console.print(table(rows, guidance, options.reference))


if __name__ == "__main__":
    main()
