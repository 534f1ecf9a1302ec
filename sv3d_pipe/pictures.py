"""Pictures: read from any common file, written, composited, resized, in sRGB and linear light, compared.

In memory they are float32 in [0, 1], sRGB, with straight alpha.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from sv3d_pipe.deep_pictures import (
    DEEP_MODES,
    TIFF_STARTS,
    deep_gray,
    few_bits,
    float_tiff,
    has_sixteen_bits,
    scaled_size,
)
from sv3d_pipe.errors import UserError
from sv3d_pipe.inputs import MOST_PIXELS, SMALLEST, read_file
from sv3d_pipe.picture_kinds import BROKEN, FORMATS, not_recognized

MOST_IN_JPEG = 125_000_000  # pixels, of which only a fraction is decoded where less is needed
EXIF, FOCAL_35MM = 0x8769, 0xA405  # Exif 2.3: the tag of its own directory, and in it FocalLengthIn35mmFilm
BEST_DB = 100.0  # PSNR of equal pictures where a number must be finite


def read_image(
    path: Path, longest: int, upright: bool = True, warn: Callable[[str], None] | None = None
) -> tuple[np.ndarray, tuple[int, int]]:
    """Read a PNG, JPEG, WebP, BMP, TIFF, GIF, AVIF or PPM (first frame).

    Palettes, gray, CMYK, Lab, 16 bits (12 in 16 too) and embedded color profiles become sRGB.

    Args:
        path: the file.
        longest: pictures whose longer side has more pixels are shrunk to this.
        upright: apply EXIF rotation; without, the pixels stay as they are stored.
        warn: is told if the file holds several frames.
    Returns:
        image [H, W, 3], or [H, W, 4] with straight alpha if the file has transparency; float32 in
        [0, 1]. And the width and height of that picture before shrinking.
    Raises:
        UserError: no such file, not a regular one, empty, not a picture, damaged, too large or too small.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path} is a folder; give the path of one picture.")
    data = read_file(path)
    if not data:
        raise UserError(f"{path} is empty; save or download the picture again.")
    if data.startswith(TIFF_STARTS) and (floats := float_tiff(data, longest)) is not None:
        return floats
    with _explained(path, data), Image.open(io.BytesIO(data), formats=FORMATS) as opened:
        if warn is not None and opened.format != "MPO" and getattr(opened, "n_frames", 1) > 1:
            warn(f"{path.name} holds {opened.n_frames} frames or pages; only the first is used.")
        deep = has_sixteen_bits(opened)
        image, full = _decoded(path, opened, longest, upright)
        rgba = _to_float(image, longest)
        if deep and rgba[..., :3].max() < 16 / 255:
            rgba = few_bits(data, rgba)
        return rgba, full


def read_focal_35mm(path: Path) -> float | None:
    """The focal length in mm that a photo's EXIF gives for 35 mm film; None where it says nothing of use."""
    try:
        with _explained(path, b""), Image.open(io.BytesIO(read_file(path)), formats=FORMATS) as opened:
            focal = float(opened.getexif().get_ifd(EXIF).get(FOCAL_35MM, 0))
    except (UserError, TypeError, ValueError, ZeroDivisionError):
        return None
    return focal if focal > 0 else None


def decoded_texture(picture: Image.Image, name: str, most: int) -> Image.Image:
    """A picture that a mesh file holds, as RGB in sRGB, shrunk to at most ``most`` pixels.

    Args:
        picture: as Pillow opens it, not decoded yet.
        name: what sentences call it.
    Raises:
        UserError: it is damaged or too large.
    """
    longest = max(1, int(max(picture.size) * min(1.0, (most / (picture.width * picture.height)) ** 0.5)))
    with _explained(Path(name), b""):
        image, _ = _decoded(Path(name), picture, longest, upright=False, smallest=1)
        rgb = _to_float(image, longest)[..., :3]
    return Image.fromarray((rgb * 255 + 0.5).astype(np.uint8))


@contextmanager
def _explained(path: Path, data: bytes) -> Iterator[None]:
    """Pillow's errors as sentences, its warnings (of sizes it still reads, of odd metadata) unsaid."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except UserError:
            raise
        except UnidentifiedImageError:
            raise UserError(not_recognized(path, data)) from None
        except (Image.DecompressionBombError, MemoryError):
            raise UserError(
                f"{path} has too many pixels (at most {MOST_PIXELS:,}); shrink it to 4000 pixels a side or less."
            ) from None
        except BROKEN:
            raise UserError(f"{path} is damaged or cut short; save or download it again.") from None


def _decoded(
    path: Path, opened: Image.Image, longest: int, upright: bool, smallest: int = SMALLEST
) -> tuple[Image.Image, tuple[int, int]]:
    """The pixels, decoded, and the width and height before shrinking. Raises UserError for too few or too many."""
    width, height = opened.size
    if min(width, height) < smallest:
        raise UserError(f"{path} has only {width} x {height} pixels; give a picture of at least 256 x 256.")
    opened.draft(None, (longest, longest))  # lets a JPEG decode at a half, quarter or eighth
    if opened.width * opened.height > MOST_PIXELS or width * height > MOST_IN_JPEG:
        raise Image.DecompressionBombError
    opened.load()
    if upright:
        ImageOps.exif_transpose(opened, in_place=True)
    full = (width, height) if (opened.width > opened.height) == (width > height) else (height, width)
    return opened, full


def _to_float(image: Image.Image, longest: int) -> np.ndarray:
    if image.mode in DEEP_MODES or image.mode.startswith("I;16"):
        return deep_gray(image, longest)
    transparent = "transparency" in image.info or image.mode in ("LA", "La", "PA", "RGBA", "RGBa")
    if image.mode in ("CMYK", "LAB") or not transparent:
        kept = image.mode in ("RGB", "CMYK", "LAB", "L")
        image = _shrink(image if kept else image.convert("RGB"), longest)
        return _as_array(_to_srgb(image, "RGB"))
    image = _shrink(image if image.mode == "RGBA" else image.convert("RGBA"), longest)
    rgb = _to_srgb(image.convert("RGB"), "RGB", image.info.get("icc_profile"))
    return np.concatenate([_as_array(rgb), _as_array(image.getchannel("A"))[..., None]], -1)


def _as_array(image: Image.Image) -> np.ndarray:
    return np.asarray(image, np.float32) / np.float32(255)


def _shrink(image: Image.Image, longest: int) -> Image.Image:
    size = scaled_size(*image.size, longest)
    if size == image.size:
        return image
    small = image.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)
    small.info = dict(image.info)
    return small


def _to_srgb(image: Image.Image, mode: str, profile: bytes | None = None) -> Image.Image:
    """``image`` in sRGB: through its embedded profile where that is usable, else by plain conversion."""
    profile = profile or image.info.get("icc_profile")
    if profile or image.mode == "LAB":
        try:
            lab = image.mode == "LAB"
            source = ImageCms.createProfile("LAB") if lab else ImageCms.ImageCmsProfile(io.BytesIO(profile))
            target = ImageCms.createProfile("sRGB")
            converted = ImageCms.profileToProfile(image, source, target, outputMode=mode)
            return converted if converted is not None else image.convert(mode)
        except (ImageCms.PyCMSError, OSError, ValueError):
            pass  # a broken or foreign profile: the plain conversion is the best guess
    return image.convert(mode)


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
