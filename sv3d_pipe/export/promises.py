"""What the settings promise of the written files, checked on these files as a stranger would read them."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import PurePath

import numpy as np
import trimesh
from PIL import Image

from sv3d_pipe.artifacts import Mesh
from sv3d_pipe.config import ExportConfig
from sv3d_pipe.export.asset import Asset, placed
from sv3d_pipe.export.simplify import drop_bad_faces
from sv3d_pipe.export.watertight import is_solid
from sv3d_pipe.geometry.extent import relative_depth
from sv3d_pipe.geometry.meshes import same_places
from sv3d_pipe.mesh_formats import WRITTEN

TOLERANCE = 1e-3  # of lengths and depths, relative
READ_BACK = ("glb", "obj", "ply", "stl")


def broken_promises(
    config: ExportConfig, asset: Asset, documents: Mapping[str, bytes], formats: tuple[str, ...]
) -> list[str]:
    """A sentence for every setting that a file does not keep, with what was reached instead.

    Formats, face count, length, upward axis, depth, closedness and texture size; a USDZ is only looked for.

    Args:
        asset: what was to be written, +y up, longest side 1.
        documents: file name -> content. formats: those asked for.
    """
    said = [f"No {name} was written." for name in formats if WRITTEN[name].file not in documents]
    for name in READ_BACK:
        content = documents.get(WRITTEN[name].file)
        if content is not None and name in formats:
            said += [f"{WRITTEN[name].file} {what}." for what in _broken(config, asset, name, content)]
    for name, size in _texture_sizes(documents):
        if size != (config.texture, config.texture):
            said.append(
                f"The texture in {name} has {size[0]} x {size[1]} pixels instead of {config.texture} x {config.texture}."
            )
    return said


def _broken(config: ExportConfig, asset: Asset, name: str, content: bytes) -> list[str]:
    """What one file does not keep, each as the rest of a sentence."""
    vertices, faces = _read(name, content)
    said = []
    if len(faces) > config.faces:
        said.append(f"has {len(faces):,} faces, more than the {config.faces:,} asked for")
    length = float(np.ptp(vertices, axis=0).max())
    if abs(length / config.scale - 1) > TOLERANCE:
        said.append(f"is {length:g} long instead of {config.scale:g}")
    up = config.up if WRITTEN[name].any_up else "y"
    wanted = placed(asset, up, length).vertices
    ends = [(points.min(0), points.max(0)) for points in (vertices, wanted)]
    if not np.allclose(*ends, rtol=0, atol=TOLERANCE * length):
        said.append(f"does not have +{up} up")
    if up == "z":
        vertices = np.stack([vertices[:, 0], vertices[:, 2], -vertices[:, 1]], -1)
    if config.depth and abs(relative_depth(vertices) / config.depth - 1) > TOLERANCE:
        said.append(f"is {relative_depth(vertices):.3g} deep instead of {config.depth:g}")
    first, place = same_places(vertices.astype(np.float32))
    welded = Mesh(vertices[first].astype(np.float32), place[faces], np.zeros((len(first), 3), np.float32))
    if config.watertight and not is_solid(drop_bad_faces(welded)):
        said.append("is not closed; allow more faces with --faces")
    return said


def _read(name: str, content: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Vertices [V, 3] and faces [F, 3] of a file that export wrote."""
    if name == "obj":  # as written by encode_obj; trimesh takes a minute for a million lines
        lines = content.split(b"\n")
        points = np.array([line.split()[1:] for line in lines if line.startswith(b"v ")], np.float64)
        corners = [line.replace(b"/", b" ").split()[1::2] for line in lines if line.startswith(b"f ")]
        return points, np.array(corners, np.int64) - 1
    mesh = trimesh.load(io.BytesIO(content), file_type=name, force="mesh", process=False)
    return np.asarray(mesh.vertices), np.asarray(mesh.faces, np.int64)


def _texture_sizes(documents: Mapping[str, bytes]) -> list[tuple[str, tuple[int, int]]]:
    """Width and height of the pictures in a GLB, and of the one beside an OBJ."""
    sizes = []
    if "mesh.glb" in documents:
        mesh = trimesh.load(io.BytesIO(documents["mesh.glb"]), file_type="glb", force="mesh", process=False)
        sizes.append(("mesh.glb", mesh.visual.material.baseColorTexture.size))
    beside = PurePath(WRITTEN["obj"].file).with_suffix(".png").name
    if beside in documents:
        with Image.open(io.BytesIO(documents[beside])) as picture:
            sizes.append((beside, picture.size))
    return sizes
