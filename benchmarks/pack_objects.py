"""Thousands of textured objects in one small file, so that they can travel to the machine where mini is trained.

    python benchmarks/pack_objects.py pack OBJECTS -o objects.pack
    python benchmarks/pack_objects.py unpack objects.pack -o objects
    img2mesh render objects/training -o data

An object keeps what the renderer looks at: triangles, texture coordinates and one texture. Positions and texture
coordinates are rounded to a grid, pictures made smaller (WebP); palettes stay as they are. Normals are not kept, since
the renderer makes its own. Objects of some families are unpacked into `held_out` instead of `training`: what is
trained on the others can be judged by them (see `held_out`).
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import time
from collections.abc import Callable, Iterable
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
from command import run
from pack_file import Grain, Group, Pack, compress, read_pack, write_pack
from pack_meshes import GridMesh, Told, rebuild, tell
from PIL import Image

from sv3d_pipe.errors import UserError
from sv3d_pipe.road.workers import each, with_threads

T, R = TypeVar("T"), TypeVar("R")
PALETTE_BYTES = 2048  # a texture that is no larger without loss is a palette
FACES_IN_GROUP = 60_000
HELD_OUT_SHARE = 0.035  # of the families
HELD_OUT_DRAW = 292  # of the draws tried, one that holds out 56 of 2096 objects, from scans to flat colors


def family(name: str) -> str:
    """The first two words of an object's name, without numbers: all of its pack, or all that are called alike."""
    return "_".join(word.rstrip("0123456789") for word in name.split("_")[:2])


def held_out(name: str) -> bool:
    """Whether an object is kept from training: by its family, so that nothing nearly the same is trained on."""
    digest = hashlib.sha256(f"{HELD_OUT_DRAW}:{family(name)}".encode()).digest()
    return int.from_bytes(digest[:4], "big") < HELD_OUT_SHARE * 2**32


def to_grid(vertices: np.ndarray, faces: np.ndarray, corner_uv: np.ndarray, grain: Grain) -> GridMesh:
    """A mesh on the grids of a pack: triangles without area are left out, equal corners are one vertex.

    Args:
        vertices: [V, 3]. faces: [F, 3]. corner_uv: [F, 3, 2], v up; on the grid it runs down, as in glTF.
    """
    from sv3d_pipe.geometry.meshes import same_places

    low, longest = vertices[faces].min((0, 1)), np.ptp(vertices[faces], axis=(0, 1)).max()
    steps = (vertices - low) / longest * (2**grain.position_bits - 1)
    points = np.round(steps).astype(np.int32)[faces].reshape(-1, 3)  # [3F, 3]
    down = np.stack([corner_uv[..., 0], 1 - corner_uv[..., 1]], -1).reshape(-1, 2)
    texels = 2**grain.uv_bits
    last = max(1, np.ceil(down.max())) * texels - 1  # so that 1, the end of a texture, does not wrap around
    uv = np.minimum(np.floor(down * texels), last).astype(np.int32)
    a, b, c = same_places(points)[1].reshape(-1, 3).T
    kept = np.repeat((a != b) & (b != c) & (c != a), 3)
    points, uv = points[kept], uv[kept]
    first_place, place = same_places(points)
    first_vertex, vertex = same_places(np.concatenate([points, uv], 1))
    faces, place_of = vertex.reshape(-1, 3).astype(np.int32), place[first_vertex].astype(np.int32)
    return GridMesh(faces, place_of, points[first_place], uv[first_vertex])


def picture_bytes(rgb: np.ndarray, corner_uv: np.ndarray, grain: Grain) -> bytes:
    """A texture [H, W, 3] uint8 as WebP, without loss and in its own size if it is a palette.

    Args:
        corner_uv: [F, 3, 2], v up, where triangles look at it.
    """
    exact = _webp(rgb, lossless=True, quality=50, method=3)
    if len(exact) <= PALETTE_BYTES:
        return exact
    rgb, scale = spread(rgb, corner_uv), grain.texture / max(rgb.shape[:2])
    if scale < 1:
        height, width = (max(1, round(scale * side)) for side in rgb.shape[:2])
        rgb = cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA)
    return _webp(rgb, quality=grain.quality, method=5)


def spread(rgb: np.ndarray, corner_uv: np.ndarray) -> np.ndarray:
    """A texture whose unseen texels have the color of the nearest seen one: shrinking then mixes in nothing else.

    One that repeats, so that coordinates lie outside [0, 1], stays as it is.
    """
    if corner_uv.min() < 0 or corner_uv.max() > 1:
        return rgb
    height, width = rgb.shape[:2]
    down = np.stack([corner_uv[..., 0], 1 - corner_uv[..., 1]], -1)  # [F, 3, 2]
    corners = np.round((down * (width, height) - 0.5) * 16).astype(np.int32)  # texels, 4 bits of fraction
    unseen = np.ones((height, width), np.uint8)
    for triangle in corners:
        cv2.fillConvexPoly(unseen, triangle, 0, shift=4)
    _, nearest = cv2.distanceTransformWithLabels(unseen, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    colors = np.zeros((nearest.max() + 1, 3), np.uint8)
    colors[nearest[unseen == 0]] = rgb[unseen == 0]
    return colors[nearest]


def _webp(rgb: np.ndarray, **how) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "WEBP", **how)
    return buffer.getvalue()


def pack_object(path: Path, grain: Grain) -> tuple[Told, bytes]:
    """One object's mesh and picture. Raises UserError if it cannot be read or nothing of it is left."""
    from sv3d_pipe.render.objects import load_object

    cv2.setNumThreads(1)
    obj = load_object(path)
    mesh = to_grid(obj.vertices, obj.faces, obj.corner_uv, grain)
    if not len(mesh.faces):
        raise UserError(f"{path} has no triangle with an area; remove it.")
    return tell(mesh), picture_bytes((obj.texture * 255 + 0.5).astype(np.uint8), obj.corner_uv, grain)


def pack(folder: Path, out: Path, grain: Grain, limit_mib: float, workers: int) -> dict[str, int]:
    """All ``*.glb`` of a folder into one file; the bytes of each kind.

    Raises UserError, and writes nothing, if there is no object or the file would be larger than the limit.
    """
    paths = sorted(folder.glob("*.glb"))
    if not paths:
        raise UserError(f"{folder} holds no .glb files.")
    packed = _shared_out(partial(pack_object, grain=grain), paths, workers)
    runs, faces = [[]], 0
    for i, (mesh, _) in enumerate(packed):
        if faces >= FACES_IN_GROUP:
            runs, faces = [*runs, []], 0
        runs[-1].append(i)
        faces += mesh.n_faces
    streams = _shared_out(compress, [[packed[i][0] for i in members] for members in runs], workers)
    number = {picture: k for k, picture in enumerate(dict.fromkeys(picture for _, picture in packed))}
    groups = [
        ([paths[i].stem for i in members], [number[packed[i][1]] for i in members], *compressed)
        for members, compressed in zip(runs, streams)
    ]
    half = out.with_name(f".{out.name}.partial")
    sizes = write_pack(half, grain, groups, list(number))
    mib = half.stat().st_size / 2**20
    if mib > limit_mib:
        half.unlink()
        raise UserError(
            f"The objects take {mib:.1f} MiB, more than {limit_mib:g}; choose fewer --texture, --quality or "
            "--position-bits."
        )
    half.replace(out)
    return sizes


def unpack(path: Path, out: Path, workers: int) -> int:
    """Write the objects of a pack as GLB files into ``out/training`` and ``out/held_out``; how many there are."""
    found = read_pack(path)
    for name in ("training", "held_out"):
        (out / name).mkdir(parents=True, exist_ok=True)
    return sum(_shared_out(partial(_unpack_group, found, out), range(len(found.groups)), workers))


def _unpack_group(found: Pack, out: Path, number: int) -> int:
    cv2.setNumThreads(1)
    group: Group = found.groups[number]
    for name, picture, told in zip(group.names, group.pictures, found.meshes(group)):
        rgb = np.asarray(Image.open(io.BytesIO(found.read(found.pictures[picture]))).convert("RGB"))
        folder = out / ("held_out" if held_out(name) else "training")
        (folder / f"{name}.glb").write_bytes(glb_bytes(rebuild(told), rgb, found.grain))
    return len(group.names)


def glb_bytes(mesh: GridMesh, rgb: np.ndarray, grain: Grain) -> bytes:
    """A binary glTF 2.0 file of a mesh on the grid and its texture [H, W, 3] uint8 (as PNG, without loss)."""
    points = mesh.places / np.float32(2**grain.position_bits - 1)
    points = (points - (points.min(0) + points.max(0)) / 2).astype("<f4")[mesh.place_of]  # [V, 3]
    uv = ((mesh.uv + 0.5) / 2**grain.uv_bits).astype("<f4")
    png = cv2.imencode(".png", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, 1])[1]
    parts = [points.tobytes(), uv.tobytes(), mesh.faces.astype("<u4").tobytes(), png.tobytes()]
    parts = [part + bytes(-len(part) % 4) for part in parts]
    offsets = np.cumsum([0, *map(len, parts)]).tolist()
    document = {
        "asset": {"version": "2.0"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0, "TEXCOORD_0": 1}, "indices": 2, "material": 0}]}],
        "materials": [
            {
                "pbrMetallicRoughness": {"baseColorTexture": {"index": 0}, "metallicFactor": 0},
                "doubleSided": True,
            }
        ],
        "textures": [{"source": 0}],
        "images": [{"bufferView": 3, "mimeType": "image/png"}],
        "buffers": [{"byteLength": offsets[-1]}],
        "bufferViews": [
            {"buffer": 0, "byteOffset": offset, "byteLength": len(part)} for offset, part in zip(offsets, parts)
        ],
        "accessors": [
            {
                "bufferView": 0, "componentType": 5126, "count": len(points), "type": "VEC3",
                "min": points.min(0).tolist(), "max": points.max(0).tolist(),
            },
            {"bufferView": 1, "componentType": 5126, "count": len(uv), "type": "VEC2"},
            {"bufferView": 2, "componentType": 5125, "count": mesh.faces.size, "type": "SCALAR"},
        ],
    }  # fmt: skip
    header = json.dumps(document, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 4)
    length = 12 + 8 + len(header) + 8 + offsets[-1]
    sizes = [
        length.to_bytes(4, "little"),
        len(header).to_bytes(4, "little"),
        offsets[-1].to_bytes(4, "little"),
    ]
    front = b"glTF\x02\0\0\0" + sizes[0] + sizes[1] + b"JSON" + header
    return b"".join([front, sizes[2], b"BIN\0", *parts])


def compare(folder: Path, unpacked: Path, limit: int, size: int) -> dict[str, float]:
    """PSNR in dB of lit renders of originals and unpacked objects from four sides: objects spread over the folder."""
    from sv3d_pipe.cameras import orbit
    from sv3d_pipe.evaluate.picture_scores import psnr
    from sv3d_pipe.render.draw import load_object, render_views
    from sv3d_pipe.render.lighting import Studio

    paths = sorted(unpacked.glob("*/*.glb"), key=lambda path: path.name)
    studio, scores = Studio.random(np.random.default_rng(0)), {}
    for path in paths[:: max(1, len(paths) // limit)][:limit]:
        pair = [load_object(folder / path.name), load_object(path)]
        cameras = orbit([20.0, 110.0, 200.0, 290.0], 15.0, pair[0].camera_radius())
        scores[path.stem] = float(psnr(*(render_views(obj, cameras, size, studio) for obj in pair)).mean())
    return scores


def _shared_out(work: Callable[[T], R], items: Iterable[T], workers: int) -> list[R]:
    """What work makes of the items, in their order; one worker is this very process."""
    places = [with_threads(1)] * workers if workers > 1 else []
    done = each(list(enumerate(items)), partial(_numbered, work), _give_up, places)
    return [made for _, made in sorted(((number, made) for (number, _), made in done), key=itemgetter(0))]


def _numbered(work: Callable[[T], R], item: tuple[int, T]) -> R:
    return work(item[1])


def _give_up(item: tuple[int, object]) -> None:
    raise UserError(f"The process that worked on number {item[0]} died twice; try fewer --workers.")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    packing, unpacking = verbs.add_parser("pack"), verbs.add_parser("unpack")
    comparing = verbs.add_parser("compare", help="PSNR of renders, originals against unpacked objects")
    packing.add_argument("objects", type=Path, help="folder of GLB files")
    packing.add_argument("-o", "--out", type=Path, required=True, help="file to write")
    packing.add_argument("--limit-mib", type=float, default=27.0, help="write no larger file")
    for name, value in vars(Grain()).items():
        packing.add_argument("--" + name.replace("_", "-"), type=int, default=value)
    unpacking.add_argument("pack", type=Path)
    unpacking.add_argument("-o", "--out", type=Path, required=True, help="folder for the GLB files")
    for verb in (packing, unpacking):
        verb.add_argument("--workers", type=int, default=os.cpu_count())
    comparing.add_argument("objects", type=Path, help="folder that was packed")
    comparing.add_argument("unpacked", type=Path, help="folder that was unpacked into")
    comparing.add_argument("--limit", type=int, default=20)
    comparing.add_argument("--size", type=int, default=128)
    return parser.parse_args()


def main() -> None:
    options, start = parse(), time.perf_counter()
    if options.verb == "pack":
        grain = Grain(**{name: getattr(options, name) for name in vars(Grain())})
        sizes = pack(options.objects, options.out, grain, options.limit_mib, options.workers)
        for kind, size in sizes.items():
            print(f"{kind:>9} {size / 2**20:7.2f} MiB")
        print(f"{options.out.stat().st_size / 2**20:.2f} MiB", end=" ")
    elif options.verb == "unpack":
        print(f"{unpack(options.pack, options.out, options.workers)} objects", end=" ")
    else:
        scores = compare(options.objects, options.unpacked, options.limit, options.size)
        for name, score in sorted(scores.items(), key=lambda item: item[1]):
            print(f"{score:6.1f} dB  {name}")
        print(f"mean {np.mean(list(scores.values())):.1f} dB", end=" ")
    print(f"in {time.perf_counter() - start:.1f} s")


if __name__ == "__main__":
    run(main)
