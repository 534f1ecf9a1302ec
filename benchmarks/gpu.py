"""What can be said about this project on one GPU, in a few minutes: its tests there, then its table of performance.

    python benchmarks/gpu.py -o benchmarks/results --seconds 280
    python benchmarks/gpu.py --tiny --device cpu -o out    rehearses everything that needs no GPU

A JSON line per number, written at once; sections run in order of worth and each may fail alone. None starts
when too little time is left for it, and at the given second the script ends itself, whatever it is doing. Beside the
numbers lie the output of the tests and profiles of some steps, as text.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import sv3d_pipe  # noqa: F401  (before torch)

# isort: split
from command import STARTED, run  # before what takes seconds to import

# isort: split
import gpu_fit
import gpu_orbit
import gpu_parity
import numba
import torch
from gpu_watch import GB, Bench, Log
from recon_stages import warm_up

from sv3d_pipe.device import nvidia_driver, resolve_device
from sv3d_pipe.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("torch", "triton", "numpy", "numba", "diffusers", "transformers", "accelerate", "nerfacc")


@dataclass(frozen=True)
class Section:
    """One part of the table.

    Attributes:
        needs_s: seconds that must be left for it to start.
    """

    work: Callable[[Bench], None]
    needs_s: float


def environment(bench: Bench) -> None:
    """The machine, and the seconds in which everything on the CPU is compiled."""
    versions = {name: version(name) for name in PACKAGES}
    machine = {
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "threads": numba.get_num_threads(),
    }
    if bench.cuda:
        card = torch.cuda.get_device_properties(bench.device)
        machine |= {"card": card.name, "memory_gb": round(card.total_memory / GB, 1)}
        machine |= {"driver": nvidia_driver(), "cuda": torch.version.cuda}
    bench.log.say("environment", **machine, **versions)
    began = bench.log.seconds
    warm_up()
    bench.log.say("compiled for the CPU", s=round(bench.log.seconds - began, 1))


def version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def tests(bench: Bench) -> None:
    """The tests that need a GPU, for a third of the time at most; their output goes into a file."""
    limit_s = min(bench.left_s, bench.ends_s / 3)
    files = [str(p) for p in sorted((ROOT / "tests").rglob("test_*.py")) if "mark.gpu" in p.read_text()]
    command = [sys.executable, "-m", "pytest", "-n", "0", "-m", "gpu", "-rs", "--tb", "short"]
    command += ["-p", "tell_failures", *files]
    began, output = bench.log.seconds, bench.log.beside("tests.txt")
    with output.open("w") as file:
        plugins = os.pathsep.join(filter(None, (str(Path(__file__).parent), os.environ.get("PYTHONPATH"))))
        environ = os.environ | {"PYTHONPATH": plugins}
        process = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=file, stderr=subprocess.STDOUT)
        try:
            code = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            process.kill()
            code = f"ended after {limit_s:.0f} s"
    text = output.read_text()
    failed = re.findall(r"^FAILED (\S+)", text, re.MULTILINE)
    last = (text.strip().splitlines() or [""])[-1]
    seconds = round(bench.log.seconds - began, 1)
    bench.log.say("pytest -m gpu", exit_code=code, s=seconds, summary=last, failed=failed)


SECTIONS = {
    "environment": Section(environment, 0),
    "tests": Section(tests, 20),
    "parity": Section(gpu_parity.parity, 15),
    "road": Section(gpu_fit.road, 40),
    "steps": Section(gpu_fit.steps, 30),
    "orbit": Section(gpu_orbit.orbit, 40),
    "distillation": Section(gpu_orbit.distillation, 25),
    "plans": Section(gpu_orbit.plans, 25),
    "against torch": Section(gpu_fit.against_torch, 40),
    "agreement": Section(gpu_parity.agreement, 50),
    "caps": Section(gpu_orbit.caps, 25),
    "whole": Section(gpu_orbit.whole, 30),
}


def measure(bench: Bench, names: list[str]) -> list[str]:
    """Run sections while time is left; those that remain when the device itself no longer answers."""
    for index, name in enumerate(names):
        section = SECTIONS[name]
        if bench.left_s < section.needs_s:
            bench.log.say("skipped", section=name, left_s=round(bench.left_s))
            continue
        bench.log.current = name
        try:
            section.work(bench)
        except Exception:
            bench.log.failed(name)
            if not answers(bench):
                return names[index + 1 :]
    return []


def answers(bench: Bench) -> bool:
    """Whether the device still works; after some faults a process can no longer use it."""
    try:
        bench.sync()
        torch.ones(1, device=bench.device).item()
    except RuntimeError:
        return False
    return True


def stop(log: Log) -> None:
    """End the process at once, in the middle of whatever it does."""
    with log.writing:  # so that this line is the last
        log.say("stopped: time is up", section=log.current)
        os._exit(0)


def result_file(out: Path, device: str) -> Path:
    """The file for the numbers: ``out`` itself if it ends in .jsonl, else named after the card in that folder."""
    card = torch.cuda.get_device_name(device) if device.startswith("cuda") else platform.machine()
    path = out if out.suffix == ".jsonl" else out / f"{re.sub(r'[^A-Za-z0-9]+', '-', card).strip('-')}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    results = ROOT / "benchmarks" / "results"
    add("-o", "--out", type=Path, default=results, help="a .jsonl file, or a folder for CARD.jsonl")
    add("--seconds", type=float, default=280, help="after which it ends itself, tests included")
    add("--only", nargs="+", choices=list(SECTIONS), default=list(SECTIONS), help="sections, in this order")
    add("--device", default="cuda", help="cuda or cuda:N; with --tiny cpu too")
    add("--tiny", action="store_true", help="small pictures and networks, as a rehearsal")
    options = parser.parse_args(given)
    options.device = resolve_device(options.device)
    if not options.tiny and not options.device.startswith("cuda"):
        raise UserError("The table is measured on a CUDA device; add --tiny to rehearse it on the CPU.")
    return options


def main(given: list[str] | None = None) -> None:
    options = arguments(given)
    log = Log(result_file(options.out, options.device), STARTED)
    timer = threading.Timer(options.seconds - log.seconds, stop, (log,))
    timer.daemon = True
    timer.start()
    rest = measure(Bench(options.device, options.tiny, log, options.seconds), options.only)
    timer.cancel()
    left = options.seconds - log.seconds
    if rest and left > 0:
        log.say("beginning anew: the device no longer answers this process", sections=rest)
        os.execv(sys.executable, [sys.executable, __file__, *again(options, rest, left)])
    log.say("done")


def again(options: argparse.Namespace, rest: list[str], left: float) -> list[str]:
    """The command line for what remains, in a new process."""
    line = ["-o", str(options.out), "--seconds", f"{left:.0f}", "--device", options.device]
    return [*line, *["--tiny"] * options.tiny, "--only", *rest]


if __name__ == "__main__":
    run(main)
