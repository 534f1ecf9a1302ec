"""Moving and still previews: the asset turned once around, as a video and as a contact sheet."""

from __future__ import annotations

import tempfile
from pathlib import Path

import imageio.v2 as imageio
import numpy as np

from sv3d_pipe.cameras import FOV_DEG, Cameras, orbit
from sv3d_pipe.export.asset import Asset
from sv3d_pipe.export.textured_views import render_textured
from sv3d_pipe.pictures import on_white, resize_rgba

N_TURNS = 32  # frames of the video; the sheet shows every fourth
FRAME_SIZE = 288
FPS = 16
MARGIN = 1.05


def turntable_cameras(asset: Asset, elevation_deg: float) -> Cameras:
    """``N_TURNS`` cameras around a normalized asset, the first in front of it, that see it whole."""
    radius = float(np.linalg.norm(asset.vertices, axis=-1).max())
    azimuth = np.arange(N_TURNS) * (360.0 / N_TURNS)
    return orbit(azimuth, elevation_deg, MARGIN * radius / np.sin(np.radians(FOV_DEG / 2)))


def render_turntable(asset: Asset, elevation_deg: float) -> np.ndarray:
    """One turn on white: [N_TURNS, FRAME_SIZE, FRAME_SIZE, 3] uint8."""
    cameras = turntable_cameras(asset, elevation_deg)
    frames = render_textured(asset.vertices, asset.faces, asset.uv, asset.texture, cameras, FRAME_SIZE)
    return (on_white(frames) * 255 + 0.5).astype(np.uint8)


def contact_sheet(photo: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """The photo and eight views around the asset, three by three, row by row from the front.

    Args:
        photo: [S, S, 4] straight-alpha.
        frames: [N, F, F, 3] uint8, one turn.
    Returns:
        [3 F, 3 F, 3] uint8.
    """
    size = frames.shape[1]
    first = (on_white(resize_rgba(photo, size)) * 255 + 0.5).astype(np.uint8)
    eight = frames[np.arange(8) * len(frames) // 8]
    tiles = np.concatenate([first[None], eight]).reshape(3, 3, size, size, 3)
    return tiles.transpose(0, 2, 1, 3, 4).reshape(3 * size, 3 * size, 3)


def encode_mp4(frames: np.ndarray, fps: int = FPS) -> bytes:
    """H.264 video of uint8 frames [N, H, W, 3] with even sides. Raises whatever the encoder raises."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "turntable.mp4"
        with imageio.get_writer(path, fps=fps, codec="libx264", quality=8, macro_block_size=2) as writer:
            for frame in frames:
                writer.append_data(frame)
        return path.read_bytes()
