"""Captures: pictures of a red ball from twelve cameras around it, and all that can be wrong with them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from inputs.case import Case
from inputs.pictures import RED, save_as_lab, turned_by_exif
from sv3d_pipe.cameras import orbit

COUNT, SIDE, DISTANCE, FOV_DEG = 12, 128, 3.0, 40.0
FIELDS = {"camera_angle_x": float(np.radians(FOV_DEG))}
NERF = ("nerf", "{here}/capture", "-o", "{here}/out", "--steps", "40", "--samples", "2048", "--surface", "32")


def ball() -> np.ndarray:
    """[SIDE, SIDE, 4] uint8: a ball of radius 1/2 from any of the cameras."""
    y, x = np.mgrid[:SIDE, :SIDE] + 0.5 - SIDE / 2
    focal = SIDE / 2 / np.tan(np.radians(FOV_DEG / 2))
    inside = np.hypot(x, y) < focal * np.tan(np.arcsin(0.5 / DISTANCE))
    return np.dstack([np.full((SIDE, SIDE, 3), RED), inside * 255]).astype(np.uint8)


def write(here: Path, save: Callable[[Path, np.ndarray], object] | None = None, name: str = "{}.png") -> Path:
    """The capture; returns its transforms.json."""
    folder = here / "capture"
    folder.mkdir()
    elevation_deg = 20 * np.sin(np.arange(COUNT))
    frames = []
    for index, c2w in enumerate(orbit(np.arange(COUNT) * 360 / COUNT, elevation_deg, DISTANCE).c2w):
        path = name.format(index)
        if save is None:
            Image.fromarray(ball()).save(folder / path)
        else:
            save(folder / path, ball())
        frames.append({"file_path": path, "transform_matrix": [*c2w.tolist()[:3], [0, 0, 0, 1]]})
    (folder / "transforms.json").write_text(json.dumps(FIELDS | {"frames": frames}))
    return folder / "transforms.json"


def changed(change: Callable[[dict], object]) -> Callable[[Path], object]:
    """A capture whose document was changed."""

    def make(here: Path) -> None:
        path = write(here)
        document = json.loads(path.read_text())
        change(document)
        path.write_text(json.dumps(document))

    return make


def text(edit: Callable[[str], str], encoding: str = "utf-8") -> Callable[[Path], object]:
    """A capture whose transforms.json was edited as text."""

    def make(here: Path) -> None:
        path = write(here)
        path.write_bytes(edit(path.read_text()).encode(encoding))

    return make


def first(**fields) -> Callable[[Path], object]:
    """A capture whose first frame says something else; None takes a field away."""

    def change(document: dict) -> None:
        for key, value in fields.items():
            if value is None:
                document["frames"][0].pop(key, None)
            else:
                document["frames"][0][key] = value

    return changed(change)


def is_the_ball(color: tuple[int, int, int] = RED, count: int = COUNT, tolerance: int = 14):
    """All frames show a round thing of this color."""

    def right(here: Path) -> str | None:
        frames = sorted((here / "out" / "2-capture" / "frames").glob("*.png"))
        if len(frames) != count:
            return f"{len(frames)} frames, not {count}"
        for path in frames:
            found = np.asarray(Image.open(path).convert("RGBA")).astype(float)
            inside = found[..., 3] > 200
            rows, columns = inside.any(1).sum(), inside.any(0).sum()
            filled = inside.sum() / max(rows * columns, 1)
            if abs(filled - np.pi / 4) > 0.05 or abs(rows - columns) > 0.05 * rows:
                return f"{path.name} shows {columns} x {rows} pixels, {filled:.0%} of them filled: no disc"
            mean = found[inside][:, :3].mean(0)
            if np.abs(mean - color).max() > tolerance:
                return f"the color of {path.name} is {mean.round().tolist()}"
        return None

    return right


def _whitened(rgba: np.ndarray) -> Image.Image:
    return Image.fromarray(np.where(rgba[..., 3:] > 0, rgba[..., :3], 255).astype(np.uint8))


def _on_white(path: Path, rgba: np.ndarray) -> None:
    _whitened(rgba).save(path)


def _rotated(path: Path, rgba: np.ndarray) -> None:
    Image.fromarray(rgba).rotate(90).save(path, exif=turned_by_exif())


def _sixteen(path: Path, rgba: np.ndarray) -> None:
    import cv2

    cv2.imwrite(str(path), np.ascontiguousarray(rgba[..., [2, 1, 0, 3]].astype(np.uint16) * 257))


def _in_lab(path: Path, rgba: np.ndarray) -> None:
    save_as_lab(_whitened(rgba), path)


def _masked(mask: Callable[[np.ndarray], Image.Image]) -> Callable[[Path], object]:
    def make(here: Path) -> None:
        path = write(here, _on_white)
        document = json.loads(path.read_text())
        for index, frame in enumerate(document["frames"]):
            mask(ball()[..., 3]).save(path.parent / f"mask{index}.png")
            frame["mask_path"] = f"mask{index}.png"
        path.write_text(json.dumps(document))

    return make


def _in_alpha(alpha: np.ndarray) -> Image.Image:
    return Image.fromarray(np.dstack([np.full((*alpha.shape, 3), 255), alpha]).astype(np.uint8))


def _first_picture(replace: Callable[[Path], object]) -> Callable[[Path], object]:
    def make(here: Path) -> None:
        path = write(here).parent / "0.png"
        path.unlink()
        replace(path)

    return make


def cases() -> Iterator[Case]:
    def taken(name, make, right=None, says=""):
        return Case("captures", name, NERF, make, says, right or is_the_ball())

    def refused(name, make, says=""):
        return Case("captures", name, NERF, make, says)

    pose = np.eye(4)
    yield taken("pictures with alpha", write)
    yield taken("pictures on white", lambda h: write(h, _on_white))
    yield taken("16-bit pictures", lambda h: write(h, _sixteen))
    yield taken("L*a*b* TIFFs with their profile", lambda h: write(h, _in_lab, "{}.tif"))
    yield taken("pictures with EXIF rotation", lambda h: write(h, _rotated, "{}.png"))
    yield taken("masks", _masked(Image.fromarray))
    yield taken("masks in their alpha", _masked(_in_alpha))
    yield taken("16-bit masks", _masked(lambda a: Image.fromarray(a.astype(np.uint16) * 257)))
    yield taken("a byte order mark", text(lambda t: "\ufeff" + t))
    yield taken("Windows line ends", text(lambda t: t.replace(", ", ",\r\n")))
    yield taken("camera_model: null", changed(lambda d: d.update(camera_model=None)))
    yield taken(
        "backslashes in paths",
        lambda h: (
            (write(h).parent / "deep").mkdir(),
            [os.rename(h / f"capture/{i}.png", h / f"capture/deep/{i}.png") for i in range(COUNT)],
            text_in(h, lambda t: t.replace('"file_path": "', '"file_path": "deep\\\\')),
        ),
    )
    yield taken("paths without ending", text(lambda t: t.replace(".png", "")))
    yield taken("fields nobody knows", changed(lambda d: d.update(weather="fine", aabb_scale=16)))
    yield refused("inverted masks", _masked(lambda a: Image.fromarray(255 - a)), "background")
    yield refused("full masks", _masked(lambda a: Image.fromarray(np.full_like(a, 255))))
    yield refused("empty masks", _masked(lambda a: Image.fromarray(np.zeros_like(a))))
    yield refused("masks of another size", _masked(lambda a: Image.fromarray(a[:50, :30].copy())), "mask")
    yield refused("not JSON", text(lambda t: t[:200]), "JSON")
    yield taken("UTF-16", text(lambda t: t, "utf-16"))
    yield refused("an empty file", text(lambda t: ""), "JSON")
    yield refused("a list", text(lambda t: "[]"))
    yield refused("100,000 brackets deep", text(lambda t: "[" * 100_000))
    yield refused("no frames", changed(lambda d: d.pop("frames")), "frames")
    yield refused("frames: {}", changed(lambda d: d.update(frames={})), "frames")
    yield refused("two frames", changed(lambda d: d.update(frames=d["frames"][:2])), "frames")
    yield refused(
        "the same camera for all",
        changed(
            lambda d: [f.update(transform_matrix=d["frames"][0]["transform_matrix"]) for f in d["frames"]]
        ),
    )
    yield refused("no matrix", first(transform_matrix=None), "transform_matrix")
    yield refused("a matrix of text", first(transform_matrix="identity"), "transform_matrix")
    yield refused("a matrix of NaN", first(transform_matrix=(pose * np.nan).tolist()), "transform_matrix")
    yield refused("a matrix of 10^300", first(transform_matrix=(pose * 1e300).tolist()), "transform_matrix")
    yield refused("a matrix of zeros", first(transform_matrix=(pose * 0).tolist()), "transform_matrix")
    yield refused(
        "a mirrored matrix", first(transform_matrix=np.diag([-1.0, 1, 1, 1]).tolist()), "transform_matrix"
    )
    yield refused("no intrinsics", changed(lambda d: d.pop("camera_angle_x")), "camera_angle_x|fl_x|focal")
    yield refused("camera_angle_x: 7", changed(lambda d: d.update(camera_angle_x=7.0)))
    yield refused("camera_angle_x: NaN", changed(lambda d: d.update(camera_angle_x=float("nan"))))
    yield refused("camera_angle_x: text", changed(lambda d: d.update(camera_angle_x="wide")))
    yield refused(
        "fl_x: 10^400", text(lambda t: t.replace('"frames"', '"fl_x": 1' + "0" * 400 + ', "frames"'))
    )
    yield refused(
        "a fisheye lens nobody reads",
        changed(lambda d: d.update(camera_model="EQUIRECTANGULAR")),
        "camera_model|lens|EQUIRECT",
    )
    yield refused("w and h of another picture", changed(lambda d: d.update(w=640, h=480)), "w and h|640|size")
    yield refused("a picture that is not there", _first_picture(lambda p: None), "missing")
    yield refused("a picture that is text", _first_picture(lambda p: p.write_text("x")))
    yield refused("a picture that is a pipe", _first_picture(os.mkfifo), "missing|regular|not a file")
    yield refused("a picture that is a folder", _first_picture(lambda p: p.mkdir()))
    yield taken(
        "one small picture among large ones",
        _first_picture(lambda p: Image.fromarray(ball()[::2, ::2].copy()).save(p)),
    )
    yield refused("file_path: 7", first(file_path=7), "file_path")
    yield refused("a folder without transforms.json", lambda h: (h / "capture").mkdir())
    yield taken(
        "500 frames: 300 of them",
        changed(lambda d: d.update(frames=(d["frames"] * 50)[:500])),
        is_the_ball(count=300),
        "300 of the 500",
    )


def text_in(here: Path, edit: Callable[[str], str]) -> None:
    path = here / "capture" / "transforms.json"
    path.write_text(edit(path.read_text()))
