"""Scenes of several objects whose places are known: how right are the places, and do the outlines fit?

    python benchmarks/scenes.py --objects DIR --out out/scenes
    python benchmarks/scenes.py --objects DIR --out out/scenes --meshes road --count 2

Two or three objects of a folder of meshes are stood on a common ground, at random places, sizes and turns, and
photographed with a transparent background by a camera of known elevation. With ``--meshes true`` their own meshes are
placed again by what the photo shows, which judges the placing alone; with ``--meshes road`` the whole road is run.
Positions and sizes are compared in scenes whose boxes are centered and have a longest side of 1.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sv3d_pipe.contact_sheet import strip
from sv3d_pipe.geometry.extent import unit_box
from sv3d_pipe.pictures import on_white, save_png
from sv3d_pipe.placing.arrange import Arrangement, arrange
from sv3d_pipe.placing.build import read_subject
from sv3d_pipe.placing.check import drawn
from sv3d_pipe.placing.photo_camera import PhotoCamera, about_y
from sv3d_pipe.placing.subject import Pose, Subject
from sv3d_pipe.prep.frame import recenter, square_around
from sv3d_pipe.prep.parts import bounding_box
from sv3d_pipe.render.draw import render_views
from sv3d_pipe.render.objects import Object, load_object

WIDTH, HEIGHT = 960, 720
ELEVATIONS = (5.0, 30.0)  # degrees
SIZES = (0.5, 1.0)  # longest sides of the objects; the camera's height follows from its elevation
LEAST_SHARE = 0.02  # of the photo's pixels that an object covers at least
MOST_HIDDEN = 0.05  # of an object


@dataclass(frozen=True)
class Truth:
    """A scene and its photo.

    Attributes:
        objects: of longest side 1. poses: of them, in the world of the camera.
        rgba: [n, H, W, 4] each object as far as no other one hides it.
    """

    names: list[str]
    objects: list[Object]
    poses: list[Pose]
    camera: PhotoCamera
    rgba: np.ndarray

    @property
    def photo(self) -> np.ndarray:
        """[H, W, 4] straight alpha."""
        alpha = self.rgba[..., 3:]
        total = np.clip(alpha.sum(0), 0, 1)
        return np.concatenate(
            [(self.rgba[..., :3] * alpha).sum(0) / np.maximum(alpha.sum(0), 1e-6), total], -1
        )


def compose(paths: list[Path], rng: np.random.Generator) -> Truth:
    """A scene of two or three of the meshes, drawn again until all of them are seen."""
    while True:
        count = int(rng.integers(2, 4))
        chosen = [paths[k] for k in rng.choice(len(paths), count, replace=False)]
        camera = PhotoCamera.of(WIDTH, HEIGHT, float(rng.uniform(*ELEVATIONS)))
        objects = [load_object(path) for path in chosen]
        away = 1 / np.tan(np.radians(camera.elevation_deg))  # where the axis meets the ground
        unit = np.hypot(1, away) / 5  # what has the longest side 1 spans a third of the photo's width there
        poses = []
        for obj in objects:
            turn, scale = rng.uniform(-180, 180), unit * rng.uniform(*SIZES)
            low = obj.vertices[:, 1].min()
            x, z = unit * rng.uniform(-1.2, 1.2), -away + unit * rng.uniform(-1.5, 1.0)
            poses.append(Pose(about_y(turn), scale, np.array([x, -low * scale, z])))
        truth = photograph([path.stem for path in chosen], objects, poses, camera)
        if truth is not None:
            return truth


def photograph(
    names: list[str], objects: list[Object], poses: list[Pose], camera: PhotoCamera
) -> Truth | None:
    """The scene and its photo; None if an object is small, cut off or hidden."""
    window = camera.square(WIDTH)
    order = np.argsort([np.linalg.norm(pose.position - camera.c2w[:3, 3]) for pose in poses])
    pictures, clear = [None] * len(poses), np.ones((WIDTH, WIDTH, 1), np.float32)
    for k in order:
        placed = replace(objects[k], vertices=poses[k].places(objects[k].vertices))
        own = render_views(placed, window.cameras, WIDTH, supersample=2)[0]
        seen = np.concatenate([own[..., :3], own[..., 3:] * clear], -1)
        clear = clear * (1 - own[..., 3:])
        share = own[..., 3].mean() * WIDTH / HEIGHT
        rows, columns = np.nonzero(own[..., 3] > 0)
        border = (WIDTH - HEIGHT) // 2
        if share < LEAST_SHARE or seen[..., 3].sum() < (1 - MOST_HIDDEN) * own[..., 3].sum():
            return None
        if (
            min(
                columns.min(), rows.min() - border, WIDTH - 1 - columns.max(), WIDTH - 1 - border - rows.max()
            )
            < 4
        ):
            return None
        pictures[k] = seen[border : border + HEIGHT]
    return Truth(names, objects, poses, camera, np.stack(pictures))


def true_subjects(truth: Truth) -> list[Subject]:
    """The scene's own meshes as the road would hand them on: their fronts to the camera, longest side 1."""
    subjects = []
    for name, obj, pose, rgba in zip(truth.names, truth.objects, truth.poses, truth.rgba):
        framed = recenter(rgba, 0.8, 576)
        crop = square_around(bounding_box(rgba[..., 3]), 0.8)
        subject = Subject(name, obj.vertices, obj.faces, framed[..., 3], crop)
        seen = obj.vertices @ (truth.camera.facing(*subject.middle).T @ pose.rotation).T
        subjects.append(replace(subject, vertices=unit_box(seen)[0].astype(np.float32)))
    return subjects


def road_subjects(truth: Truth, folder: Path, settings: dict[str, str]) -> tuple[list[Subject], Arrangement]:
    """What the whole road makes of the photo, the objects' boxes given, in the order of the boxes."""
    from sv3d_pipe.scenes import Image2Scene

    save_png(folder / "photo.png", truth.photo)
    boxes = [",".join(map(str, bounding_box(rgba[..., 3]))) for rgba in truth.rgba]
    values = {"orbit.elevation_deg": truth.camera.elevation_deg} | settings
    result = Image2Scene.from_preset("draft", values)(folder / "photo.png", folder / "work", boxes=boxes)
    subjects = [read_subject(run.name, run.result.workspace) for run in result.objects]
    return subjects, arrange(subjects, truth.camera)


def errors(truth: Truth, subjects: list[Subject], found: Arrangement) -> list[dict[str, float]]:
    """Of every object, the error of its box's middle and of its longest side, in a scene of size 1; and its IoU."""
    right = _boxes([p.places(o.vertices) for o, p in zip(truth.objects, truth.poses)])
    ours = _boxes([p.places(s.vertices) for s, p in zip(subjects, found.poses)])
    return [
        {
            "object": name,
            "position": float(np.linalg.norm(a.mean(0) - b.mean(0))),
            "size": float(abs(np.ptp(a, axis=0).max() - np.ptp(b, axis=0).max())),
            "iou": iou,
            "on_ground": pose.on_ground,
        }
        for name, a, b, iou, pose in zip(truth.names, right, ours, found.ious, found.poses)
    ]


def _boxes(parts: list[np.ndarray]) -> list[np.ndarray]:
    """[2, 3] low and high corners of every part in the scene of all, brought to size 1."""
    _, scale, center = unit_box(np.concatenate(parts))
    return [(np.stack([part.min(0), part.max(0)]) - center) / scale for part in parts]


COLORS = np.array([[0.85, 0.3, 0.2], [0.2, 0.45, 0.85], [0.25, 0.65, 0.3]], np.float32)


def picture(truth: Truth, subjects: list[Subject], found: Arrangement) -> np.ndarray:
    """The photo, and the placed meshes over its outlines."""
    window = truth.camera.square(WIDTH)
    window = replace(window, cameras=replace(window.cameras, c2w=found.c2w[None].astype(np.float32)))
    seen = drawn(subjects, found.poses, window)
    shown = np.where((seen >= 0)[..., None], COLORS[seen], 1)
    border = (WIDTH - HEIGHT) // 2
    photo = on_white(truth.photo)
    return strip([photo, 0.6 * shown[border : border + HEIGHT] + 0.4 * photo], HEIGHT // 2)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--objects", type=Path, required=True, help="folder of meshes")
    parser.add_argument("--count", type=int, default=20, help="number of scenes")
    parser.add_argument("--meshes", choices=("true", "road"), default="true")
    parser.add_argument(
        "--assume-elevation",
        type=float,
        metavar="DEG",
        help="with true meshes: another elevation than the true one",
    )
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="of the road")
    parser.add_argument("--seed", type=int, default=23)
    parser.add_argument("--out", type=Path, default=Path("out/scenes"))
    return parser.parse_args()


def main() -> None:
    arguments = parse()
    paths = sorted(path for path in arguments.objects.iterdir() if path.suffix in (".glb", ".obj", ".ply"))
    rows, scenes = [], []
    for number in range(arguments.count):
        truth = compose(paths, np.random.default_rng([arguments.seed, number]))
        folder = arguments.out / arguments.meshes / f"{number:02d}"
        folder.mkdir(parents=True, exist_ok=True)
        if arguments.meshes == "true":
            subjects = true_subjects(truth)
            camera = truth.camera
            if arguments.assume_elevation is not None:
                camera = replace(camera, elevation_deg=arguments.assume_elevation)
            found = arrange(subjects, camera)
        else:
            settings = dict(item.split("=", 1) for item in arguments.set)
            subjects, found = road_subjects(truth, folder, settings)
        mine = errors(truth, subjects, found)
        save_png(folder / "scene.png", picture(truth, subjects, found))
        rows += mine
        scenes.append(found.iou)
        print(f"scene {number:2d}, elevation {truth.camera.elevation_deg:4.1f}, IoU {found.iou:.3f}")
        for row in mine:
            print(
                f"   {row['object'][:40]:40s} position {row['position']:.3f}  size {row['size']:.3f}"
                f"  IoU {row['iou']:.3f}  {'' if row['on_ground'] else 'not on the ground'}"
            )
    (arguments.out / arguments.meshes / "scenes.json").write_text(json.dumps(rows, indent=1))
    median = {key: float(np.median([row[key] for row in rows])) for key in ("position", "size", "iou")}
    print(
        f"{len(scenes)} scenes, {len(rows)} objects: median error of position {median['position']:.4f}, of size"
        f" {median['size']:.4f}; median IoU of objects {median['iou']:.3f}, of scenes {np.median(scenes):.3f},"
        f" least {min(scenes):.3f}"
    )


if __name__ == "__main__":
    main()
