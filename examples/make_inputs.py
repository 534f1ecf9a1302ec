"""Draws the example inputs of this folder: pictures of the project's own procedural objects."""

from pathlib import Path

import numpy as np
from PIL import Image

from sv3d_pipe.cameras import orbit
from sv3d_pipe.dataset.invented.toys import procedural
from sv3d_pipe.pictures import save_png
from sv3d_pipe.render.draw import Light, render_views

HERE = Path(__file__).parent
LIGHT = Light((0.3, 0.8, 0.5), ambient=0.6)


def picture(seed: int) -> np.ndarray:
    """[512, 512, 4] of a procedural object, seen from the front and 10 degrees above."""
    obj = procedural(seed)
    return render_views(obj, orbit([0.0], 10.0, obj.camera_radius()), 512, LIGHT)[0]


if __name__ == "__main__":
    save_png(HERE / "bird.png", picture(125))
    save_png(HERE / "beetle.png", picture(145))
    snail = picture(121)
    wall = np.linspace(0.86, 0.78, 512, dtype=np.float32)[:, None, None] * np.ones((1, 512, 3), np.float32)
    on_wall = snail[..., :3] * snail[..., 3:] + wall * (1 - snail[..., 3:])
    Image.fromarray((on_wall * 255 + 0.5).astype(np.uint8)).save(HERE / "snail.jpg", quality=92)
