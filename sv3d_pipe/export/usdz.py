"""USDZ, the archive that phones show in augmented reality. Written by OpenUSD (the extra ``usd``)."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sv3d_pipe.errors import UserError
from sv3d_pipe.geometry.meshes import vertex_normals
from sv3d_pipe.mesh_formats import WRITTEN

if TYPE_CHECKING:
    from sv3d_pipe.export.asset import Asset


def encode_usdz(asset: Asset, png: bytes, name: str = "mesh") -> bytes:
    """One USDZ archive: the mesh with a preview surface (roughness 1, metallic 0) and its texture.

    One unit is a meter. The stage's up axis is the asset's.

    Args:
        png: the texture, encoded.
    """
    WRITTEN["usdz"].require_library()
    from pxr import Sdf, UsdUtils

    with tempfile.TemporaryDirectory() as folder:
        scene, archive = Path(folder) / f"{name}.usdc", Path(folder) / f"{name}.usdz"
        (Path(folder) / f"{name}.png").write_bytes(png)
        _write_stage(asset, scene, name)
        if not UsdUtils.CreateNewUsdzPackage(Sdf.AssetPath(str(scene)), str(archive)):
            raise UserError("OpenUSD could not write the usdz archive; choose another format.")
        return archive.read_bytes()


def _write_stage(asset: Asset, path: Path, name: str) -> None:
    from pxr import Usd, UsdGeom, UsdShade

    stage = Usd.Stage.CreateNew(str(path))
    UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.z if asset.up == "z" else UsdGeom.Tokens.y)
    UsdGeom.SetStageMetersPerUnit(stage, 1.0)
    root = UsdGeom.Xform.Define(stage, f"/{name}")
    stage.SetDefaultPrim(root.GetPrim())
    shape = _define_mesh(stage, f"/{name}/shape", asset)
    material = _define_material(stage, f"/{name}/material", f"{name}.png")
    UsdShade.MaterialBindingAPI.Apply(shape.GetPrim()).Bind(material)
    stage.GetRootLayer().Save()


def _define_mesh(stage, path: str, asset: Asset):
    from pxr import Sdf, UsdGeom, Vt

    vertices, faces = asset.welded()
    corners = faces.reshape(-1)
    mesh = UsdGeom.Mesh.Define(stage, path)
    mesh.CreatePointsAttr(Vt.Vec3fArray.FromNumpy(vertices))
    mesh.CreateExtentAttr(Vt.Vec3fArray.FromNumpy(np.stack([vertices.min(0), vertices.max(0)])))
    mesh.CreateFaceVertexCountsAttr(Vt.IntArray.FromNumpy(np.full(len(faces), 3, np.int32)))
    mesh.CreateFaceVertexIndicesAttr(Vt.IntArray.FromNumpy(corners.astype(np.int32)))
    mesh.CreateSubdivisionSchemeAttr(UsdGeom.Tokens.none)
    mesh.CreateNormalsAttr(Vt.Vec3fArray.FromNumpy(vertex_normals(vertices, faces)))
    mesh.SetNormalsInterpolation(UsdGeom.Tokens.vertex)
    st = UsdGeom.PrimvarsAPI(mesh).CreatePrimvar(
        "st", Sdf.ValueTypeNames.TexCoord2fArray, UsdGeom.Tokens.faceVarying
    )
    st.Set(Vt.Vec2fArray.FromNumpy(np.ascontiguousarray(asset.uv[asset.faces.reshape(-1)])))
    return mesh


def _define_material(stage, path: str, picture: str):
    """A UsdPreviewSurface whose diffuse color is the picture, looked up by the primvar ``st``."""
    from pxr import Sdf, UsdShade

    def shader(name: str, kind: str):
        node = UsdShade.Shader.Define(stage, f"{path}/{name}")
        node.CreateIdAttr(kind)
        return node

    kinds = Sdf.ValueTypeNames
    surface, texture = shader("surface", "UsdPreviewSurface"), shader("texture", "UsdUVTexture")
    reader = shader("st", "UsdPrimvarReader_float2")
    reader.CreateInput("varname", kinds.String).Set("st")
    texture.CreateInput("file", kinds.Asset).Set(Sdf.AssetPath(picture))
    texture.CreateInput("sourceColorSpace", kinds.Token).Set("sRGB")
    for side in ("wrapS", "wrapT"):
        texture.CreateInput(side, kinds.Token).Set("clamp")
    texture.CreateInput("st", kinds.Float2).ConnectToSource(reader.CreateOutput("result", kinds.Float2))
    surface.CreateInput("diffuseColor", kinds.Color3f).ConnectToSource(
        texture.CreateOutput("rgb", kinds.Float3)
    )
    surface.CreateInput("roughness", kinds.Float).Set(1.0)
    surface.CreateInput("metallic", kinds.Float).Set(0.0)
    material = UsdShade.Material.Define(stage, path)
    material.CreateSurfaceOutput().ConnectToSource(surface.CreateOutput("surface", kinds.Token))
    return material
