"""Kinds of picture files: those that are read, those that are only known by name, and how each begins."""

from __future__ import annotations

import struct
import zlib
from importlib.util import find_spec
from pathlib import Path

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "PPM")
if find_spec("PIL.AvifImagePlugin") is not None:  # from Pillow 11.3
    FORMATS += ("AVIF",)
SUFFIXES = (
    ".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".gif", ".avif",
    ".ppm", ".pgm", ".pbm", ".pnm",
)  # fmt: skip
FOREIGN = (
    ".heic", ".heif", ".tga", ".psd", ".svg", ".exr", ".hdr", ".jxl", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf",
    ".raf", ".rw2", ".jp2", ".j2k", ".jpx", ".ico", ".pcx", ".dds", ".qoi", ".eps", ".xcf",
)  # fmt: skip
SIGNATURES = {
    b"\x89PNG": "PNG", b"\xff\xd8\xff": "JPEG", b"GIF8": "GIF", b"BM": "BMP", b"II*\0": "TIFF", b"MM\0*": "TIFF",
    b"8BPS": "Photoshop", b"%PDF": "PDF", b"\x76\x2f\x31\x01": "OpenEXR", b"#?RADIANCE": "Radiance HDR",
    b"\xff\x0a": "JPEG XL", b"\0\0\0\x0cJXL ": "JPEG XL", b"<svg": "SVG", b"<?xml": "XML", b"<!DOCTYPE html": "HTML",
    b"<html": "HTML", b"PK\x03\x04": "ZIP", b"qoif": "QOI", b"\0\0\0\x0cjP": "JPEG 2000",
}  # fmt: skip
BRANDS = {
    b"heic": "HEIC",
    b"heix": "HEIC",
    b"mif1": "HEIF",
    b"msf1": "HEIF",
    b"avif": "AVIF",
    b"avis": "AVIF",
}
BROKEN = (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, struct.error, zlib.error)


def not_recognized(path: Path, data: bytes) -> str:
    """What to say of a file that no reader recognizes."""
    kind = next((name for start, name in SIGNATURES.items() if data.lstrip()[: len(start)] == start), None)
    if data[4:8] == b"ftyp":
        kind = BRANDS.get(data[8:12])
    elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        kind = "WEBP"
    if kind in FORMATS and kind != "AVIF":
        return f"{path} is a {kind} picture that is damaged, or of a rare sort; save or download it again."
    if kind is None and path.suffix.lower() in FOREIGN:
        kind = path.suffix[1:].upper()
    what = "is not a picture in a known format" if kind is None else f"holds {kind}, which is not read here"
    return f"{path} {what}; save it as PNG, JPEG, WebP, BMP, TIFF or GIF."
