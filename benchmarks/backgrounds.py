"""Collect photographs as backgrounds for `img2mesh finetune-matte`.

    python benchmarks/backgrounds.py FOLDER... -o backgrounds

Takes the pictures below the folders, such as unpacked wallpaper packages, each once however many sizes there are,
and looks around in every panorama (`.hdr`, equirectangular). What is too small or nearly one color is left out.

The built-in network was trained on: the Debian packages gnome-backgrounds 43.1 (CC-BY-SA), mate-backgrounds 1.26
(GPL-2+, CC-BY-SA), plasma-workspace-wallpapers 5.27 (CC-BY-SA, LGPL), ukui-wallpapers 20.04 (GPL-3+) and
stellarium-data 0.22 (landscapes, free licences as its copyright file names them), the photographs of
github.com/pop-os/wallpapers (CC0 and like ones), and Poly Haven's panoramas (CC0) in github.com/pmndrs/drei-assets
and github.com/pmndrs/assets without the five that benchmarks/mattes.py judges on.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from command import run
from panorama import look, read_panorama
from PIL import Image

from sv3d_pipe.errors import UserError
from sv3d_pipe.picture_kinds import SUFFIXES
from sv3d_pipe.pictures import read_image

LONGEST = 1400
SMALLEST = 500  # pixels of the shorter side
FLAT = 0.03  # spread of brightness below which a picture is nearly one color
SAME = 0.04  # mean difference of 12 x 12 thumbnails below which two pictures are one
LOOKS = 10  # into a panorama
FOV_DEG = (55.0, 90.0)
DOWN_DEG = (0.0, 30.0)
VIEW = (720, 960)  # height and width of a look


def main() -> None:
    """Write the backgrounds as JPEG files."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    rng, seen, kept = np.random.default_rng(options.seed), [], 0
    for folder in options.folders:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            for number, picture in enumerate(_pictures(path, rng)):
                thumbnail = cv2.resize(picture, (12, 12), interpolation=cv2.INTER_AREA)
                if any(np.abs(thumbnail - other).mean() < SAME for other in seen):
                    continue
                seen.append(thumbnail)
                name = f"{kept:04d}_{path.stem[:40]}_{number}.jpg"
                Image.fromarray((picture * 255 + 0.5).astype(np.uint8)).save(options.out / name, quality=92)
                kept += 1
    print(f"{kept} backgrounds in {options.out}")


def _pictures(path: Path, rng: np.random.Generator) -> list[np.ndarray]:
    """What a file holds that may be a background, [H, W, 3] each."""
    if path.suffix.lower() == ".hdr":
        return look_around(read_panorama(path), rng)
    if path.suffix.lower() not in SUFFIXES:
        return []
    try:
        picture, size = read_image(path, LONGEST)
    except UserError:
        return []
    if min(size) < SMALLEST or picture.mean(-1).std() < FLAT:
        return []
    if picture.shape[-1] == 4:
        if (picture[..., 3] < 0.9).mean() > 0.02:
            return []
        picture = picture[..., :3]
    return [np.ascontiguousarray(picture)]


def look_around(panorama: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """Perspective pictures [720, 960, 3] out of a panorama [H, 2 H, 3] of linear light, from level to downward."""
    drawn = [(rng.uniform(*FOV_DEG), rng.uniform(*DOWN_DEG), rng.uniform(0, 360)) for _ in range(LOOKS)]
    return [look(panorama, yaw, down, fov, VIEW[1], VIEW[0]) for fov, down, yaw in drawn]


if __name__ == "__main__":
    run(main)
