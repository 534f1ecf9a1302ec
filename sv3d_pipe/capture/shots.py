"""The pictures of a capture as cut-outs: from their alpha, their mask files, or a matte."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np

from sv3d_pipe.capture.lens import LARGEST, Lens, read_lens
from sv3d_pipe.capture.transforms import FEWEST, MOST, Frame
from sv3d_pipe.errors import UserError
from sv3d_pipe.pictures import read_image, resize_rgba
from sv3d_pipe.prep.frame import PART, keep_main_parts
from sv3d_pipe.prep.matte import MIN_TRANSPARENT, Matte, cut_out, is_meaningful
from sv3d_pipe.prep.white_orbit import is_on_white
from sv3d_pipe.road.context import Context

LONGEST = 1536  # pixels; larger pictures are read smaller
MOST_PIXELS = 2**26  # of all cut-outs together: a quarter of a gigabyte
BUSY_SHARE = 1 / 3  # of pictures with a busy background or no object; beyond it a matte is a bad guess
SOLID = 0.3  # alpha from which a pixel counts as object
ONE_COLOR = 0.1  # range of gray within which a mask's paint is of one color
INVERTED = (
    0.9,
    0.5,
)  # share of the border, at least, and of the middle third, at most, that an inverted mask marks
FULL = 0.98  # share of a picture that no mask marks unless something went wrong
RIM = 2  # pixels around a cut-out that are kept empty


@dataclass(frozen=True)
class Shot:
    """One picture of the object.

    Attributes:
        name: of the file. c2w: [4, 4] camera-to-world in the capture's coordinates.
        lens: of the whole picture, in the pixels of ``rgba``.
        rgba: [h, w, 4] uint8, color premultiplied: the part of the picture that holds the object.
        left, top: where that part lies in the whole picture.
        cut: whether the picture's border cuts the object.
        source: "alpha", "mask", "net", "offline" or "rembg". sure: False where a matte is likely wrong.
        on_white: [H, W, 3] uint8, the whole picture, where a matte met white: all of these are cut out together
            once it is known where the object is.
    """

    name: str
    c2w: np.ndarray
    lens: Lens
    rgba: np.ndarray
    left: int
    top: int
    cut: bool
    source: str
    sure: bool
    on_white: np.ndarray | None = None

    @property
    def whole(self) -> Shot:
        """The opaque picture on white instead of the part that was cut out of it."""
        opaque = np.full((*self.on_white.shape[:2], 1), 255, np.uint8)
        return replace(self, rgba=np.concatenate([self.on_white, opaque], -1), left=0, top=0)

    @property
    def box(self) -> tuple[int, int, int, int] | None:
        """Left, top, right, bottom of the object in the whole picture; None if there is none."""
        solid = self.rgba[..., 3] > 255 * SOLID
        if not solid.any():
            return None
        x, y = np.flatnonzero(solid.any(0)), np.flatnonzero(solid.any(1))
        return (
            self.left + int(x[0]), self.top + int(y[0]), self.left + int(x[-1]) + 1, self.top + int(y[-1]) + 1,
        )  # fmt: skip


def read_shots(frames: list[Frame], matte: str, context: Context) -> list[Shot]:
    """All pictures of a capture, cut out.

    Alpha comes first, then mask files (white is the object), then a matte, with a warning.

    Args:
        matte: ``prep.matte``, for pictures that have neither alpha nor mask.
    Raises:
        UserError: a picture that cannot be read, or too few objects on backgrounds that a matte can handle.
    """
    frames = _thinned(frames, context)
    budget = MOST_PIXELS // len(frames)
    shots, failed, animated = [], [], []
    with context.bar("reading", len(frames)) as bar:
        for frame in frames:
            shot = _read_shot(frame, matte, budget, animated.append)
            if shot is None or not shot.sure:
                failed.append(frame.image.name)
            else:
                shots.append(shot)
            if len(failed) > BUSY_SHARE * len(frames):
                raise UserError(
                    f"The pictures have no masks, and the object cannot be cut out of their backgrounds with certainty "
                    f"(the first is {failed[0]}); save them as cut-out PNGs or name their masks in mask_path."
                )
            bar.update(1, frame.image.name)
    if len(shots) < FEWEST:
        raise UserError(f"Only {len(shots)} pictures show an object; at least {FEWEST} are needed.")
    _check_masks(shots)
    if animated:
        more = f" So do {len(animated) - 1} other pictures." if len(animated) > 1 else ""
        context.warn(animated[0] + more)
    _warn(shots, failed, context)
    return shots


def _thinned(frames: list[Frame], context: Context) -> list[Frame]:
    """At most MOST frames, evenly chosen."""
    if len(frames) <= MOST:
        return frames
    context.warn(f"Only {MOST} of the {len(frames)} pictures are used, evenly chosen.")
    return [frames[i] for i in np.linspace(0, len(frames) - 1, MOST).round().astype(int)]


def _warn(shots: list[Shot], failed: list[str], context: Context) -> None:
    guessed = sum(shot.source in ("net", "offline", "rembg") for shot in shots)
    if guessed:
        context.warn(
            f"{guessed} pictures have neither transparency nor a mask and were cut out by a matte; "
            "cut-out PNGs or mask files give better meshes."
        )
    if failed:
        context.warn(
            f"{len(failed)} pictures were left out because the matte found no object in them or was not sure of it; "
            f"the first is {failed[0]}."
        )


def _check_masks(shots: list[Shot]) -> None:
    """Raise UserError if most mask files mark the background, or everything."""
    masked = [shot for shot in shots if shot.source == "mask"]
    for wrong, what in ((_is_inverted, "mark the background"), (_is_full, "mark the whole picture")):
        found = [shot.name for shot in masked if wrong(_mask_of(shot))]
        if len(found) > len(masked) / 2:
            raise UserError(
                f"The masks of {len(found)} of {len(masked)} pictures {what} (the first is that of {found[0]});"
                " white must be the object and black the background."
            )


def _mask_of(shot: Shot) -> np.ndarray:
    """[H, W] bool: the object in the whole picture."""
    whole = np.zeros((round(shot.lens.height), round(shot.lens.width)), bool)
    part = shot.rgba[..., 3] > 255 * SOLID
    whole[shot.top : shot.top + part.shape[0], shot.left : shot.left + part.shape[1]] = part
    return whole


def _is_full(mask: np.ndarray) -> bool:
    return bool(mask.mean() > FULL)


def _is_inverted(mask: np.ndarray) -> bool:
    border = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
    height, width = mask.shape
    middle = mask[height // 3 : -(-2 * height // 3), width // 3 : -(-2 * width // 3)]
    return bool(border.mean() > INVERTED[0] and middle.mean() < INVERTED[1] and not _is_full(mask))


def _read_shot(frame: Frame, matte: str, budget: int, warn: Callable[[str], None]) -> Shot | None:
    """A frame's cut-out of at most ``budget`` pixels; None if a matte finds no object.

    Args:
        warn: is told of pictures with several frames.
    """
    image, (width, height) = _read_picture(frame, warn)
    lens = read_lens(frame.optics, width, height, frame.image).scaled(image.shape[1], image.shape[0])
    sure, on_white = True, None
    if image.shape[-1] == 4 and float((image[..., 3] > 0.5).mean()) <= 1 - MIN_TRANSPARENT:
        rgba, source = image, "alpha"
    elif frame.mask is not None:
        rgba, source = np.dstack([image[..., :3], _read_mask(frame, image, width / height)]), "mask"
    else:
        if is_on_white(image[..., :3]):
            share = min(1.0, (budget / image[..., 0].size) ** 0.5)
            size = int(lens.width * share), int(lens.height * share)
            image, lens = cv2.resize(image, size, interpolation=cv2.INTER_AREA), lens.scaled(*size)
            on_white = (image[..., :3] * 255 + 0.5).astype(np.uint8)
        try:
            cut = _cut(image, matte, frame.image.name)
        except UserError:
            if matte in ("alpha", "rembg"):
                raise
            return None
        rgba, source, sure = keep_main_parts(cut.rgba, PART[cut.source])[0], cut.source, cut.sure
        if source != "offline":  # a network needs no help
            on_white = None
    return replace(_crop(frame, lens, rgba, source, sure, budget), on_white=on_white)


def _cut(image: np.ndarray, matte: str, name: str) -> Matte:
    """A cut-out; unless a method is asked for, the offline matte where the background is plain, for speed, else the network."""
    if matte != "auto":
        return cut_out(image, matte, name, Context())
    try:
        cut = cut_out(image, "offline", name, Context())
    except UserError:
        cut = None
    return cut if cut is not None and cut.sure else cut_out(image, "net", name, Context())


def _crop(frame: Frame, lens: Lens, rgba: np.ndarray, source: str, sure: bool, budget: int) -> Shot:
    alpha = rgba[..., 3]
    border = np.concatenate(
        [alpha[:2].ravel(), alpha[-2:].ravel(), alpha[:, :2].ravel(), alpha[:, -2:].ravel()]
    )
    cut = int((border > SOLID).sum()) > 4
    visible = alpha > 0.5 / 255
    x, y = np.flatnonzero(visible.any(0)), np.flatnonzero(visible.any(1))
    if len(x) == 0:
        x = y = np.zeros(1, int)
    pixels = (np.ptp(x) + 1) * (np.ptp(y) + 1)
    if pixels > budget:
        share = (budget / pixels) ** 0.5
        size = (max(1, int(lens.width * share)), max(1, int(lens.height * share)))
        smaller = resize_rgba(rgba, size)
        return _crop(frame, lens.scaled(*size), smaller, source, sure, 2 * budget)
    left, top = max(int(x[0]) - RIM, 0), max(int(y[0]) - RIM, 0)
    part = rgba[top : int(y[-1]) + 1 + RIM, left : int(x[-1]) + 1 + RIM]
    premultiplied = np.concatenate([part[..., :3] * part[..., 3:], part[..., 3:]], -1)
    stored = (np.clip(premultiplied, 0, 1) * 255 + 0.5).astype(np.uint8)
    return Shot(frame.image.name, frame.c2w, lens, stored, left, top, cut, source, sure)


def _read_picture(frame: Frame, warn: Callable[[str], None]) -> tuple[np.ndarray, tuple[int, int]]:
    """[H, W, 3 or 4] float32, shrunk to LONGEST, and the file's width and height.

    EXIF rotation is not applied, since the intrinsics belong to the pixels as they are stored; unless their w and h
    are those of the turned picture.
    """
    image, size = read_image(frame.image, LONGEST, upright=False, warn=warn)
    if _is_on_its_side(frame.optics, size):
        image, size = read_image(frame.image, LONGEST)
    if image.shape[-1] == 4 and (image[..., 3] > 1 - 0.5 / 255).all():
        image = np.ascontiguousarray(image[..., :3])
    return image, size


def _is_on_its_side(optics: dict[str, Any], size: tuple[int, int]) -> bool:
    """Whether the fields w and h fit a picture of this width and height only when it is turned by 90 degrees."""
    width, height = (optics.get(name) for name in ("w", "h"))
    if not all(isinstance(side, (int, float)) and 0 < side <= LARGEST for side in (width, height)):
        return False
    aspect, said = size[0] / size[1], width / height
    return abs(aspect / said - 1) > 0.02 and abs(aspect * said - 1) <= 0.02


def _read_mask(frame: Frame, image: np.ndarray, aspect: float) -> np.ndarray:
    """[H, W] float32 in [0, 1] at the picture's size; masks of 0 and 1 instead of 0 and 255 are understood."""
    picture, (width, height) = read_image(frame.mask, LONGEST, upright=False)
    if abs(width / height / aspect - 1) > 0.02:
        picture, (width, height) = read_image(frame.mask, LONGEST)
    if abs(width / height / aspect - 1) > 0.02:
        raise UserError(
            f"The mask {frame.mask} and its picture {frame.image.name} differ in aspect ratio; resize the mask."
        )
    mask = _mask_in(picture)
    if 0 < mask.max() < 0.5:
        mask = mask / mask.max()
    return np.clip(cv2.resize(mask, image.shape[1::-1], interpolation=cv2.INTER_AREA), 0, 1)


def _mask_in(picture: np.ndarray) -> np.ndarray:
    """[H, W] what a mask file [H, W, 3 or 4] marks: its brightness, its alpha where it is of one color, or both."""
    gray = picture[..., :3].mean(-1)
    if picture.shape[-1] == 3 or not is_meaningful(picture[..., 3]):
        return gray
    alpha = picture[..., 3]
    painted = gray[alpha > 0.5]
    return alpha if np.ptp(painted) < ONE_COLOR else gray * alpha
