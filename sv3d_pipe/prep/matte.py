"""Where the cut-out comes from: the file's own alpha, the matting network, the offline matte, or rembg."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from sv3d_pipe.errors import UserError
from sv3d_pipe.prep.edges import decontaminate, soften
from sv3d_pipe.prep.meant import Box, Point, only_meant
from sv3d_pipe.prep.offline import segment, segment_box, surroundings
from sv3d_pipe.road.context import Context

MIN_TRANSPARENT = 0.01  # share of the picture; a meaningful alpha hides at least this much
MIN_OPAQUE = 5e-4  # and shows at least this much
SAME, OTHER_OBJECT = 0.7, 0.5  # IoU from which on two methods found the same object; below which, another
# Of the offline cut-out, this share lies in the network's where that only filled more.
WITHIN = 0.9
FILLED = 3.0  # times as large the network's may then be: thin things are mostly gaps
NOTHING = "No object was found in {name}; give a photo of one object, or a cut-out PNG."
REMBG_MODELS = ("birefnet-general", "isnet-general-use", "u2net", "silueta", "u2netp")  # best first


@dataclass(frozen=True)
class Matte:
    """A cut-out.

    Attributes:
        rgba: [H, W, 4] float32, straight alpha.
        source: "alpha", "net", "offline" or "rembg".
        background: "transparent", "plain" or "busy".
        sure: False where the cut-out is likely wrong, of which the user was warned.
    """

    rgba: np.ndarray
    source: str
    background: str
    sure: bool = True


def cut_out(
    image: np.ndarray,
    method: str,
    name: str,
    context: Context,
    box: Box | None = None,
    point: Point | None = None,
) -> Matte:
    """Separate the object from its background.

    Args:
        image: [H, W, 3 or 4] float32 in [0, 1].
        method: "alpha", "net", "offline", "rembg"; or "auto": alpha if it says something, else the network, or the offline
            matte where the background is plain.
        name: the photo's name, for messages.
        box, point: which object is meant, in pixels of the image; by default all that stands out.
    Raises:
        UserError: the method asked for is not possible, or no object was found (there).
    """
    matte = _cut_out(image, method, name, context, box, point)
    rgba = only_meant(matte.rgba, box, point)
    if box is not None and not rgba[..., 3].any():
        raise UserError(
            f"No object was found in the given box of {name}; draw the box around the whole object, with a little"
            " of the background."
        )
    return replace(matte, rgba=rgba)


def _cut_out(
    image: np.ndarray, method: str, name: str, context: Context, box: Box | None, point: Point | None
) -> Matte:
    rgb = np.ascontiguousarray(image[..., :3])
    has_alpha = image.shape[-1] == 4 and is_meaningful(image[..., 3])
    if method == "alpha" and not has_alpha:
        raise UserError(f"{name} has no transparent background; give a cut-out PNG or use prep.matte=auto.")
    if method == "alpha" or (method == "auto" and has_alpha):
        return Matte(image, "alpha", "transparent")
    if method == "rembg":
        try:
            return Matte(_rembg(rgb), "rembg", "plain" if segment(rgb)[1] else "busy")
        except UserError:
            raise
        except Exception as error:  # onnxruntime's errors share no base class
            raise UserError(f"rembg failed ({error}); repair it or use prep.matte=auto.") from error
    if method == "offline":
        return _offline(rgb, name, context, box)
    if method == "net" or box is not None or point is not None:
        return _net(rgb, name, context, box, point)
    return _net_or_backdrop(rgb, name, context)


def _net(rgb: np.ndarray, name: str, context: Context, box: Box | None, point: Point | None) -> Matte:
    from sv3d_pipe.prep.matting.doubt import signs_of
    from sv3d_pipe.prep.matting.find import find  # slow: it imports torch
    from sv3d_pipe.prep.net import cut_by_network

    finding = find(rgb, box, point)
    rgba, sure = cut_by_network(finding, signs_of(finding, rgb), rgb, name, context)
    return Matte(rgba, "net", "plain" if segment(rgb)[1] else "busy", sure)


def _net_or_backdrop(rgb: np.ndarray, name: str, context: Context) -> Matte:
    """The network's cut-out, or where the background is plain that of the offline matte, which knows edges and gaps best.

    Not where the offline matte found another object, for then the background was not as plain as it seemed; nor where
    both differ and the network is sure.
    """
    from sv3d_pipe.prep.matting.doubt import signs_of
    from sv3d_pipe.prep.matting.find import find  # slow: it imports torch
    from sv3d_pipe.prep.net import cut_by_network, is_doubtful

    mask, plain = segment(rgb)
    finding = find(rgb)
    signs = signs_of(finding, rgb)
    if plain:
        if not mask.any() and is_doubtful(signs):
            raise UserError(NOTHING.format(name=name))
        agreement = _agreement(mask, finding.alpha)
        if agreement >= SAME or (agreement >= OTHER_OBJECT and is_doubtful(signs)):
            return Matte(soften(rgb, mask), "offline", "plain")
    rgba, sure = cut_by_network(finding, signs, rgb, name, context)
    return Matte(rgba, "net", "plain" if plain else "busy", sure)


def _agreement(mask: np.ndarray, alpha: np.ndarray) -> float:
    """IoU of a mask [h, w] bool and the network's alpha [H, W]; 1 where all that differs are gaps that the network filled."""
    theirs = cv2.resize(alpha, mask.shape[::-1], interpolation=cv2.INTER_AREA) > 0.5
    both = float((mask & theirs).sum())
    if mask.any() and both >= WITHIN * mask.sum() and FILLED * both >= theirs.sum():
        return 1.0
    return both / max(1, (mask | theirs).sum())


def is_meaningful(alpha: np.ndarray) -> bool:
    """Whether an alpha channel cuts something out: neither all opaque, all transparent nor mere noise."""
    opaque = float((alpha > 0.5).mean())
    return opaque >= MIN_OPAQUE and 1 - opaque >= MIN_TRANSPARENT


def rembg_model() -> str | None:
    """The best rembg model whose weights are on this machine; None without rembg or weights."""
    if importlib.util.find_spec("rembg") is None:
        return None
    home = os.getenv("U2NET_HOME", os.path.join(os.getenv("XDG_DATA_HOME", "~"), ".u2net"))
    home = Path(os.path.expanduser(home))
    return next((name for name in REMBG_MODELS if (home / f"{name}.onnx").is_file()), None)


def _rembg(rgb: np.ndarray) -> np.ndarray:
    """[H, W, 4] cut out by rembg with weights that are already here; never downloads knowingly."""
    if importlib.util.find_spec("rembg") is None:
        raise UserError("rembg is not installed; run `pip install 'img2mesh[rembg]'` or use prep.matte=auto.")
    model = rembg_model()
    if model is None:
        raise UserError("rembg has no weights yet; run `rembg d u2net` once or use prep.matte=auto.")
    from PIL import Image

    try:
        import rembg  # slow: its first import compiles
    except SystemExit as error:  # what rembg does when onnxruntime is missing
        raise ImportError("it found no onnxruntime; run `pip install 'img2mesh[rembg]'`") from error
    picture = Image.fromarray((rgb * 255 + 0.5).astype(np.uint8))
    mask = rembg.remove(picture, session=rembg.new_session(model), only_mask=True)
    alpha = np.asarray(mask.convert("L"), np.float32) / 255
    return decontaminate(rgb, np.clip((alpha - 0.05) / 0.9, 0, 1))


def _offline(rgb: np.ndarray, name: str, context: Context, box: Box | None) -> Matte:
    if box is None:
        mask, plain = segment(rgb)
        rgba = soften(rgb, mask)
    else:
        part = surroundings(rgb.shape[:2], box)
        top, left = part[0].start, part[1].start
        mask, plain = segment_box(rgb[part], (box[0] - left, box[1] - top, box[2] - left, box[3] - top))
        rgba = np.zeros((*rgb.shape[:2], 4), np.float32)
        rgba[part] = soften(rgb[part], mask)
    if not mask.any() and box is None:
        raise UserError(NOTHING.format(name=name))
    if not plain:
        context.warn(
            f"The background of {name} is busy, so the cut-out is a guess;"
            " prep.matte=net or a cut-out PNG gives better meshes."
        )
    return Matte(rgba, "offline", "plain" if plain else "busy", plain)
