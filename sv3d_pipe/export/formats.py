"""The file formats of an asset: GLB, OBJ + MTL + PNG, PLY, STL, USDZ; cameras inside or beside."""

from __future__ import annotations

import io
from functools import partial

import numpy as np
import trimesh
from PIL import Image
from trimesh.visual.material import PBRMaterial

from sv3d_pipe.export.asset import Asset, placed
from sv3d_pipe.export.file_cameras import encode_cameras
from sv3d_pipe.export.sampling import sample_texture
from sv3d_pipe.export.usdz import encode_usdz
from sv3d_pipe.geometry.meshes import vertex_normals
from sv3d_pipe.mesh_formats import CAMERAS, WRITTEN
from sv3d_pipe.meshes.gltf_cameras import Perspective, add_cameras

VERTEX_BUFFER, INDEX_BUFFER = 34962, 34963  # glTF 2.0, bufferView.target
LINEAR, LINEAR_MIPMAP_LINEAR, CLAMP_TO_EDGE = 9729, 9987, 33071  # glTF 2.0, samplers


def encode_glb(asset: Asset, name: str = "mesh") -> bytes:
    """One binary glTF file: smooth normals, sRGB base color PNG, roughness 1, metallic 0; a node for each camera."""
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
    cameras = {name: Perspective.of(camera) for name, camera in asset.cameras.items()}
    return scene.export(
        file_type="glb", include_normals=True, tree_postprocessor=partial(_complete_gltf, cameras)
    )


def _complete_gltf(cameras: dict[str, Perspective], tree: dict) -> None:
    """Add the cameras, and what viewers otherwise guess: uses of the buffers, filtering, who wrote it."""
    add_cameras(tree, cameras)
    tree["asset"]["generator"] = "img2mesh"
    for primitive in (p for mesh in tree["meshes"] for p in mesh["primitives"]):
        targets = dict.fromkeys(primitive["attributes"].values(), VERTEX_BUFFER)
        for accessor, target in (targets | {primitive["indices"]: INDEX_BUFFER}).items():
            tree["bufferViews"][tree["accessors"][accessor]["bufferView"]]["target"] = target
    sampler = {"magFilter": LINEAR, "minFilter": LINEAR_MIPMAP_LINEAR}
    tree["samplers"] = [sampler | {"wrapS": CLAMP_TO_EDGE, "wrapT": CLAMP_TO_EDGE}]
    for texture in tree["textures"]:
        texture["sampler"] = 0


def encode_obj(asset: Asset, stem: str) -> dict[str, bytes]:
    """Wavefront OBJ with its MTL and PNG beside it."""
    axes = "+y up, +z front" if asset.up == "y" else "+z up, -y front"
    lines = [f"# {axes}", f"mtllib {stem}.mtl", f"o {stem}"]
    lines += [f"v {x:.9g} {y:.9g} {z:.9g}" for x, y, z in asset.welded()[0]]
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
    vertices, faces = asset.welded()
    colors = sample_texture(asset.texture.astype(np.float32), asset.uv)  # [V, 3] in 0..255
    count = np.bincount(asset.source, minlength=len(vertices))[:, None]
    total = np.stack([np.bincount(asset.source, colors[:, i], len(vertices)) for i in range(3)], -1)
    rgb = (total / np.maximum(count, 1) + 0.5).astype(np.uint8)
    return trimesh.Trimesh(vertices, faces, vertex_colors=rgb, process=False).export(file_type="ply")


def encode_stl(asset: Asset) -> bytes:
    """Binary STL: the shape alone."""
    return trimesh.Trimesh(*asset.welded(), process=False).export(file_type="stl")


def encode_png(image: np.ndarray) -> bytes:
    """PNG of a uint8 [H, W, 3] picture."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    return stream.getvalue()


ENCODERS = {
    "glb": lambda asset: {WRITTEN["glb"].file: encode_glb(asset)},
    "obj": lambda asset: encode_obj(asset, "mesh"),
    "ply": lambda asset: {WRITTEN["ply"].file: encode_ply(asset)},
    "stl": lambda asset: {WRITTEN["stl"].file: encode_stl(asset)},
    "usdz": lambda asset: {WRITTEN["usdz"].file: encode_usdz(asset, encode_png(asset.texture))},
}


def encode(asset: Asset, formats: tuple[str, ...], up: str = "y", length: float = 1.0) -> dict[str, bytes]:
    """File name -> content for all formats, in their order, and then the cameras if a format has no room for them.

    Args:
        asset: as it was made: +y up, longest side 1.
        formats: names in :data:`sv3d_pipe.mesh_formats.WRITTEN`.
        up: "y" or "z". A GLB always has +y up, because glTF 2.0 says so (section 3.4).
        length: of the longest side in the files.
    """
    documents = {}
    for name in formats:
        documents |= ENCODERS[name](placed(asset, up if WRITTEN[name].any_up else "y", length))
    if asset.cameras and any(WRITTEN[name].cameras_beside for name in formats):
        documents[CAMERAS] = encode_cameras(placed(asset, up, length))
    return documents


def _cut_mesh(asset: Asset, material: PBRMaterial) -> trimesh.Trimesh:
    normals = vertex_normals(*asset.welded())[asset.source]
    visual = trimesh.visual.TextureVisuals(uv=asset.uv, material=material)
    return trimesh.Trimesh(asset.vertices, asset.faces, vertex_normals=normals, visual=visual, process=False)
