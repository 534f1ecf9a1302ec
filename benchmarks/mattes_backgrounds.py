"""Makes the photographs that benchmarks/mattes.py lays objects on: crops of free pictures, five kinds of place.

    python benchmarks/mattes_backgrounds.py --sources DIR DIR DIR --out backgrounds

Where they come from (nothing of it is in this repository; none of it may be used to train a matting network):

- Debian's packages lomiri-wallpapers-16.04 and lomiri-wallpapers-20.04 (unpack each with `dpkg-deb -x`), photographs
  by the authors in the file names under the licenses below, copied from the packages' copyright files;
- BuddiesOfBudgie/budgie-backgrounds on GitHub, CC0-1.0;
- src/hdri of pmndrs/assets on GitHub: panoramas of Poly Haven, CC0-1.0 (1024 x 512 pixels, so crops are soft).

The crops leave out what draws the eye: birds, dogs, a drum, a bowl. They are written as OUT/KIND/*.jpg, the longer
side at most 1600 pixels.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from command import run
from panorama import look, read_panorama
from PIL import Image

from sv3d_pipe.errors import UserError
from sv3d_pipe.pictures import read_image

LONGEST, QUALITY = 1600, 92


@dataclass(frozen=True)
class Crop:
    """A part of a photograph: left, top, right and bottom as shares of its width and height."""

    kind: str
    file: str
    license: str
    box: tuple[float, float, float, float]


@dataclass(frozen=True)
class View:
    """A view into a panorama: degrees; the horizontal field of view is ``fov``, ``down`` is the downward tilt."""

    kind: str
    file: str
    license: str
    yaw: float
    down: float
    fov: float


SA4, SA3, BY4, CC0 = "CC-BY-SA-4.0", "CC-BY-SA-3.0", "CC-BY-4.0", "CC0-1.0"
BACKGROUNDS = (
    Crop("city", "beacon-street-sunset.jpg", CC0, (0.0, 0.15, 0.6, 1.0)),
    Crop("city", "beacon-street-sunset.jpg", CC0, (0.4, 0.0, 1.0, 1.0)),
    Crop("city", "casa-mila.jpg", CC0, (0.0, 0.45, 0.72, 1.0)),
    Crop("city", "roman-colosseum.jpg", CC0, (0.0, 0.0, 0.65, 1.0)),
    Crop("city", "singaporean-cityscape.jpg", CC0, (0.0, 0.2, 1.0, 1.0)),
    Crop("city", "high-trestle-trail.jpg", CC0, (0.0, 0.25, 1.0, 1.0)),
    Crop("city", "piazza-gae-aulenti.jpg", CC0, (0.2, 0.2, 0.8, 0.9)),
    Crop("city", "friends_by_Aitzol_Berasategi.jpg", BY4, (0.0, 0.62, 1.0, 1.0)),
    Crop("city", "friends_by_Aitzol_Berasategi.jpg", BY4, (0.55, 0.0, 1.0, 0.46)),
    Crop("landscape", "aitzgorri_by_Aitzol_Berasategi.jpg", BY4, (0.0, 0.0, 1.0, 1.0)),
    Crop("landscape", "picosdeeuropa_by_Aitzol_Berasategi.jpg", BY4, (0.0, 0.0, 1.0, 1.0)),
    Crop("landscape", "lake-sherburne.jpg", CC0, (0.0, 0.0, 1.0, 1.0)),
    Crop("landscape", "extreme-desert-hike.jpg", CC0, (0.42, 0.55, 1.0, 1.0)),
    Crop("landscape", "tea-gardens.jpg", CC0, (0.0, 0.0, 1.0, 1.0)),
    Crop("landscape", "sunset_by_Aitzol_Berasategi.jpg", BY4, (0.0, 0.3, 0.62, 1.0)),
    Crop("landscape", "Bridge_by_Sander_Klootwijk.jpg", SA4, (0.0, 0.55, 1.0, 1.0)),
    Crop("plants", "blue-periwinkle.jpg", CC0, (0.0, 0.0, 1.0, 1.0)),
    Crop("plants", "perched-osprey.jpg", CC0, (0.5, 0.0, 1.0, 1.0)),
    Crop("plants", "perched-osprey.jpg", CC0, (0.0, 0.0, 0.29, 1.0)),
    Crop("plants", "Dragonfly_by_Bolly.jpg", SA4, (0.0, 0.2, 0.45, 1.0)),
    Crop("plants", "tea-gardens.jpg", CC0, (0.3, 0.55, 1.0, 1.0)),
    Crop("plants", "seeding_by_Clements_Engelhardt.jpg", CC0, (0.44, 0.0, 1.0, 0.66)),
    Crop("plants", "life_by_Aitzol_Berasategi.jpg", BY4, (0.0, 0.0, 1.0, 1.0)),
    View("interior", "apartment.hdr", CC0, 20, 15, 70),
    View("interior", "apartment.hdr", CC0, 110, 12, 70),
    View("interior", "apartment.hdr", CC0, 160, 18, 75),
    View("interior", "apartment.hdr", CC0, 290, 14, 65),
    View("interior", "hall.hdr", CC0, 10, 12, 70),
    View("interior", "hall.hdr", CC0, 110, 16, 65),
    View("interior", "hall.hdr", CC0, 215, 20, 75),
    View("interior", "hall.hdr", CC0, 310, 10, 65),
    View("interior", "lobby.hdr", CC0, 75, 14, 70),
    View("interior", "lobby.hdr", CC0, 145, 18, 70),
    View("interior", "lab.hdr", CC0, 180, 5, 65),
    View("interior", "lab.hdr", CC0, 10, 5, 65),
    Crop("closeup", "canyon-wren.jpg", CC0, (0.14, 0.56, 0.8, 1.0)),
    Crop("closeup", "Kleiber_by_Lukas_Baubkus.jpg", SA3, (0.05, 0.0, 0.38, 1.0)),
    Crop("closeup", "the-spices-of-life.jpg", CC0, (0.0, 0.0, 0.55, 1.0)),
    Crop("closeup", "the-spices-of-life.jpg", CC0, (0.45, 0.0, 1.0, 1.0)),
    Crop("closeup", "Picture_1A_by_freespace.jpg", BY4, (0.0, 0.0, 0.7, 0.9)),
    Crop("closeup", "Picture_0B_by_freespace.jpg", BY4, (0.0, 0.55, 0.2, 1.0)),
    Crop("closeup", "analogpattern_by_Peter_Nerlich.jpg", SA4, (0.0, 0.0, 1.0, 1.0)),
    Crop("closeup", "abstract-spiral.jpg", CC0, (0.0, 0.0, 1.0, 1.0)),
)


def cut(image: np.ndarray, box: tuple[float, float, float, float]) -> np.ndarray:
    """The part of a picture [H, W, 3] inside a box of shares, the longer side at most LONGEST pixels."""
    height, width = image.shape[:2]
    left, top, right, bottom = (round(share * side) for share, side in zip(box, (width, height) * 2))
    part = image[top:bottom, left:right]
    scale = min(1.0, LONGEST / max(part.shape[:2]))
    size = (round(part.shape[1] * scale), round(part.shape[0] * scale))
    return cv2.resize(part, size, interpolation=cv2.INTER_AREA)


def find(name: str, folders: list[Path]) -> Path:
    """Where a source lies below the folders. Raises UserError."""
    found = next((path for folder in folders for path in sorted(folder.rglob(name))), None)
    if found is None:
        raise UserError(
            f"{name} is in none of the folders given by --sources; `--help` says where it comes from."
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sources", type=Path, nargs="+", required=True, help="folders of the sources")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    for number, item in enumerate(BACKGROUNDS):
        path = find(item.file, arguments.sources)
        if isinstance(item, Crop):
            picture = cut(read_image(path, 8 * LONGEST)[0][..., :3], item.box)
        else:
            picture = look(read_panorama(path), item.yaw, item.down, item.fov, LONGEST, LONGEST * 3 // 4)
        folder = arguments.out / item.kind
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"{number:02d}-{path.stem}.jpg"
        Image.fromarray((picture * 255 + 0.5).astype(np.uint8)).save(file, quality=QUALITY)


if __name__ == "__main__":
    run(main)
