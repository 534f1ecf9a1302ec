"""The objects of a data set: which meshes there are, what they are called, and how many are invented."""

from __future__ import annotations

import re
from pathlib import Path

from sv3d_pipe.dataset.photograph import ONLY_BLENDER, Job, seed_of
from sv3d_pipe.errors import UserError

READ = (".glb", ".gltf", ".obj", ".ply", ".stl", ".off", ".dae", ".3mf")  # by trimesh


def collect(meshes: Path | None, procedural: int, variants: int, seed: int) -> list[Job]:
    """All objects in a fixed order: the meshes by path, each with its variants, then the invented ones.

    A mesh is named after its path within the folder, without suffix, its parts joined by ``__``; names that
    would clash get a number. No name holds a dot.

    Raises:
        UserError: there is no such folder, or nothing to render.
    """
    names: dict[str, Path | None] = {}
    for path in _meshes_below(meshes) if meshes is not None else ():
        name = _name("__".join(path.relative_to(meshes).with_suffix("").parts))
        for variant in range(variants):
            names[_free(f"{name}--{variant}" if variants > 1 else name, names)] = path
    for number in range(procedural):
        names[_free(f"procedural_{seed}_{number:06d}", names)] = None
    if not names:
        raise UserError("There is nothing to render: give a folder of meshes, or --procedural 100.")
    return [Job(index, name, path, seed_of(seed, name)) for index, (name, path) in enumerate(names.items())]


def _meshes_below(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; `img2mesh render` takes a folder of meshes.")
    found = (path for path in folder.rglob("*") if path.suffix.lower() in READ + ONLY_BLENDER)
    return sorted(path for path in found if path.is_file() and not path.name.startswith("."))


def _name(text: str) -> str:
    return re.sub(r"[^\w\-]+", "_", text)


def _free(name: str, taken: dict[str, Path | None]) -> str:
    candidates = (name if number == 1 else f"{name}-{number}" for number in range(1, len(taken) + 2))
    return next(candidate for candidate in candidates if candidate not in taken)
