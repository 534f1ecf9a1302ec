"""How fast is SV3D's orbit painted, and in how much memory: this project compared with public programs.

    python benchmarks/orbit.py --network small --size 128 --steps 4 --device cpu
    python benchmarks/orbit.py --device cuda --steps 25 --port PATH --stability PATH [--low-vram --cap-gb 12]

The others are diffusers' stock SVD pipeline with modules of equal size and, if you have them checked
out, the public port of SV3D to diffusers (GitHub chenguolin/sv3d-diffusers) and Stability's own code
(GitHub Stability-AI/generative-models, whose packages must be installed too). In bfloat16 the programs
built on diffusers' SVD pipeline need torchvision. All use random weights, so nothing is downloaded,
and the pictures mean nothing.

Every repetition is a separate process that builds the networks, paints one short orbit to warm up
and is then measured; repetitions of the programs alternate. The table shows medians; the ratios are
medians over the rounds of a program's value divided by ours in the same round.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from command import run
from full_size import full_size
from orbit_watch import PROGRAMS, Sample, Task, alone
from rich.console import Console
from rich.table import Table

from sv3d_pipe.device import resolve_device
from sv3d_pipe.errors import UserError

GB = 1e9
OURS = "ours"


def small() -> dict[str, dict]:
    """SV3D's layout with few channels, for CPUs."""
    full = full_size()
    unet = {"block_out_channels": [64, 128, 128, 128], "num_attention_heads": [1, 2, 2, 2]}
    unet |= {"layers_per_block": 1, "cross_attention_dim": 64}
    vae = {"block_out_channels": [32, 64, 64, 64], "layers_per_block": 1}
    clip = {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 4, "num_attention_heads": 2}
    clip |= {"patch_size": 32, "projection_dim": 64}
    changes = {"unet": unet, "vae": vae, "image_encoder": clip}
    return {name: full[name] | changes[name] for name in full}


def rounds(
    names: list[str], count: int, attempt: Callable[[str], Sample | str]
) -> tuple[list[dict[str, Sample]], dict[str, str]]:
    """Let the programs take turns; one that fails is not tried again.

    Returns:
        Per round the samples by name, and why programs did not run.
    """
    failed, done = {}, []
    for index in range(count):
        done.append({})
        for name in names:
            if name in failed:
                continue
            answer = attempt(name)
            if isinstance(answer, str):
                failed[name] = answer
                shown = f"not run: {answer}"
            else:
                done[-1][name] = answer
                shown = f"{answer.orbit_s:.1f} s"
            print(f"round {index + 1} of {count}, {name}: {shown}", file=sys.stderr, flush=True)
    return done, failed


def median_ratio(
    done: list[dict[str, Sample]], name: str, value: Callable[[Sample], float | None]
) -> float | None:
    """Median over the rounds of a program's value divided by ours in the same round; None without values."""
    pairs = [(value(r[name]), value(r[OURS])) for r in done if name in r and OURS in r]
    ratios = [theirs / ours for theirs, ours in pairs if theirs is not None]
    return statistics.median(ratios) if ratios else None


def row(done: list[dict[str, Sample]], name: str, steps: int) -> dict[str, Any]:
    """The medians of one program, with the range of its seconds per orbit."""
    samples = [r[name] for r in done if name in r]

    def median(value: Callable[[Sample], float | None]) -> float | None:
        values = [value(s) for s in samples]
        return None if None in values else statistics.median(values)

    seconds = [s.orbit_s for s in samples]
    return {
        "name": name,
        "steps/s": steps / median(lambda s: s.steps_s),
        "encode s": median(lambda s: s.encode_s),
        "steps s": median(lambda s: s.steps_s),
        "steps core-s": median(lambda s: s.busy_s),
        "decode s": median(lambda s: s.decode_s),
        "orbit s": median(lambda s: s.orbit_s),
        "min-max": f"{min(seconds):.2f}-{max(seconds):.2f}",
        "peak GB": median(lambda s: s.peak / GB),
        "reserved GB": median(lambda s: s.reserved and s.reserved / GB),
        "steps/ours": median_ratio(done, name, lambda s: s.steps_s),
        "orbit/ours": median_ratio(done, name, lambda s: s.orbit_s),
        "core-s/ours": median_ratio(done, name, lambda s: s.busy_s),
        "peak/ours": median_ratio(done, name, lambda s: s.peak),
        "UNet weights": samples[0].weights[0],
        "weights": samples[0].weights[1],
        "finite": all(s.finite for s in samples),
        "remark": samples[0].remark,
    }


def show(title: str, rows: list[dict[str, Any]], failed: dict[str, str], names: list[str]) -> None:
    hidden = {"name", "UNet weights", "weights", "finite", "remark"}
    known = rows[0] if rows else {}
    columns = [c for c in known if c not in hidden and any(r[c] is not None for r in rows)]
    meaning = "x/ours: seconds of x, or bytes, divided by ours; above 1 is slower, or larger"
    table = Table("program", *columns, title=title, caption=meaning)
    for name in names:
        found = next((r for r in rows if r["name"] == name), None)
        cells = [_cell(found[c]) for c in columns] if found else [""] * len(columns)
        table.add_row(name if found else f"{name}*", *cells)
    console = Console(width=40 + 11 * len(columns), highlight=False, markup=False)
    console.print(table)
    for name, why in failed.items():
        console.print(f"{name}*: not run: {why}", soft_wrap=True)
    for r in rows:
        weights = f"{r['UNet weights'] / 1e6:.1f} M weights in the UNet, {r['weights'] / 1e6:.1f} M in all"
        odd = "" if r["finite"] else "; SOME FRAMES ARE NOT FINITE"
        console.print(f"{r['name']}: {r['remark']}; {weights}{odd}", soft_wrap=True)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def write(path: Path, task: Task, rows: list[dict], done: list[dict[str, Sample]], failed: dict) -> None:
    samples = [{name: dataclasses.asdict(s) for name, s in r.items()} for r in done]
    report = {"task": dataclasses.asdict(task), "rows": rows, "rounds": samples, "not run": failed}
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(json.dumps(report, indent=1))
    partial.replace(path)


def names_of(dtype: str) -> list[str]:
    """In float32 the port's weights have the type that it computes in anyway."""
    return [name for name in PROGRAMS if dtype != "float32" or name != "port, cast"]


def task_of(options: argparse.Namespace) -> Task:
    """Raises UserError for what no program can paint."""
    device = resolve_device(options.device)
    if device == "mps":
        raise UserError("The benchmark measures cpu and cuda; choose one of them with --device.")
    if options.size < 64 or options.size % 64:
        raise UserError(f"--size must be a multiple of 64, not {options.size}.")
    if min(options.steps, options.rounds) < 1 or options.frames < 3:
        raise UserError("--steps and --rounds must be at least 1 and --frames at least 3.")
    if options.guidance <= 1:
        raise UserError("--guidance must be above 1, because Stability's code always does both halves.")
    if options.cap_gb and not device.startswith("cuda"):
        raise UserError("--cap-gb works on CUDA devices only.")
    return Task(
        network=full_size() if options.network == "full" else small(),
        size=options.size,
        frames=options.frames,
        steps=options.steps,
        guidance=options.guidance,
        device=device,
        dtype=options.dtype or ("float16" if device.startswith("cuda") else "float32"),
        low_vram=options.low_vram,
        cap_bytes=int(options.cap_gb * GB),
        port=options.port,
        stability=options.stability,
    )


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--network", choices=["full", "small"], default="full", help="SV3D's size, or a few million weights")
    add("--size", type=int, default=576, help="side of the frames in pixels")
    add("--frames", type=int, default=21)
    add("--steps", type=int, default=25)
    add("--guidance", type=float, default=2.5, help="largest guidance scale")
    add("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    add("--dtype", choices=["float32", "float16", "bfloat16"], help="default: float16 on CUDA, else float32")
    add("--low-vram", action="store_true", help="use each program's own ways to save memory")
    add("--cap-gb", type=float, default=0.0, help="limit PyTorch to so many GB (10^9 bytes) of the GPU")
    add("--rounds", type=int, default=3, help="repetitions of every program")
    add("--port", default="", help="folder of chenguolin/sv3d-diffusers")
    add("--stability", default="", help="folder of Stability-AI/generative-models")
    add("--json", type=Path, help="write every sample here")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    task = task_of(options)
    names = names_of(task.dtype)
    done, failed = rounds(names, options.rounds, partial(alone, task=task))
    rows = [row(done, name, task.steps) for name in names if any(name in r for r in done)]
    title = (
        f"{options.network} network, {task.frames} frames of {task.size} px, {task.steps} steps, "
        f"{task.dtype} on {task.device}, guidance {task.guidance:g}, medians of {options.rounds}"
    )
    title += ", low_vram" * task.low_vram + f", capped at {options.cap_gb:g} GB" * bool(options.cap_gb)
    show(title, rows, failed, names)
    if options.json:
        write(options.json, task, rows, done, failed)


if __name__ == "__main__":
    run(main)
