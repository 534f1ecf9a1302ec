"""Reading pictures: every format and mode gives the same colors; every bad file one sentence."""

import io
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms, features

from sv3d_pipe.errors import UserError
from sv3d_pipe.pictures import decoded_texture, read_image

RED_BLUE = np.zeros((40, 60, 3), np.uint8)  # left half red, right half blue
RED_BLUE[:, :30] = (200, 30, 20)
RED_BLUE[:, 30:] = (20, 60, 180)


def write(path, array=RED_BLUE, mode=None, **options):
    image = Image.fromarray(array)
    if mode == "P":
        image = image.quantize(8)  # an adaptive palette: exact for two colors
    (image.convert(mode) if mode else image).save(path, **options)
    return path


@pytest.mark.parametrize(
    "name, options, tolerance",
    [
        ("a.png", {}, 0),
        ("a.bmp", {}, 0),
        ("a.tif", {}, 0),
        ("a.gif", {"mode": "P"}, 0),
        ("palette.png", {"mode": "P"}, 0),
        ("a.webp", {"lossless": True}, 0),
        ("a.jpg", {"quality": 95, "subsampling": 0}, 5),
        ("cmyk.jpg", {"mode": "CMYK", "quality": 95}, 8),
        ("cmyk.tif", {"mode": "CMYK"}, 2),
    ],
)
def test_formats_give_the_same_colors(tmp_path, name, options, tolerance):
    image, full = read_image(write(tmp_path / name, **options), 1000)
    assert full == (60, 40)
    assert image.shape == (40, 60, 3) and image.dtype == np.float32
    away_from_edge = np.r_[2:26, 34:58]
    difference = np.abs(image * 255 - RED_BLUE.astype(float))[:, away_from_edge]
    assert difference.max() <= tolerance + 1e-3


def test_the_name_does_not_matter(tmp_path):
    path = write(tmp_path / "a.png").rename(tmp_path / "a.jpg")
    assert read_image(path, 1000)[0].shape == (40, 60, 3)


def test_gif_gives_its_first_frame(tmp_path):
    first, second = (Image.new("RGB", (20, 20), color) for color in ((255, 0, 0), (0, 255, 0)))
    first.save(tmp_path / "a.gif", save_all=True, append_images=[second])
    image, _ = read_image(tmp_path / "a.gif", 1000)
    assert np.allclose(image[..., :3], [1, 0, 0])


def test_sixteen_bit_gray_keeps_its_range(tmp_path):
    ramp = np.linspace(0, 65535, 64).astype(np.uint16)[None].repeat(32, 0)
    for name in ("a.png", "a.tif"):
        Image.fromarray(ramp).save(tmp_path / name)
        image, _ = read_image(tmp_path / name, 1000)
        assert image.shape == (32, 64, 3)
        assert np.allclose(image[..., 0], ramp / 65535, atol=1e-5)


def test_sixteen_bit_rgb_is_not_clipped(tmp_path):
    ramp = np.linspace(0, 65535, 64).astype(np.uint16)[None, :, None].repeat(32, 0).repeat(3, 2)
    cv2.imwrite(str(tmp_path / "deep.png"), ramp)
    image, _ = read_image(tmp_path / "deep.png", 1000)
    assert np.allclose(image, ramp / 65535, atol=1 / 255)


def test_transparency_of_palette_and_gray(tmp_path):
    indexed = Image.fromarray((np.arange(400).reshape(20, 20) >= 200).astype(np.uint8), "L").convert("P")
    indexed.putpalette([255, 0, 0, 0, 0, 255] + [0] * 762)
    indexed.save(tmp_path / "p.png", transparency=0)
    image, _ = read_image(tmp_path / "p.png", 1000)
    assert image.shape == (20, 20, 4)
    assert (image[:10, :, 3] == 0).all() and np.allclose(image[10:], [0, 0, 1, 1])

    gray = np.full((20, 20, 2), 100, np.uint8)
    gray[:, :5, 1] = 0
    Image.fromarray(gray, "LA").save(tmp_path / "la.png")
    image, _ = read_image(tmp_path / "la.png", 1000)
    assert np.allclose(image[0, 10], [100 / 255] * 4) and image[0, 0, 3] == 0


@pytest.mark.parametrize("mode", ["L", "1"])
def test_gray_and_bilevel_become_rgb(tmp_path, mode):
    white_right = np.zeros((20, 20), np.uint8)
    white_right[:, 10:] = 255
    image, _ = read_image(write(tmp_path / "a.png", white_right, mode), 1000)
    assert image.shape == (20, 20, 3)
    assert (image[:, 10:] == 1).all() and (image[:, :10] == 0).all()


def test_exif_rotation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[274] = 6  # shown turned 90 degrees clockwise: the left half comes to the top
    image, full = read_image(write(tmp_path / "a.jpg", exif=exif, quality=95), 1000)
    assert full == (40, 60)
    assert image.shape == (60, 40, 3)
    assert image[10, 20, 0] > 0.7 and image[50, 20, 2] > 0.6


def test_large_pictures_shrink_without_dark_fringes(tmp_path):
    rgba = np.zeros((400, 800, 4), np.uint8)
    rgba[100:300, 200:600] = (250, 240, 230, 255)
    image, full = read_image(write(tmp_path / "a.png", rgba), 100)
    assert full == (800, 400) and image.shape == (50, 100, 4)
    assert image[image[..., 3] > 0.3][:, 0].min() > 0.95


def test_color_profile_is_converted(tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    swapped = profile.replace(b"rXYZ", b"____").replace(b"bXYZ", b"rXYZ").replace(b"____", b"bXYZ")
    plain = write(tmp_path / "plain.png")
    tagged = write(tmp_path / "tagged.png", icc_profile=swapped)  # its red is our blue
    broken = write(tmp_path / "broken.png", icc_profile=b"no profile")
    reference, _ = read_image(plain, 1000)
    assert np.abs(read_image(tagged, 1000)[0] - reference[..., ::-1]).max() < 0.03
    assert np.array_equal(read_image(broken, 1000)[0], reference)


def png_bytes(width=200, height=200):
    noise = np.random.default_rng(1).integers(0, 255, (height, width, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "PNG")
    return buffer.getvalue()


def huge_header():
    """A PNG that claims 50000 x 50000 pixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "content, words",
    [
        (b"", "is empty"),
        (b"just a text, renamed", "not a picture"),
        (png_bytes()[:5000], "damaged"),
        (png_bytes()[:40], "damaged|not a picture"),
        (huge_header(), "too many pixels"),
        (png_bytes(1, 1), "1 x 1 pixels"),
    ],
    ids=["empty", "text", "cut", "header only", "bomb", "one pixel"],
)
def test_bad_files_give_one_sentence(tmp_path, content, words):
    path = tmp_path / "bad.png"
    path.write_bytes(content)
    with pytest.raises(UserError, match=words) as error:
        read_image(path, 1000)
    assert "bad.png" in str(error.value) and "\n" not in str(error.value)


def test_truncated_jpeg(tmp_path):
    path = write(tmp_path / "a.jpg", np.random.default_rng(1).integers(0, 255, (200, 200, 3), np.uint8))
    path.write_bytes(path.read_bytes()[:9000])
    with pytest.raises(UserError, match="damaged"):
        read_image(path, 1000)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(UserError, match="no file.*none.png"):
        read_image(tmp_path / "none.png", 1000)
    with pytest.raises(UserError, match="is a folder"):
        read_image(tmp_path, 1000)


RAMP = np.linspace(0, 4095, 64).astype(np.uint16)[None].repeat(32, 0)


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_twelve_bits_in_sixteen_keep_their_range(tmp_path, suffix, channels):
    deep = np.dstack([RAMP] * channels)
    deep[..., 3:] = 65535
    cv2.imwrite(str(tmp_path / f"a.{suffix}"), deep)
    image, _ = read_image(tmp_path / f"a.{suffix}", 1000)
    assert np.allclose(image[..., :3], RAMP[..., None] / 4095, atol=1e-4)
    assert channels < 4 or (image[..., 3] == 1).all()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("peak", [1.0, 0.5, 40.0])
def test_floats_keep_their_range(tmp_path, channels, peak):
    ramp = np.linspace(0, peak, 64, dtype=np.float32)[None].repeat(32, 0)
    cv2.imwrite(str(tmp_path / "a.tif"), np.dstack([ramp] * channels))
    image, full = read_image(tmp_path / "a.tif", 1000)
    assert full == (64, 32) and np.allclose(image, ramp[..., None] / max(1, peak), atol=1e-6)


def test_lab_becomes_rgb(tmp_path):
    Image.new("LAB", (20, 20), (255, 128, 128)).save(tmp_path / "a.tif")
    assert np.allclose(read_image(tmp_path / "a.tif", 1000)[0], 1, atol=0.01)


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png", "a.avif", "a.tif"])
def test_several_frames_are_said(tmp_path, name):
    if name == "a.avif" and not features.check("avif"):
        pytest.skip("this Pillow knows no AVIF")
    first, second = (Image.new("RGB", (20, 20), color) for color in ((255, 0, 0), (0, 255, 0)))
    first.save(tmp_path / name, save_all=True, append_images=[second])
    said = []
    image, _ = read_image(tmp_path / name, 1000, warn=said.append)
    assert said == [f"{name} holds 2 frames or pages; only the first is used."]
    assert np.allclose(image[..., :3], [1, 0, 0], atol=0.02)
    read_image(write(tmp_path / "single.png"), 1000, warn=said.append)
    assert len(said) == 1


def test_kinds_that_are_not_read_are_named(tmp_path):
    heic = b"\0\0\0\x18ftypheic" + bytes(100)
    for name, content, words in (
        ("a.jpg", heic, "holds HEIC, which is not read here"),
        ("a.tga", b"anything", "holds TGA"),
        ("a.png", b"<!DOCTYPE html><html>", "holds HTML"),
        ("b.png", png_bytes().replace(b"IHDR", b"IHDX"), "a PNG picture that is damaged"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=words):
            read_image(tmp_path / name, 1000)


def test_only_regular_files_of_bounded_size_are_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with (tmp_path / "sparse.png").open("wb") as file:
        file.truncate(6 * 10**9)
    for path, words in (
        (tmp_path / "pipe.png", "device, pipe or socket"),
        (Path("/dev/zero"), "device, pipe or socket"),
        (tmp_path / "sparse.png", "5,722 MB; at most 256 MB"),
        (Path("https://example.org/a.png"), "https://example.org/a.png is a web address; download"),
    ):
        with pytest.raises(UserError, match=words):
            read_image(path, 1000)


HOSTILE = {
    "bomb.png": lambda path: Image.new("1", (13_300, 13_300)).save(path),
    "bomb.jpg": lambda path: Image.new("L", (13_300, 13_300)).save(path),
    "largest.png": lambda path: Image.new("RGBA", (7000, 7000)).save(path, compress_level=1),
    "largest.webp": lambda path: Image.new("RGBA", (7000, 7000)).save(path, method=0),
}


@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="needs Linux's count of a process's own peak"
)
@pytest.mark.parametrize("name", HOSTILE)
def test_no_picture_takes_much_memory(tmp_path, name):
    HOSTILE[name](tmp_path / name)
    code = (
        "import sys; from pathlib import Path; from sv3d_pipe.pictures import read_image\n"
        "from sv3d_pipe.errors import UserError\n"
        "try: read_image(Path(sys.argv[1]), 1536); print('read')\n"
        "except UserError as error: print('too many pixels' in str(error))\n"
        "print(int(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0]) / 1024)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / name)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    what, megabytes = done.stdout.split()
    assert what == ("True" if name.startswith("bomb") else "read") and float(megabytes) < 1500


def test_textures_of_meshes_are_bounded_too():
    small = decoded_texture(Image.new("RGB", (400, 200), (9, 200, 30)), "wood.png", 20_000)
    assert small.size == (200, 100) and small.getpixel((50, 50)) == (9, 200, 30)
    with pytest.raises(UserError, match="wood.png has too many pixels"):
        decoded_texture(Image.new("1", (10_000, 10_000)), "wood.png", 20_000)
