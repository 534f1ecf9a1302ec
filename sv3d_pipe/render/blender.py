"""Pictures by the user's own Blender, run in the background: path-traced instead of rasterized.

Each object is handed over in a temporary folder: ``mesh.glb`` and ``scene.json`` (cameras, lamps, size). The
script ``blender_scene.py`` beside this file runs inside Blender and leaves ``000.png`` and so on there.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from sv3d_pipe.cameras import Cameras
from sv3d_pipe.errors import UserError, one_line
from sv3d_pipe.render.lighting import Studio, corner_normals
from sv3d_pipe.render.objects import Object, load_object

SCRIPT = Path(__file__).with_name("blender_scene.py")
MINUTES = 30  # for one object; a Blender that needs longer is stuck


def find_blender() -> str:
    """The executable: what IMG2MESH_BLENDER says, or ``blender`` on the path. Raises UserError if none."""
    found = shutil.which(os.environ.get("IMG2MESH_BLENDER", "blender"))
    if found is None:
        raise UserError(
            "There is no Blender on the path; install it, or set IMG2MESH_BLENDER to its executable."
        )
    return found


def load_with_blender(path: Path, blender: str) -> Object:
    """A mesh file of a kind that only Blender reads (FBX, USD, ...), as :func:`load_object` gives it."""
    with tempfile.TemporaryDirectory(prefix="img2mesh-") as name:
        converted = Path(name) / "mesh.glb"
        _run(blender, Path(name), {"convert": str(path.resolve())}, [converted])
        return load_object(converted)


def render_with_blender(
    obj: Object, cameras: Cameras, size: int, studio: Studio | None, blender: str
) -> np.ndarray:
    """Pictures [N, size, size, 4] uint8 RGBA, straight alpha.

    Args:
        studio: the light; None shows the bare texture.
    Raises:
        UserError: Blender failed or left no pictures.
    """
    from PIL import Image

    with tempfile.TemporaryDirectory(prefix="img2mesh-") as name:
        folder = Path(name)
        (folder / "mesh.glb").write_bytes(to_glb(obj, roughness_of(studio)))
        scene = {"size": size, "fov_deg": cameras.fov_deg, "c2w": cameras.c2w.tolist(), "studio": None}
        if studio is not None:
            scene["studio"] = {"lamps": studio.lamps.tolist(), "ambient": studio.ambient.tolist()}
        frames = [folder / f"{i:03d}.png" for i in range(len(cameras))]
        _run(blender, folder, scene, frames)
        rgba = np.stack([np.asarray(Image.open(frame).convert("RGBA")) for frame in frames])
    if rgba.shape[1:3] != (size, size):
        raise UserError(
            f"Blender made pictures of {rgba.shape[2]} x {rgba.shape[1]} pixels instead of {size}."
        )
    return rgba * (rgba[..., 3:] > 0)


def _run(blender: str, folder: Path, scene: dict[str, Any], expected: list[Path]) -> None:
    (folder / "scene.json").write_text(json.dumps(scene))
    command = [blender, "--background", "--factory-startup", "--python-exit-code", "1"]
    command += ["--python", str(SCRIPT), "--", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60 * MINUTES)
    except subprocess.TimeoutExpired:
        raise UserError(
            f"Blender did not finish within {MINUTES} minutes; choose a smaller --size or fewer --views."
        ) from None
    if done.returncode or not all(path.exists() for path in expected):
        lines = (done.stderr.strip() or done.stdout.strip() or "it said nothing").splitlines()
        raise UserError(f"Blender failed: {one_line(lines[-1])}")


def roughness_of(studio: Studio | None) -> float:
    """glTF's roughness of a surface with the studio's gloss: Blinn-Phong exponent 2 / roughness^4 - 2."""
    if studio is None or studio.gloss[0] == 0:
        return 1.0
    return float((2 / (studio.gloss[1] + 2)) ** 0.25)


def to_glb(obj: Object, roughness: float) -> bytes:
    """A binary glTF file of an object, smooth where the built-in renderer shades it smoothly."""
    import trimesh
    from PIL import Image

    picture = Image.fromarray((np.clip(obj.texture, 0, 1) * 255 + 0.5).astype(np.uint8))
    material = trimesh.visual.material.PBRMaterial(
        baseColorTexture=picture, metallicFactor=0.0, roughnessFactor=roughness, doubleSided=True
    )
    mesh = trimesh.Trimesh(
        obj.vertices[obj.faces].reshape(-1, 3),
        np.arange(3 * len(obj.faces)).reshape(-1, 3),
        vertex_normals=corner_normals(obj.vertices, obj.faces).reshape(-1, 3),
        visual=trimesh.visual.TextureVisuals(obj.corner_uv.reshape(-1, 2), material=material),
        process=False,
    )
    return trimesh.exchange.gltf.export_glb(trimesh.Scene(mesh), include_normals=True)
