"""Several GLB files that export wrote as one: a node for each, by name, at its place. Nothing is encoded anew."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sv3d_pipe.meshes.gltf_cameras import Perspective, add_cameras
from sv3d_pipe.meshes.gltf_container import BINARY_CHUNK, JSON_CHUNK, MAGIC, chunks
from sv3d_pipe.placing.subject import Pose

LISTS = ("bufferViews", "accessors", "samplers", "images", "textures", "materials", "meshes")


@dataclass(frozen=True)
class Node:
    """A node of the scene: its name, the GLB file with its mesh, and its place."""

    name: str
    mesh: Path
    pose: Pose


def join(nodes: Sequence[Node], camera: Perspective | None = None) -> bytes:
    """One GLB file with the meshes of others, each in a node of its own, and then the photo's camera, ``photo``.

    The files must be those of :func:`sv3d_pipe.export.formats.encode_glb`: one mesh each, no node of which is moved.
    Their own cameras, of parts of the photo, are left out.
    """
    document: dict[str, Any] = {name: [] for name in LISTS} | {"nodes": []}
    binary = bytearray()
    for node in nodes:
        text, content = chunks(node.mesh, memoryview(node.mesh.read_bytes()))
        own = json.loads(text)
        starts = {name: len(document[name]) for name in LISTS}
        for view in own["bufferViews"]:
            view["byteOffset"] = view.get("byteOffset", 0) + len(binary)
        _renumber(own, starts)
        for name in LISTS:
            document[name] += own.get(name, [])
        document["meshes"][starts["meshes"]]["name"] = node.name
        document["nodes"].append(_node(node, starts["meshes"]))
        binary += bytes(content) + bytes(-len(content) % 4)
    document |= {
        "asset": {"version": "2.0", "generator": "img2mesh"},
        "scene": 0,
        "scenes": [{"nodes": list(range(len(nodes)))}],
        "buffers": [{"byteLength": len(binary)}],
    }
    if camera is not None:
        add_cameras(document, {"photo": camera})
    return _glb({name: entry for name, entry in document.items() if entry != []}, bytes(binary))


def _renumber(own: dict[str, Any], starts: dict[str, int]) -> None:
    """Make the numbers by which a document's entries name others those in the joined document."""
    for accessor in own["accessors"]:
        accessor["bufferView"] += starts["bufferViews"]
    for image in own.get("images", []):
        image["bufferView"] += starts["bufferViews"]
    for texture in own.get("textures", []):
        texture["source"] += starts["images"]
        if "sampler" in texture:
            texture["sampler"] += starts["samplers"]
    for material in own.get("materials", []):
        base = material.get("pbrMetallicRoughness", {}).get("baseColorTexture")
        if base is not None:
            base["index"] += starts["textures"]
    for part in (part for mesh in own["meshes"] for part in mesh["primitives"]):
        part["attributes"] = {k: v + starts["accessors"] for k, v in part["attributes"].items()}
        part["indices"] += starts["accessors"]
        if "material" in part:
            part["material"] += starts["materials"]


def _node(node: Node, mesh: int) -> dict[str, Any]:
    return {
        "name": node.name,
        "mesh": mesh,
        "translation": [float(value) for value in node.pose.position],
        "rotation": node.pose.quaternion,
        "scale": [node.pose.scale] * 3,
    }


def _glb(document: dict[str, Any], binary: bytes) -> bytes:
    text = json.dumps(document, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    head = struct.pack("<4sII", MAGIC, 2, 12 + 8 + len(text) + 8 + len(binary))
    return (
        head
        + struct.pack("<II", len(text), JSON_CHUNK)
        + text
        + struct.pack("<II", len(binary), BINARY_CHUNK)
        + binary
    )
