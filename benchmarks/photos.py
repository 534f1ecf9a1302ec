"""The whole road over a folder of photos: does every photo become a usable mesh, how good, how fast.

    python benchmarks/photos.py --photos DIR --preset draft --out out/photos

Every photo is run by img2mesh in a process of its own, so that the peak memory is that photo's.
Checked from the files alone: the GLB opens with a texture, one component dominates, the faces are
between 2k and 200k, and the front view rendered from the photo's camera matches the prepared photo.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import trimesh
from report import contact_sheet, mean, print_table, resumed, strip, write_json

from sv3d_pipe.artifacts import load_png, save_png
from sv3d_pipe.cameras import load_transforms, orbit
from sv3d_pipe.evaluate.images import psnr, silhouette_iou
from sv3d_pipe.train.render import Object, load_object, render_views

STAGES = ("1-prep", "2-orbit", "3-nerf", "4-refine", "5-export")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif")
FACES = (2_000, 200_000)
DOMINANT = 0.9  # share of the surface area that the largest component must have
BYTES_PER_MAXRSS = 1 if sys.platform == "darwin" else 1024


def find_photos(folder: Path) -> list[Path]:
    """The pictures of a folder; ``*.matte.png`` are ground-truth mattes, not photos."""
    paths = (p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES)
    return sorted(p for p in paths if not p.stem.endswith(".matte"))


def convert(photo: Path, workspace: Path, options: argparse.Namespace) -> dict:
    """Run img2mesh on one photo: exit code, seconds and peak memory in MB of the process."""
    program = [sys.executable, "-c", "from sv3d_pipe.cli import main; main()"]
    arguments = [
        "run",
        str(photo),
        "-o",
        str(workspace),
        "--preset",
        options.preset,
        "--device",
        options.device,
    ]
    overrides = [word for item in options.set for word in ("--set", item)]
    start = time.perf_counter()
    with (workspace.parent / "log.txt").open("wb") as log:
        child = subprocess.Popen([*program, *arguments, *overrides], stdout=log, stderr=log)
        _, status, usage = os.wait4(child.pid, 0)
    return {
        "exit": os.waitstatus_to_exitcode(status),
        "seconds": time.perf_counter() - start,
        "peak_mb": usage.ru_maxrss * BYTES_PER_MAXRSS / 2**20,
    }


def examine(workspace: Path, folder: Path) -> dict:
    """What the files of a finished workspace say about the mesh; writes a strip of pictures."""
    root = next(p.parent for p in workspace.rglob("1-prep") if p.is_dir())
    records = {stage: json.loads((root / stage / "stage.json").read_text()) for stage in STAGES}
    glb = next((root / "5-export").glob("*.glb"))
    mesh = trimesh.load(glb, force="mesh", process=False)
    texture = getattr(getattr(mesh.visual, "material", None), "baseColorTexture", None)
    prepared = load_png(root / "1-prep" / "photo.png")
    cameras, _ = load_transforms(root / "2-orbit" / "transforms.json")
    obj = in_world(glb, records["5-export"]["metrics"]["transform"])
    front = render_views(obj, cameras[-1], len(prepared), supersample=2)
    around = render_views(obj, orbit([90.0, 180.0, 270.0], 10.0), 192, supersample=2)
    save_png(folder / "strip.png", strip([prepared, front[0], *around], 192))
    return {
        "textured": texture is not None,
        "faces": len(mesh.faces),
        "component": largest_component(mesh),
        "front_psnr": float(psnr(front, prepared[None])[0]),
        "front_iou": float(silhouette_iou(front, prepared[None])[0]),
        **{f"{stage[2:]}_s": records[stage]["seconds"] for stage in STAGES},
    }


def in_world(glb: Path, transform: dict) -> Object:
    """An exported mesh brought back to the world of the cameras (see export's metrics)."""
    obj = load_object(glb)
    vertices = obj.vertices * transform["scale"] + np.asarray(transform["center"])
    return replace(obj, vertices=vertices.astype(np.float32))


def largest_component(mesh: trimesh.Trimesh) -> float:
    """Share of the area that the largest connected component has; texture seams are closed first."""
    whole = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    whole.merge_vertices()
    labels = trimesh.graph.connected_component_labels(whole.face_adjacency, node_count=len(whole.faces))
    area = np.bincount(labels, whole.area_faces)
    return float(area.max() / area.sum())


def attempt(photo: Path, options: argparse.Namespace, folder: Path) -> dict:
    """One photo's row; a failed run leaves a row with its exit code and last line."""
    row = convert(photo, folder / "workspace", options)
    if row["exit"] != 0:
        lines = (folder / "log.txt").read_text(errors="replace").strip().splitlines()
        return row | {"good": False, "error": lines[-1] if lines else ""}
    row |= examine(folder / "workspace", folder)
    good = row["textured"] and FACES[0] <= row["faces"] <= FACES[1] and row["component"] >= DOMINANT
    return row | {"good": good}


def summarize(rows: list[dict]) -> dict:
    """Counts, means, medians and the three worst front views."""
    done = [r for r in rows if r["exit"] == 0]
    timed = ["seconds", *(f"{stage[2:]}_s" for stage in STAGES)]
    worst = sorted(done, key=lambda r: r["front_psnr"])[:3]
    return {
        "photos": len(rows),
        "meshes": len(done),
        "good": sum(r["good"] for r in rows),
        **mean(done, ["front_psnr", "front_iou"]),
        "worst": {r["name"]: round(r["front_psnr"], 2) for r in worst},
        "median_s": {c: round(float(np.median([r[c] for r in done])), 1) for c in timed} if done else {},
        "slowest_s": round(max(r["seconds"] for r in rows), 1),
        "peak_mb": round(max(r["peak_mb"] for r in rows)),
    }


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photos", type=Path, required=True, help="folder of pictures")
    parser.add_argument("--limit", type=int, help="only the first so many")
    parser.add_argument("--preset", default="draft")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="e.g. nerf.steps=800"
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=Path("out/photos"))
    return parser.parse_args()


def main() -> None:
    options = parse()
    photos = find_photos(options.photos)[: options.limit]
    if not photos:
        raise SystemExit(f"{options.photos} holds no photos.")
    settings = {"preset": options.preset, "set": options.set, "device": options.device}
    rows = []
    for photo in photos:
        rows.append(resumed(options.out, photo.name, settings, partial(attempt, photo, options)))
        last = rows[-1]
        outcome = f"{last['front_psnr']:.1f} dB" if last["exit"] == 0 else last["error"]
        print(f"{photo.name}: {outcome}, {last['seconds']:.0f} s, {last['peak_mb']:.0f} MB", flush=True)
    columns = ["good", "faces", "component", "front_psnr", "front_iou", "seconds", "peak_mb"]
    print_table(f"Photos, preset {options.preset}", rows, columns + [f"{stage[2:]}_s" for stage in STAGES])
    summary = summarize(rows)
    print(json.dumps(summary, indent=1))
    write_json(options.out / "photos.json", settings, rows, summary)
    sheet = [(r["name"], load_png(options.out / r["name"] / "strip.png")) for r in rows if r["exit"] == 0]
    contact_sheet(options.out / "photos.png", sheet)


if __name__ == "__main__":
    main()
