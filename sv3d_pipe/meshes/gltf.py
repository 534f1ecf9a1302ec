"""glTF 2.0 files made plain for trimesh, which reads no sparse, quantized or transformed attributes and checks no sizes.

What changes the shape and is not read here is refused by name. Materials keep only their base color.
"""

from __future__ import annotations

import base64
import binascii
import io
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sv3d_pipe.errors import UserError
from sv3d_pipe.inputs import MOST_BYTES, MOST_FACES, parse_json
from sv3d_pipe.meshes.gltf_container import chunks, transformed
from sv3d_pipe.meshes.limits import MOST_PARTS
from sv3d_pipe.meshes.neighbors import Neighbors
from sv3d_pipe.picture_kinds import FORMATS

PLACES = ("name", "children", "mesh", "matrix", "translation", "rotation", "scale")
READ = ("KHR_mesh_quantization", "KHR_texture_transform", "EXT_texture_webp", "EXT_texture_avif")
PLACING = "EXT_mesh_gpu_instancing"
HARMLESS = (
    "KHR_materials_",
    "KHR_lights_",
    "KHR_xmp",
    "KHR_animation_pointer",
)  # they do not change the shape
COMPONENTS = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT2": 4, "MAT3": 9, "MAT4": 16}
TYPES = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4"}
TRIANGLES, STRIP, FAN = 4, 5, 6


class Gltf:
    """A document whose buffers are in memory.

    Attributes:
        document: the JSON object; made plain in place. buffers: their bytes.
        neighbors: reads what the document names and tells of what it could not.
    """

    def __init__(self, path: Path, data: bytes, neighbors: Neighbors):
        self.path, self.neighbors = path, neighbors
        text, binary = chunks(path, memoryview(data))
        self.document: dict[str, Any] = parse_json(text, path)
        if not isinstance(self.document, dict):
            raise UserError(f"{path} is not a glTF file: it holds no JSON object.")
        self._refuse_extensions()
        self.buffers = [
            self._buffer(number, entry, binary) for number, entry in enumerate(self._list("buffers"))
        ]
        self._made: dict[Any, int] = {}

    def plain(self) -> dict[str, Any]:
        """The document as trimesh reads it right; its buffers are given by ``neighbors``.

        Raises:
            UserError: too large, or without the data that it promises.
        """
        document = self.document
        self._check_sizes()
        for mesh in self._list("meshes"):
            parts = [part for part in mesh["primitives"] if part.get("mode", TRIANGLES) in (4, 5, 6)]
            mesh["primitives"] = [self._plain_part(part) for part in parts]
        materials = [
            {"name": str(number), "pbrMetallicRoughness": {"baseColorFactor": factor} if factor else {}}
            for number, factor in enumerate(map(self._factor, self._list("materials")))
        ]
        scenes = document.get("scenes") or [{"nodes": self._roots()}]
        for number, buffer in enumerate(self.buffers):
            self.neighbors.given[f"buffer {number}"] = memoryview(buffer)
        return {
            "asset": document.get("asset", {}),
            "scene": document.get("scene", 0),
            "scenes": scenes,
            "nodes": [{k: v for k, v in node.items() if k in PLACES} for node in self._list("nodes")],
            "meshes": self._list("meshes"),
            "accessors": self._list("accessors"),
            "bufferViews": self._list("bufferViews"),
            "buffers": [{"uri": f"buffer {n}", "byteLength": len(b)} for n, b in enumerate(self.buffers)],
            "materials": materials,
        }

    def picture(self, material: int) -> Image.Image | None:
        """A material's base color picture, not decoded yet; None if it has none.

        Raises UserError if it cannot be had, or Pillow's errors.
        """
        texture = self._base(self._list("materials")[material]).get("baseColorTexture")
        if not isinstance(texture, dict):
            return None
        entry = self._list("textures")[texture["index"]]
        extensions = entry.get("extensions", {})
        modern = [extensions[name] for name in ("EXT_texture_webp", "EXT_texture_avif") if name in extensions]
        source = modern[0]["source"] if modern else entry.get("source")
        if source is None:
            raise UserError(
                f"{self.path} has a picture of a kind that is not read ({', '.join(extensions)})."
            )
        image = self._list("images")[source]
        if "bufferView" in image:
            view = self._list("bufferViews")[image["bufferView"]]
            start = view.get("byteOffset", 0)
            data = self.buffers[view["buffer"]][start : start + view["byteLength"]]
        else:
            data = self._named(image["uri"])
        return Image.open(io.BytesIO(data), formats=FORMATS)

    def _list(self, name: str) -> list[Any]:
        return self.document.get(name, [])

    def _roots(self) -> list[int]:
        """The nodes that are in no other; where there are no nodes, a new one for every mesh."""
        nodes = self.document.setdefault("nodes", [{"mesh": n} for n in range(len(self._list("meshes")))])
        children = {child for node in nodes for child in node.get("children", [])}
        return [number for number in range(len(nodes)) if number not in children]

    def _refuse_extensions(self) -> None:
        needed = self._list("extensionsRequired")
        foreign = [name for name in needed if name not in READ and not str(name).startswith(HARMLESS)]
        foreign += [PLACING] if PLACING in self._list("extensionsUsed") and PLACING not in foreign else []
        if foreign:
            raise UserError(
                f"{self.path} needs the glTF extension {', '.join(map(str, foreign))}, which is not read here; export "
                "the mesh without compression."
            )

    def _buffer(self, number: int, entry: dict[str, Any], binary: memoryview) -> bytes | memoryview:
        if "uri" in entry:
            data = self._named(entry["uri"])
        elif number == 0 and binary:
            data = binary
        elif "EXT_meshopt_compression" in entry.get("extensions", {}):
            data = b""  # nothing but what the extension stands for
        else:
            raise UserError(f"{self.path} has a buffer without data; export the mesh again.")
        if len(data) < entry["byteLength"] and data:
            raise UserError(f"{self.path} is cut short: a buffer lacks data; save or download it again.")
        return data

    def _named(self, uri: str) -> bytes:
        if not uri.startswith("data:"):
            return bytes(self.neighbors.get(uri))
        head, _, body = uri.partition(",")
        try:
            return base64.b64decode(body, validate=False) if head.endswith(";base64") else body.encode()
        except binascii.Error:
            raise UserError(f"{self.path} has data inside that is damaged; export the mesh again.") from None

    def _check_sizes(self) -> None:
        """Raise UserError if what the nodes place is too large, or what the accessors hold."""
        accessors = self._list("accessors")
        size = 0
        for entry in accessors:
            if entry["count"] < 0 or not isinstance(entry["count"], int):
                raise UserError(f"{self.path} is damaged: an accessor has no count; export the mesh again.")
            size += (
                entry["count"] * WIDTHS[entry["type"]] * np.dtype(COMPONENTS[entry["componentType"]]).itemsize
            )
        placed = Counter(node["mesh"] for node in self._list("nodes") if "mesh" in node)
        faces = vertices = parts = 0
        for number, mesh in enumerate(self._list("meshes")):
            for part in mesh["primitives"]:
                times = max(1, placed[number])
                points = accessors[part["attributes"]["POSITION"]]["count"]
                corners = accessors[part["indices"]]["count"] if "indices" in part else points
                faces += times * (corners // 3 if part.get("mode", TRIANGLES) == TRIANGLES else corners)
                vertices, parts = vertices + times * points, parts + times
        if faces > MOST_FACES or vertices > 3 * MOST_FACES or parts > MOST_PARTS or size > MOST_BYTES:
            raise UserError(
                f"{self.path} has {faces:,} triangles, {vertices:,} vertices in {parts:,} parts; at most {MOST_FACES:,} "
                f"triangles and {3 * MOST_FACES:,} vertices in {MOST_PARTS:,} parts are read, so simplify the mesh."
            )

    def _plain_part(self, part: dict[str, Any]) -> dict[str, Any]:
        """A primitive with plain positions, colors and the base color's texture coordinates; triangles or a strip."""
        attributes, mode = part["attributes"], part.get("mode", TRIANGLES)
        plain = {"POSITION": self._plain_accessor(attributes["POSITION"])}
        result = {"mode": min(mode, STRIP), "attributes": plain}
        material = self._list("materials")[part["material"]] if "material" in part else {}
        texture = self._base(material).get("baseColorTexture") or {}
        if "COLOR_0" in attributes and not texture:  # trimesh keeps them only where there is no material
            colors = self._array(self._plain_accessor(attributes["COLOR_0"]))
            if colors.dtype.kind != "f":
                colors = colors / np.float32(np.iinfo(colors.dtype).max)
            tint = np.array(self._factor(material) or [1, 1, 1], np.float32)[:3]
            plain["COLOR_0"] = self._add((np.clip(colors[:, :3] * tint, 0, 1) * 255 + 0.5).astype("<u1"))
        elif "material" in part:
            result["material"] = part["material"]
            moved = texture.get("extensions", {}).get("KHR_texture_transform", {})
            name = f"TEXCOORD_{moved.get('texCoord', texture.get('texCoord', 0))}"
            if name in attributes:
                plain["TEXCOORD_0"] = self._plain_accessor(attributes[name], moved)
        if "indices" in part:
            result["indices"] = self._plain_accessor(part["indices"])
        if mode == FAN:
            count = self._list("accessors")[attributes["POSITION"]]["count"]
            ring = self._array(part["indices"])[:, 0] if "indices" in part else np.arange(count)
            corners = np.stack([np.full(len(ring) - 2, ring[0]), ring[1:-1], ring[2:]], -1)
            result |= {"mode": TRIANGLES, "indices": self._add(corners.reshape(-1, 1).astype("<u4"))}
        return result

    def _plain_accessor(self, index: int, moved: dict[str, Any] | None = None) -> int:
        """The number of an accessor with the same values that trimesh reads right."""
        entry = self._list("accessors")[index]
        if "bufferView" not in entry and "sparse" not in entry:
            raise UserError(f"{self.path} holds no data for its mesh; export it without compression.")
        if not (moved or entry.get("normalized") or "sparse" in entry):
            return index
        key = (index, repr(moved))
        if key not in self._made:
            values = self._array(index)
            if moved:
                values = transformed(values, moved)
            self._made[key] = self._add(values)
        return self._made[key]

    def _array(self, index: int) -> np.ndarray:
        """An accessor's values [count, width]: float32 where they are normalized integers."""
        entry = self._list("accessors")[index]
        kind, width, count = COMPONENTS[entry["componentType"]], WIDTHS[entry["type"]], entry["count"]
        values = np.zeros((count, width), kind)
        if "bufferView" in entry:
            values[:] = self._stored(entry["bufferView"], entry.get("byteOffset", 0), count, kind, width)
        if "sparse" in entry:
            sparse = entry["sparse"]
            where, what = sparse["indices"], sparse["values"]
            kind_of_where = COMPONENTS[where["componentType"]]
            places = self._stored(
                where["bufferView"], where.get("byteOffset", 0), sparse["count"], kind_of_where, 1
            )
            given = self._stored(what["bufferView"], what.get("byteOffset", 0), sparse["count"], kind, width)
            values[places[:, 0]] = given
        if not entry.get("normalized"):
            return values
        most = np.iinfo(
            values.dtype
        ).max  # glTF 2.0, section 3.11: of signed integers the lowest counts as -1 too
        return np.maximum(values.astype("<f4") / np.float32(most), -1)

    def _stored(self, view: int, offset: int, count: int, kind: str, width: int) -> np.ndarray:
        entry, size = self._list("bufferViews")[view], np.dtype(kind).itemsize
        stride = entry.get("byteStride", width * size)
        start = entry.get("byteOffset", 0) + offset
        return np.ndarray((count, width), kind, self.buffers[entry["buffer"]], start, (stride, size))

    def _add(self, values: np.ndarray) -> int:
        """The number of a new accessor with these values [count, width]."""
        views, accessors = self._list("bufferViews"), self._list("accessors")
        self.buffers.append(np.ascontiguousarray(values).tobytes())
        views.append({"buffer": len(self.buffers) - 1, "byteLength": values.nbytes})
        component = next(code for code, kind in COMPONENTS.items() if np.dtype(kind) == values.dtype)
        accessors.append(
            {
                "bufferView": len(views) - 1, "componentType": component, "count": len(values),
                "type": TYPES[values.shape[1]],
            }
        )  # fmt: skip
        return len(accessors) - 1

    @staticmethod
    def _base(material: dict[str, Any]) -> dict[str, Any]:
        """What tells the base color, also that of the older way by specular color and glossiness."""
        older = material.get("extensions", {}).get("KHR_materials_pbrSpecularGlossiness")
        if not older:
            return material.get("pbrMetallicRoughness", {})
        names = {"diffuseFactor": "baseColorFactor", "diffuseTexture": "baseColorTexture"}
        return {new: older[old] for old, new in names.items() if old in older}

    def _factor(self, material: dict[str, Any]) -> list[float] | None:
        factor = self._base(material).get("baseColorFactor")
        if factor is None:
            return None
        try:
            color = np.clip(np.array(factor, np.float64), 0, 1)
        except (TypeError, ValueError, OverflowError):
            color = np.zeros(0)
        if color.shape not in ((3,), (4,)) or not np.isfinite(color).all():
            self.neighbors.trouble.append(f"{self.path} has a material whose color is not four numbers.")
            return None
        return [*color.tolist()[:3], 1.0]
