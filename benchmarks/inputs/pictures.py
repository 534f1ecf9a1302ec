"""Photos: a red disc on white or nothing, in every format and every state."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageCms

from inputs.case import Case

RED, SIDE, RADIUS = (200, 40, 40), 160, 60
PREP = ("prep", "{here}/photo", "-o", "{here}/out", "--matte", "auto", "--size", "128", "--json")


def disc(mode: str = "RGBA", size: tuple[int, int] = (SIDE, SIDE)) -> Image.Image:
    """The disc in the middle: transparent around it with RGBA or LA, white without alpha."""
    y, x = np.mgrid[: size[1], : size[0]] + 0.5
    inside = np.hypot(x - size[0] / 2, y - size[1] / 2) < RADIUS
    rgb = np.where(inside[..., None], RED, 255)
    rgba = np.concatenate([rgb, inside[..., None] * 255], -1).astype(np.uint8)
    return Image.fromarray(rgba).convert(mode) if mode != "RGB" else Image.fromarray(rgba[..., :3].copy())


def is_the_disc(color: tuple[int, int, int] | None = RED, tolerance: int = 14):
    """The prepared photo shows a disc of .8 of its side, of this color."""

    def right(here: Path) -> str | None:
        found = np.asarray(Image.open(here / "out" / "1-prep" / "photo.png").convert("RGBA")).astype(float)
        inside = found[..., 3] > 200
        share, wanted = inside.mean(), np.pi / 4 * 0.8**2
        if abs(share - wanted) > 0.04:
            return f"the object covers {share:.2f}, not {wanted:.2f}"
        mean = found[inside][:, :3].mean(0)
        if color is not None and np.abs(mean - color).max() > tolerance:
            return f"its color is {mean.round().tolist()}"
        return None

    return right


def _saved(name: str, mode: str = "RGB", **options):
    return lambda here: disc(mode).save(here / name, **options)


def _bytes(name: str, content: bytes):
    return lambda here: (here / name).write_bytes(content)


def _png(here: Path) -> bytes:
    disc().save(here / "whole.png")
    content = (here / "whole.png").read_bytes()
    (here / "whole.png").unlink()
    return content


def _sixteen(here: Path, bits: int, color: bool) -> None:
    full = np.asarray(disc("RGB")).astype(np.uint32)
    values = (full if color else full[..., 1]) * (2**bits - 1) // 255
    cv2.imwrite(
        str(here / "photo.png"),
        np.ascontiguousarray(values[..., ::-1] if color else values).astype(np.uint16),
    )


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def bomb(side: int, color_type: int = 0, bits: int = 1) -> bytes:
    """A PNG of side x side pixels of nothing: small as a file, huge as pixels."""
    channels = {0: 1, 2: 3, 6: 4}[color_type]
    row = 1 + (side * channels * bits + 7) // 8
    squeezer = zlib.compressobj(9)
    packed = b"".join(squeezer.compress(bytes(row)) for _ in range(side)) + squeezer.flush()
    header = struct.pack(">IIBBBBB", side, side, bits, color_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", packed) + _chunk(b"IEND", b"")


def turned_by_exif() -> Image.Exif:
    """EXIF that asks viewers to turn the picture by 90 degrees clockwise."""
    exif = Image.Exif()
    exif[0x0112] = 6  # Orientation
    return exif


def save_as_lab(picture: Image.Image, path: Path) -> None:
    """A picture in L*a*b*, with the profile that says so."""
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    turned = ImageCms.profileToProfile(picture, srgb, lab, outputMode="LAB")
    turned.save(path, icc_profile=ImageCms.ImageCmsProfile(lab).tobytes())


def _rotated(here: Path) -> None:
    disc("RGB", (SIDE, 2 * SIDE)).save(here / "photo.jpg", exif=turned_by_exif(), quality=95)


def _sparse(here: Path) -> None:
    with (here / "photo.png").open("wb") as file:
        file.write(_png(here))
        file.truncate(6 * 10**9)


def _frames(here: Path, name: str) -> None:
    first, second = disc("RGBA"), Image.new("RGBA", (SIDE, SIDE), (0, 0, 255, 255))
    first.save(here / name, save_all=True, append_images=[second], duration=100, lossless=True)


def cases() -> Iterator[Case]:
    def taken(name, file, make, right=None, says=""):
        arguments = tuple(part.replace("{here}/photo", "{here}/" + file) for part in PREP)
        return Case("photos", name, arguments, make, says, right or is_the_disc())

    def refused(name, file, make, says=""):
        arguments = tuple(part.replace("{here}/photo", "{here}/" + file) for part in PREP)
        return Case("photos", name, arguments, make, says)

    yield taken("PNG with alpha", "photo.png", _saved("photo.png", "RGBA"))
    yield taken("PNG on white", "photo.png", _saved("photo.png"))
    yield taken("PNG with a palette", "photo.png", _saved("photo.png", "P"))
    yield taken("JPEG", "photo.jpg", _saved("photo.jpg", quality=95))
    yield taken("JPEG with EXIF rotation", "photo.jpg", _rotated)
    yield taken(
        "CMYK JPEG without profile",
        "photo.jpg",
        _saved("photo.jpg", "CMYK", quality=95),
        is_the_disc(RED, 60),
    )
    yield taken("gray JPEG", "photo.jpg", _saved("photo.jpg", "L", quality=95), is_the_disc((88, 88, 88)))
    yield taken("gray PNG with alpha", "photo.png", _saved("photo.png", "LA"), is_the_disc((88, 88, 88)))
    yield taken("WebP", "photo.webp", _saved("photo.webp", "RGBA", lossless=True))
    yield taken("AVIF", "photo.avif", _saved("photo.avif", quality=95))
    yield taken("TIFF", "photo.tif", _saved("photo.tif", "RGBA"))
    yield taken("BMP", "photo.bmp", _saved("photo.bmp"))
    yield taken("PPM", "photo.ppm", _saved("photo.ppm"))
    yield taken("GIF, one picture", "photo.gif", _saved("photo.gif"))
    yield taken("16-bit gray PNG", "photo.png", lambda h: _sixteen(h, 16, False), is_the_disc((40, 40, 40)))
    yield taken("16-bit color PNG", "photo.png", lambda h: _sixteen(h, 16, True))
    yield taken(
        "L*a*b* TIFF with its profile", "photo.tif", lambda h: save_as_lab(disc("RGB"), h / "photo.tif")
    )
    yield taken("no file ending", "photo", lambda h: (h / "photo").write_bytes(_png(h)))
    yield taken("wrong file ending", "photo.jpg", lambda h: (h / "photo.jpg").write_bytes(_png(h)))
    yield taken(
        "name with spaces and letters of all the world",
        "ein foto\u0301 写真.png",
        lambda h: disc().save(h / "ein foto\u0301 写真.png"),
    )
    yield taken("name that begins with a dash", "-photo.png", lambda h: disc().save(h / "-photo.png"))
    yield taken(
        "symlink to a photo",
        "photo.png",
        lambda h: (disc().save(h / "real.png"), (h / "photo.png").symlink_to("real.png")),
    )
    yield taken("12 bits in 16", "photo.png", lambda h: _sixteen(h, 12, True), says="12|dark|bit")
    yield taken(
        "animated GIF: its first picture", "photo.gif", lambda h: _frames(h, "photo.gif"), says="first"
    )
    yield taken(
        "animated WebP: its first picture", "photo.webp", lambda h: _frames(h, "photo.webp"), says="first"
    )
    yield refused("no such file", "photo.png", lambda h: None, "no file")
    yield refused("empty file", "photo.png", _bytes("photo.png", b""))
    yield refused("text", "photo.png", _bytes("photo.png", b"hello"))
    yield refused("HTML saved as .jpg", "photo.jpg", _bytes("photo.jpg", b"<!DOCTYPE html><html></html>"))
    yield refused("TGA", "photo.tga", _saved("photo.tga", "RGBA"), "TGA")
    yield refused("JPEG 2000", "photo.jp2", _saved("photo.jp2", "RGBA"), "JPEG 2000")
    yield refused("SVG", "photo.svg", _bytes("photo.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>"))
    yield refused("PDF", "photo.pdf", _bytes("photo.pdf", b"%PDF-1.7\n"))
    yield refused("PNG cut short", "photo.png", lambda h: (h / "photo.png").write_bytes(_png(h)[:300]))
    yield refused(
        "PNG with a bad checksum",
        "photo.png",
        lambda h: (h / "photo.png").write_bytes(_png(h).replace(b"IDAT", b"IDAT", 1)[:-20] + b"\0" * 20),
        "damaged|cut|checksum",
    )
    yield refused(
        "JPEG cut short",
        "photo.jpg",
        lambda h: (
            disc("RGB").save(h / "a.jpg"),
            (h / "photo.jpg").write_bytes((h / "a.jpg").read_bytes()[:200]),
        ),
    )
    yield refused(
        "wholly transparent",
        "photo.png",
        lambda h: Image.new("RGBA", (64, 64)).save(h / "photo.png"),
        "object|transparent|empty",
    )
    yield refused(
        "wholly white", "photo.png", lambda h: Image.new("RGB", (64, 64), "white").save(h / "photo.png")
    )
    yield refused("one pixel", "photo.png", lambda h: Image.new("RGB", (1, 1)).save(h / "photo.png"))
    yield refused("one pixel high", "photo.png", lambda h: Image.new("RGB", (500, 1)).save(h / "photo.png"))
    yield refused("a folder", "photo.png", lambda h: (h / "photo.png").mkdir())
    yield refused(
        "a named pipe", "photo.png", lambda h: os.mkfifo(h / "photo.png"), "regular file|not a file"
    )
    yield refused("a symlink to nothing", "photo.png", lambda h: (h / "photo.png").symlink_to("gone.png"))
    yield refused("a symlink to itself", "photo.png", lambda h: (h / "photo.png").symlink_to("photo.png"))
    yield refused(
        "1-bit PNG of 50,000 x 50,000 pixels",
        "photo.png",
        lambda h: (h / "photo.png").write_bytes(bomb(50_000)),
        "pixels",
    )
    yield refused(
        "RGBA PNG of 20,000 x 20,000 pixels",
        "photo.png",
        lambda h: (h / "photo.png").write_bytes(bomb(20_000, 6, 8)),
        "pixels",
    )
    yield refused(
        "PNG that promises 2^31 pixels a side",
        "photo.png",
        lambda h: (h / "photo.png").write_bytes(
            b"\x89PNG\r\n\x1a\n"
            + _chunk(b"IHDR", struct.pack(">IIBBBBB", 2**31 - 1, 2**31 - 1, 8, 6, 0, 0, 0))
            + _chunk(b"IEND", b"")
        ),
    )
    yield refused("6 GB file", "photo.png", _sparse)
    device = ("prep", "/dev/zero", "-o", "{here}/out")
    yield Case("photos", "/dev/zero", device, lambda h: None, "regular file|not a file|no picture")
    yield Case(
        "photos",
        "a URL",
        ("prep", "https://example.com/photo.png", "-o", "{here}/out"),
        lambda h: None,
        "[Dd]ownload|URL|address",
    )
