"""Pictures: read from any common file, written, composited, resized, in sRGB and linear light, compared.

In memory they are float32 in [0, 1], sRGB, with straight alpha.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from sv3d_pipe.errors import UserError

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
SMALLEST = 16  # pixels; below this a side holds nothing to reconstruct
DEEP_MODES = {"I": 65535.0, "F": 1.0}  # besides "I;16...": the value that means white
BEST_DB = 100.0  # PSNR of equal pictures where a number must be finite
BROKEN = (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, struct.error, zlib.error)


def read_image(path: Path, longest: int, upright: bool = True) -> tuple[np.ndarray, tuple[int, int]]:
    """Read a PNG, JPEG, WebP, BMP, TIFF or GIF (first frame).

    Palettes, gray, CMYK, 16 bits and embedded color profiles become sRGB.

    Args:
        path: the file.
        longest: pictures whose longer side has more pixels are shrunk to this.
        upright: apply EXIF rotation; without, the pixels stay as they are stored.
    Returns:
        image [H, W, 3], or [H, W, 4] with straight alpha if the file has transparency; float32 in
        [0, 1]. And the width and height of that picture before shrinking.
    Raises:
        UserError: no such file, a folder, empty, not a picture, damaged, too large or too small.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path} is a folder; give the path of one picture.")
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"There is no file {path}; check the path.") from None
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror}; check its permissions.") from None
    if not data:
        raise UserError(f"{path} is empty; save or download the picture again.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of sizes it still reads and of odd metadata
        return _decode(path, data, longest, upright)


def _decode(path: Path, data: bytes, longest: int, upright: bool) -> tuple[np.ndarray, tuple[int, int]]:
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as opened:
            width, height = opened.size
            if min(width, height) < SMALLEST:
                raise UserError(
                    f"{path} has only {width} x {height} pixels; give a picture of at least 256 x 256."
                )
            opened.draft(None, (longest, longest))  # lets a JPEG decode at a half, quarter or eighth
            opened.load()
            image = ImageOps.exif_transpose(opened) if upright else opened.copy()
    except UserError:
        raise
    except UnidentifiedImageError:
        raise UserError(
            f"{path} is not a picture in a known format; save it as PNG, JPEG, WebP, BMP, TIFF or GIF."
        ) from None
    except (Image.DecompressionBombError, MemoryError):
        raise UserError(f"{path} has too many pixels; shrink it to 4000 pixels a side or less.") from None
    except BROKEN:
        raise UserError(f"{path} is damaged or cut short; save or download it again.") from None
    full = (width, height)
    if (image.width > image.height) != (width > height):
        full = (height, width)
    return _to_float(image, longest), full


def _to_float(image: Image.Image, longest: int) -> np.ndarray:
    if image.mode in DEEP_MODES or image.mode.startswith("I;16"):
        return _deep_gray(image, longest)
    transparent = "transparency" in image.info or image.mode in ("LA", "La", "PA", "RGBA", "RGBa")
    if image.mode == "CMYK" or not transparent:
        image = _shrink(image if image.mode in ("RGB", "CMYK", "L") else image.convert("RGB"), longest)
        return _as_array(_to_srgb(image, "RGB"))
    image = _shrink(image.convert("RGBA"), longest)
    rgb = _to_srgb(image.convert("RGB"), "RGB", image.info.get("icc_profile"))
    return np.concatenate([_as_array(rgb), _as_array(image.getchannel("A"))[..., None]], -1)


def _as_array(image: Image.Image) -> np.ndarray:
    return np.asarray(image, np.float32) / np.float32(255)


def _scaled_size(width: int, height: int, longest: int) -> tuple[int, int]:
    scale = min(1.0, longest / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def _shrink(image: Image.Image, longest: int) -> Image.Image:
    size = _scaled_size(*image.size, longest)
    if size == image.size:
        return image
    small = image.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)
    small.info = dict(image.info)
    return small


def _to_srgb(image: Image.Image, mode: str, profile: bytes | None = None) -> Image.Image:
    """``image`` in sRGB: through its embedded profile where that is usable, else by plain conversion."""
    profile = profile or image.info.get("icc_profile")
    if profile:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            target = ImageCms.createProfile("sRGB")
            converted = ImageCms.profileToProfile(image, source, target, outputMode=mode)
            return converted if converted is not None else image.convert(mode)
        except (ImageCms.PyCMSError, OSError, ValueError):
            pass  # a broken or foreign profile: the plain conversion is the best guess
    return image.convert(mode)


def _deep_gray(image: Image.Image, longest: int) -> np.ndarray:
    """Gray of more than 8 bits, [H, W, 3]: integers over 65535 and floats over 1 are scaled to their peak."""
    gray = np.nan_to_num(np.asarray(image).astype(np.float32))
    white = DEEP_MODES.get(image.mode, 65535.0)
    peak = float(gray.max())
    if image.mode == "I" and peak <= 255:
        white = 255.0
    gray = np.clip(gray / max(white, peak), 0, 1)
    size = _scaled_size(image.width, image.height, longest)
    if size != image.size:
        gray = cv2.resize(gray, size, interpolation=cv2.INTER_AREA)
    return np.repeat(gray[..., None], 3, -1)


def save_png(path: Path, image: np.ndarray) -> None:
    """Write a float [H, W, 3 or 4] image in [0, 1] as 8-bit PNG, rounded to nearest."""
    Image.fromarray((np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)).save(path)


def load_png(path: Path) -> np.ndarray:
    """Read a PNG as float32 [H, W, C] in [0, 1]."""
    with Image.open(path) as image:
        return np.asarray(image, np.float32) / 255.0


def on_white(rgba: np.ndarray) -> np.ndarray:
    """Composite straight-alpha [..., 4] on white: [..., 3]."""
    alpha = rgba[..., 3:]
    return rgba[..., :3] * alpha + (1 - alpha)


def resize_rgba(rgba: np.ndarray, size: int | tuple[int, int]) -> np.ndarray:
    """Resize a straight-alpha [H, W, 4] image to size x size, or to a width and height in pixels.

    Colors are averaged premultiplied. Area averaging when shrinking, bicubic when enlarging. Colors where alpha is 0 become 0.
    """
    width, height = (size, size) if isinstance(size, int) else size
    method = cv2.INTER_AREA if height < rgba.shape[0] else cv2.INTER_CUBIC
    premultiplied = np.concatenate([rgba[..., :3] * rgba[..., 3:], rgba[..., 3:]], -1)
    small = np.clip(cv2.resize(premultiplied, (width, height), interpolation=method), 0, 1)
    alpha = small[..., 3:]
    rgb = np.where(alpha > 0, small[..., :3] / np.maximum(alpha, 1e-6), 0)
    return np.concatenate([np.clip(rgb, 0, 1), alpha], -1).astype(np.float32)


def to_linear(srgb: np.ndarray) -> np.ndarray:
    """sRGB values in [0, 1] to linear light (IEC 61966-2-1)."""
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4).astype(np.float32)


def to_srgb(linear: np.ndarray) -> np.ndarray:
    """Linear light to sRGB values in [0, 1]; brighter light is clipped (IEC 61966-2-1)."""
    linear = np.clip(linear, 0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055).astype(
        np.float32
    )


def decibels(mse: float) -> float:
    """Mean squared error of values in [0, 1] as PSNR in dB, at most 100, because JSON has no infinity."""
    return float(-10 * np.log10(max(mse, 10 ** (-BEST_DB / 10))))
