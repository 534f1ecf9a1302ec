"""The finished asset and its file formats: GLB, OBJ + MTL + PNG, PLY, STL."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import trimesh
from PIL import Image
from trimesh.visual.material import PBRMaterial

from sv3d_pipe.errors import UserError
from sv3d_pipe.export.sampling import sample_texture
from sv3d_pipe.export.unwrap import vertex_normals


@dataclass(frozen=True)
class Asset:
    """A textured mesh, +y up and +z front, its bounding box centered with longest side 1.

    Attributes:
        vertices: [V, 3] float32; vertices on chart borders occur once per chart.
        faces: [F, 3] int64, counter-clockwise from outside.
        uv: [V, 2] float32, v up.
        texture: [R, R, 3] uint8, sRGB; row 0 is v = 1.
        source: [V] int64, the number of the uncut mesh's vertex that each vertex is a copy of.
        scale, center: back to the world of the cameras: world = scale * vertices + center.
        documents: file name -> content, everything that :meth:`save` writes.
    """

    vertices: np.ndarray
    faces: np.ndarray
    uv: np.ndarray
    texture: np.ndarray
    source: np.ndarray
    scale: float = 1.0
    center: tuple[float, float, float] = (0.0, 0.0, 0.0)
    documents: Mapping[str, bytes] = field(default_factory=dict, repr=False)

    def save(self, folder: Path) -> None:
        """Write all files into a folder that exists."""
        for name, content in self.documents.items():
            (folder / name).write_bytes(content)

    def files(self, folder: Path) -> list[Path]:
        """The files that :meth:`save` writes there, the mesh first."""
        return [folder / name for name in self.documents]

    @property
    def world(self) -> np.ndarray:
        """[V, 3] float32 vertices in the world of the cameras."""
        return (self.vertices * self.scale + np.asarray(self.center)).astype(np.float32)


def normalize(vertices: np.ndarray) -> tuple[np.ndarray, float, tuple[float, float, float]]:
    """Center the bounding box at the origin and make its longest side 1.

    Returns:
        vertices [V, 3] float32, scale and center with old = scale * new + center.
    """
    low, high = vertices.min(0).astype(np.float64), vertices.max(0).astype(np.float64)
    center, scale = (low + high) / 2, float((high - low).max())
    return ((vertices - center) / scale).astype(np.float32), scale, tuple(center.tolist())


def encode_glb(asset: Asset, name: str = "mesh") -> bytes:
    """One binary glTF file: smooth normals, sRGB base color PNG, roughness 1, metallic 0."""
    material = PBRMaterial(
        name=name,
        baseColorTexture=Image.fromarray(asset.texture),
        baseColorFactor=[255, 255, 255, 255],
        roughnessFactor=1.0,
        metallicFactor=0.0,
        doubleSided=False,
    )
    mesh = _cut_mesh(asset, material)
    scene = trimesh.Scene()
    scene.add_geometry(mesh, node_name=name, geom_name=name)
    return scene.export(file_type="glb", include_normals=True)


def encode_obj(asset: Asset, stem: str) -> dict[str, bytes]:
    """Wavefront OBJ with its MTL and PNG beside it."""
    lines = ["# +y up, +z front", f"mtllib {stem}.mtl", f"o {stem}"]
    lines += [f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in _welded(asset)[0]]
    lines += [f"vt {u:.6f} {v:.6f}" for u, v in asset.uv]
    lines += [f"usemtl {stem}"]
    places, corners = asset.source[asset.faces] + 1, asset.faces + 1
    lines += [f"f {a}/{i} {b}/{j} {c}/{k}" for (a, b, c), (i, j, k) in zip(places, corners)]
    material = f"newmtl {stem}\nKa 1 1 1\nKd 1 1 1\nKs 0 0 0\nillum 1\nmap_Kd {stem}.png\n"
    return {
        f"{stem}.obj": ("\n".join(lines) + "\n").encode(),
        f"{stem}.mtl": material.encode(),
        f"{stem}.png": encode_png(asset.texture),
    }


def encode_ply(asset: Asset) -> bytes:
    """Binary PLY of the uncut mesh with vertex colors taken from the texture."""
    vertices, faces = _welded(asset)
    colors = sample_texture(asset.texture.astype(np.float32), asset.uv)  # [V, 3] in 0..255
    count = np.bincount(asset.source, minlength=len(vertices))[:, None]
    total = np.stack([np.bincount(asset.source, colors[:, i], len(vertices)) for i in range(3)], -1)
    rgb = (total / np.maximum(count, 1) + 0.5).astype(np.uint8)
    return trimesh.Trimesh(vertices, faces, vertex_colors=rgb, process=False).export(file_type="ply")


def encode_stl(asset: Asset) -> bytes:
    """Binary STL: the shape alone."""
    return trimesh.Trimesh(*_welded(asset), process=False).export(file_type="stl")


def encode_png(image: np.ndarray) -> bytes:
    """PNG of a uint8 [H, W, 3] picture."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    return stream.getvalue()


ENCODERS = {
    "glb": lambda asset: {"mesh.glb": encode_glb(asset)},
    "obj": lambda asset: encode_obj(asset, "mesh"),
    "ply": lambda asset: {"mesh.ply": encode_ply(asset)},
    "stl": lambda asset: {"mesh.stl": encode_stl(asset)},
}


def parse_formats(text: str) -> tuple[str, ...]:
    """``"glb, OBJ"`` as ``("glb", "obj")``: lower case, in order, no doubles. UserError if unknown."""
    names = [part.strip().lower().removeprefix(".") for part in text.split(",")]
    names = list(dict.fromkeys(name for name in names if name))
    wrong = [name for name in names if name not in ENCODERS]
    if wrong or not names:
        what = f"There is no mesh format {wrong[0]!r}" if wrong else "No mesh format is given"
        raise UserError(f"{what}; choose from {', '.join(ENCODERS)}, separated by commas.")
    return tuple(names)


def encode(asset: Asset, formats: tuple[str, ...]) -> dict[str, bytes]:
    """File name -> content for all formats, in their order."""
    return {name: data for kind in formats for name, data in ENCODERS[kind](asset).items()}


def _welded(asset: Asset) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and faces of the uncut mesh."""
    vertices = np.zeros((asset.source.max() + 1, 3), np.float32)
    vertices[asset.source] = asset.vertices
    return vertices, asset.source[asset.faces]


def _cut_mesh(asset: Asset, material: PBRMaterial) -> trimesh.Trimesh:
    normals = vertex_normals(*_welded(asset))[asset.source]
    visual = trimesh.visual.TextureVisuals(uv=asset.uv, material=material)
    return trimesh.Trimesh(asset.vertices, asset.faces, vertex_normals=normals, visual=visual, process=False)
