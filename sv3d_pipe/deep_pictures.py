"""Pictures of more than 8 bits per channel: gray, colors of 12 bits in 16, floats. White is found from what they use."""

from __future__ import annotations

import io

import cv2
import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from sv3d_pipe.inputs import MOST_PIXELS, SMALLEST
from sv3d_pipe.picture_kinds import BROKEN

TIFF_STARTS = (b"II*\0", b"MM\0*")
DEEP_MODES = ("I", "F")  # of Pillow, besides "I;16..."


def scaled_size(width: int, height: int, longest: int) -> tuple[int, int]:
    """Width and height of a picture whose longer side is at most ``longest``."""
    scale = min(1.0, longest / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def deep_gray(image: Image.Image, longest: int) -> np.ndarray:
    """Gray of more than 8 bits, [H, W, 3]: integers by the bits they use, floats over 1 by their peak."""
    gray = np.asarray(image)
    high = np.nan_to_num(float(gray.max()), posinf=1.0)
    size = scaled_size(image.width, image.height, longest)
    if size != image.size:
        whole = gray.dtype.kind != "f" and high <= 65535 and gray.min() >= 0
        gray = gray.astype(np.uint16 if whole else np.float32, copy=False)
        gray = cv2.resize(gray, size, interpolation=cv2.INTER_AREA)
    gray = np.nan_to_num(gray.astype(np.float32), posinf=1.0, neginf=0.0)
    white = 1.0 if image.mode == "F" else _white(high)
    gray = np.clip(gray / max(white, float(gray.max())), 0, 1)
    return np.repeat(gray[..., None], 3, -1)


def _white(peak: float) -> float:
    """The value that means white in integers of up to 16 bits that use no more than 8, 12 or 16."""
    return next((bits for bits in (255.0, 4095.0) if peak <= bits), 65535.0)


def float_tiff(data: bytes, longest: int) -> tuple[np.ndarray, tuple[int, int]] | None:
    """:func:`sv3d_pipe.pictures.read_image` of a TIFF of floats in colors, which Pillow does not know; None if it is none."""
    try:
        tags = ImageFileDirectory_v2(data[:8])
        stream = io.BytesIO(data)
        stream.seek(tags.next)
        tags.load(stream)
        width, height, kind = int(tags[256]), int(tags[257]), tags.get(339, (1,))[0]
    except (*BROKEN, KeyError):
        return None
    if kind != 3 or tags.get(277, 1) < 3 or min(width, height) < SMALLEST or width * height > MOST_PIXELS:
        return None
    deep = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if deep is None or deep.ndim != 3 or deep.shape[-1] < 3:
        return None
    size = scaled_size(width, height, longest)
    small = cv2.resize(deep, size, interpolation=cv2.INTER_AREA) if size != (width, height) else deep
    small = np.nan_to_num(small.astype(np.float32), posinf=1.0, neginf=0.0)
    rgb = np.clip(small[..., 2::-1] / max(1.0, float(small[..., :3].max())), 0, 1)
    return np.dstack([rgb, np.clip(small[..., 3:], 0, 1)]), (width, height)


def has_sixteen_bits(opened: Image.Image) -> bool:
    """Whether a picture that is not decoded yet is stored in 16 bits per channel, of which Pillow keeps 8 in colors."""
    arguments = [tile[3] for tile in getattr(opened, "tile", ())[:1]]
    stored = arguments[0][0] if arguments and isinstance(arguments[0], tuple) else arguments[:1]
    return str(stored).rstrip("]'").endswith(("16B", "16L", "16N"))


def few_bits(data: bytes, rgba: np.ndarray) -> np.ndarray:
    """A picture [H, W, 3 or 4] of 16 bits per channel of which only 12 or 8 are used: its colors read again, in full."""
    deep = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if deep is None or deep.dtype != np.uint16 or deep.ndim != 3:
        return rgba
    if (deep.shape[1] > deep.shape[0]) != (rgba.shape[1] > rgba.shape[0]):
        return rgba  # turned by EXIF, which files of 16 bits hardly ever are
    small = cv2.resize(deep, rgba.shape[1::-1], interpolation=cv2.INTER_AREA).astype(np.float32)
    rgb = small[..., 2::-1] / _white(float(deep[..., :3].max()))
    if rgba.shape[-1] == 3:
        return np.ascontiguousarray(rgb)
    return np.dstack([rgb, small[..., 3] / _white(float(deep[..., 3].max()))])
