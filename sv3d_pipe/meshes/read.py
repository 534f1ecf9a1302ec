"""Mesh files: read by trimesh, but checked before and after; what is wrong with their colors never costs the shape."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sv3d_pipe.errors import UserError, one_line
from sv3d_pipe.inputs import MOST_FACES, MOST_PIXELS, is_address, read_file
from sv3d_pipe.mesh_formats import READ
from sv3d_pipe.meshes.gltf import Gltf
from sv3d_pipe.meshes.limits import require_few, too_many
from sv3d_pipe.meshes.neighbors import Neighbors
from sv3d_pipe.meshes.obj_text import absolute
from sv3d_pipe.pictures import decoded_texture, to_srgb

ALSO_READ = (".dae", ".3mf")  # where the libraries that trimesh needs for them are installed
MOST_TEXELS = 16_000_000  # of all pictures of one mesh together; larger ones are shrunk


def read_meshes(path: Path, warn: Callable[[str], None] | None = None) -> list[Any]:
    """The triangle meshes of a file, each a ``trimesh.Trimesh`` at its place, with clean visuals.

    A visual is either a picture with texture coordinates, a plain material without coordinates, or colors.

    Args:
        path: of a kind in :data:`sv3d_pipe.mesh_formats.READ` or ``ALSO_READ``. Pictures, materials and buffers that it
            names are read only from its own folder.
        warn: is told what is wrong with the colors.
    Raises:
        UserError: no such file, of no known kind, too large, damaged, empty, with a glTF extension that is not read,
            with coordinates that are not numbers or triangles of vertices that are not there.
    """
    kind = path.suffix.lower()
    if not path.exists() and not is_address(path):
        raise UserError(f"There is no mesh file {path}; check the path.")
    data = read_file(path)
    if kind not in READ + ALSO_READ:
        raise UserError(f"{path} is not a mesh file of a known kind; use one of {', '.join(READ)}.")
    if not data:
        raise UserError(f"The mesh {path} is empty; save or download it again.")
    neighbors = Neighbors(path, len(data), holds_pictures=kind not in (".glb", ".gltf"))
    try:
        meshes = _meshes(path, kind, data, neighbors)
    except UserError:
        raise
    except Exception as error:  # trimesh raises whatever its many readers raise
        what = one_line(f"{type(error).__name__}: {error}", 150)
        raise UserError(f"Cannot read the mesh {path} ({what}); export it again.") from None
    if not meshes:
        raise UserError(f"The mesh {path} has no triangles.")
    _check(path, meshes)
    _tidy_colors(path, meshes, neighbors)
    if kind == ".obj" and not neighbors.trouble:
        _miss_materials(path, data, meshes, neighbors)
    for sentence in dict.fromkeys(neighbors.trouble) if warn is not None else ():
        warn(sentence)
    return meshes


def plain_rgb(visual: Any) -> np.ndarray:
    """The color [3] float32 in [0, 1], sRGB, of a material without a picture; gray where it has none."""
    factor = getattr(visual.material, "baseColorFactor", None)
    if factor is not None:
        linear = np.asarray(factor)[:3]
        return to_srgb(linear.astype(np.float32) / (255 if linear.dtype.kind in "ui" else 1))
    diffuse = np.asarray(getattr(visual.material, "diffuse", (102, 102, 102, 255)))[:3]  # trimesh's gray
    return diffuse.astype(np.float32) / 255


def has_picture(visual: Any) -> bool:
    """Whether a visual of the kind "texture" shows a picture."""
    return _picture(visual) is not None and visual.uv is not None


def _meshes(path: Path, kind: str, data: bytes, neighbors: Neighbors) -> list[Any]:
    import trimesh

    gltf = None
    if kind in (".glb", ".gltf"):
        gltf = Gltf(path, data, neighbors)
        kind, data = ".gltf", json.dumps(gltf.plain()).encode()
    else:
        require_few(path, kind, data)
        data = absolute(path, data) if kind == ".obj" else data
    loaded = trimesh.load(io.BytesIO(data), file_type=kind[1:], resolver=neighbors, process=False)
    meshes = loaded.dump() if isinstance(loaded, trimesh.Scene) else [loaded]
    meshes = [mesh for mesh in meshes if len(getattr(mesh, "faces", ())) > 0]
    known: dict[int, Image.Image | None] = {}
    for mesh in meshes:
        if mesh.visual.kind == "texture":
            _give_picture(mesh.visual, gltf, neighbors, known)
    return meshes


def _give_picture(
    visual: Any, gltf: Gltf | None, neighbors: Neighbors, known: dict[int, Image.Image | None]
) -> None:
    """Put a material's picture, not decoded yet, in the place of what stands for it.

    Args:
        known: those that were found before; more are added.
    """
    if gltf is not None:
        name = str(visual.material.name)
        number = int(name) if name.isdigit() else None
    else:
        number = neighbors.number_of(_picture(visual))
        if number is None:
            return  # no picture, or trimesh's own gray
    if number is not None and number not in known:
        known[number] = None
        try:
            known[number] = gltf.picture(number) if gltf is not None else neighbors.picture(number)
        except Exception as error:
            damaged = f"A picture of {neighbors.path} is damaged; export it again."
            neighbors.trouble.append(str(error) if isinstance(error, UserError) else damaged)
    _set_picture(visual, known.get(number))


def _miss_materials(path: Path, data: bytes, meshes: list[Any], neighbors: Neighbors) -> None:
    """Tell of materials that an OBJ file uses but its MTL files lack, where meshes are gray because of it."""
    used = {
        line[1].decode("utf-8", "replace").strip() for line in re.finditer(rb"^usemtl\s+(.*)$", data, re.M)
    }
    names = [mesh.visual.material.name if mesh.visual.kind == "texture" else None for mesh in meshes]
    missing = sorted(used - set(names))
    if missing and not used.issuperset(names):
        neighbors.trouble.append(
            f"{path} uses the material {missing[0]}, which cannot be found; gray is taken."
        )


def _check(path: Path, meshes: list[Any]) -> None:
    """Raise UserError for coordinates that are not numbers, vertices that are not there, or too many triangles."""
    if sum(len(mesh.faces) for mesh in meshes) > MOST_FACES:
        raise UserError(too_many(path))
    for mesh in meshes:
        faces = np.asarray(mesh.faces)
        if faces.min() < 0 or faces.max() >= len(mesh.vertices):
            raise UserError(
                f"The mesh {path} is damaged: it has triangles of vertices that are not there; export it again."
            )
        points = np.asarray(mesh.vertices)[np.unique(faces)]
        if not np.isfinite(points).all() or np.abs(points).max() > np.finfo(np.float32).max / 1e6:
            raise UserError(f"The mesh {path} has no extent, or coordinates that are not numbers.")


def _tidy_colors(path: Path, meshes: list[Any], neighbors: Neighbors) -> None:
    """Pictures decoded, in sRGB and within MOST_TEXELS together; what cannot be shown becomes a plain color."""
    from trimesh.visual import ColorVisuals

    pictures = {}
    for mesh in meshes:
        picture = _picture(mesh.visual)
        if picture is not None:
            pictures[id(picture)] = picture
    texels = sum(picture.width * picture.height for picture in pictures.values())
    share, decoded = min(1.0, MOST_TEXELS / max(texels, 1)), {}
    for key, picture in pictures.items():
        try:
            if texels > 8 * MOST_PIXELS:
                raise UserError(f"The pictures of {path} have too many pixels together; shrink them.")
            most = max(1, int(share * picture.width * picture.height))
            decoded[key] = decoded_texture(picture, f"A picture of {path}", most)
        except UserError as error:
            neighbors.trouble.append(str(error))
    for mesh in meshes:
        visual, count = mesh.visual, len(mesh.vertices)
        if visual.kind != "texture":
            if not _has_colors(visual, count, len(mesh.faces)):
                mesh.visual = ColorVisuals(mesh)
            continue
        picture, uv = _picture(visual), visual.uv
        if uv is not None and (np.shape(uv) != (count, 2) or not np.isfinite(uv).all()):
            neighbors.trouble.append(f"{path} has texture coordinates that cannot be used.")
            uv = None
        if picture is not None and uv is None:
            neighbors.trouble.append(
                f"{path} has a picture but no texture coordinates; its material's color is taken."
            )
        if uv is not None and id(picture) in decoded:
            _set_picture(visual, decoded[id(picture)])
            continue
        given = visual.vertex_attributes.get("color")
        _set_picture(visual, None)
        if given is not None and np.shape(given) in ((count, 3), (count, 4)):
            mesh.visual = ColorVisuals(mesh, vertex_colors=np.asarray(given))


def _has_colors(visual: Any, vertices: int, faces: int) -> bool:
    """Whether there are as many colors as there should be."""
    try:
        if visual.kind == "face":
            return len(visual.face_colors) == faces
        return len(visual.vertex_colors) == vertices
    except (ValueError, IndexError, TypeError):
        return False


def _picture(visual: Any) -> Image.Image | None:
    material = getattr(visual, "material", None)
    return getattr(material, "baseColorTexture", None) or getattr(material, "image", None)


def _set_picture(visual: Any, picture: Image.Image | None) -> None:
    name = "baseColorTexture" if hasattr(visual.material, "baseColorTexture") else "image"
    setattr(visual.material, name, picture)
