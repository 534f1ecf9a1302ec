"""Writes a small capture, as nerfstudio would: 24 pictures of a procedural object and a transforms.json.

python examples/make_capture.py out/captures/snail
img2mesh nerf out/captures/snail --until export
"""

import json
import sys
from pathlib import Path

import numpy as np

from sv3d_pipe.cameras import orbit
from sv3d_pipe.dataset.invented.toys import procedural
from sv3d_pipe.pictures import save_png
from sv3d_pipe.render.draw import Light, render_views

SIZE, CROP = 480, 60  # the pictures are cut to 480 x 420 pixels, so that cy is not in the middle
CENTER = np.array([0.5, -0.3, 1.0])  # of the object, in the capture's coordinates
SCALE = 3.0
Z_UP = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]])


def write_capture(folder: Path, seed: int = 121, count: int = 24) -> None:
    """A ring of pictures, 10 to 50 degrees above the object."""
    obj = procedural(seed)
    azimuth_deg = np.arange(count) * 360 / count
    elevation_deg = 30 + 20 * np.sin(np.radians(3 * azimuth_deg))
    cameras = orbit(azimuth_deg, elevation_deg, obj.camera_radius(fov_deg=40), fov_deg=40)
    pictures = render_views(obj, cameras, SIZE, Light((0.3, 0.8, 0.5), 0.6), supersample=2)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    frames = []
    for number, (picture, c2w) in enumerate(zip(pictures, cameras.c2w.astype(float))):
        name = f"images/{number:03d}.png"
        save_png(folder / name, picture[CROP // 3 : SIZE - 2 * CROP // 3])
        c2w[:3, :3] = Z_UP @ c2w[:3, :3]
        c2w[:3, 3] = SCALE * Z_UP @ c2w[:3, 3] + CENTER
        frames.append({"file_path": name, "transform_matrix": c2w.tolist()})
    focal = float(cameras.focal(SIZE))
    fields = {"w": SIZE, "h": SIZE - CROP, "fl_x": focal, "fl_y": focal, "cx": SIZE / 2}
    fields["cy"] = SIZE / 2 - CROP // 3
    (folder / "transforms.json").write_text(json.dumps(fields | {"frames": frames}, indent=1))


if __name__ == "__main__":
    write_capture(Path(sys.argv[1] if len(sys.argv) > 1 else "out/captures/snail"))
