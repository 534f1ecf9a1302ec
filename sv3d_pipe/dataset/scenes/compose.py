"""One scene: a background, objects in front of it with their shadows, and what a camera makes of it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from sv3d_pipe.dataset.scenes.backdrops import Backdrops, recolored
from sv3d_pipe.dataset.scenes.cutouts import Cutouts
from sv3d_pipe.dataset.scenes.shadows import cast, contact
from sv3d_pipe.prep.matting.told import box_map, point_map

ASPECTS = (0.6, 1.7)  # height over width, log-uniform
PARTS = ("alone", "clutter", "several", "clutter alone"), (0.4, 0.42, 0.15, 0.03)
MEANT_SIZE = (0.3, 1.15)  # longer side of what stands out, as a share of the picture's shorter one
CLUTTER_SIZE = (0.25, 0.6)  # longer side of other objects, as a share of that
LEAST_SEEN = 0.3  # share of an object that must be visible for it to be asked for
LEAST_AREA = 0.003  # share of the picture
TOLD = ("nothing", "box", "point"), (0.5, 0.27, 0.23)
BOX_SLACK = 0.06  # standard deviation by which people's boxes miss an object's sides, as a share of them


@dataclass(frozen=True)
class Scene:
    """A picture and its truth.

    Attributes:
        rgb: [S, S, 3] uint8, sRGB; pictures of other proportions are squeezed.
        told: [2, S, S] uint8: 255 inside of the box, and near the point; zeros where nothing is told.
        meant: [S, S] uint8 alpha of the object told of, or else of what stands out.
        any: [S, S] uint8 alpha of all objects.
    """

    rgb: np.ndarray
    told: np.ndarray
    meant: np.ndarray
    any: np.ndarray


@dataclass
class Layer:
    """An object in the picture's frame.

    Attributes:
        drawn: [H, W, 4] float32, colors premultiplied by alpha.
        stands_out: whether it is meant when nothing is told.
        whole: its area in pixels, also of what the frame cuts off.
    """

    drawn: np.ndarray
    stands_out: bool
    whole: float


def compose(rng: np.random.Generator, cutouts: Cutouts, backdrops: Backdrops, size: int) -> Scene:
    """Draw a scene, squeezed into a square of ``size`` pixels."""
    aspect = np.exp(rng.uniform(*np.log(ASPECTS)))
    height, width = round(size * min(1, aspect)), round(size * min(1, 1 / aspect))
    background, floor_line = backdrops.draw(rng, height, width)
    layers = _draw_layers(rng, cutouts, height, width, floor_line)
    if rng.random() < 0.35:
        blur = np.exp(rng.uniform(np.log(0.6), np.log(0.03 * size)))
        background = cv2.GaussianBlur(background, (0, 0), blur)
    tint = background.mean((0, 1)) / max(float(background.mean()), 1e-3)
    rgb = background
    for layer in layers:  # the farthest first
        layer.drawn[..., :3] *= np.clip(tint, 0.5, 2) ** np.float32(rng.uniform(0, 0.7))
        layer.drawn = _soft(rng, layer.drawn, size)
        alpha = layer.drawn[..., 3]
        if rng.random() < 0.75:
            rgb = rgb * contact(rng, alpha)[..., None]
        if rng.random() < 0.5:
            rgb = rgb * cast(rng, alpha)[..., None]
        rgb = rgb * (1 - alpha[..., None]) + layer.drawn[..., :3]
    seen = _visible(layers, height, width)  # [N, H, W]
    meant, told = _asked(rng, layers, seen)
    everything = seen.sum(0)
    rgb = photographed(rng, np.clip(rgb, 0, 1))
    return Scene(*(_square(part, size) for part in (rgb, told, meant, everything)))


def _draw_layers(
    rng: np.random.Generator, cutouts: Cutouts, height: int, width: int, floor_line: float
) -> list[Layer]:
    """The objects, the farthest first."""
    kind = rng.choice(PARTS[0], p=PARTS[1])
    short, layers = min(height, width), []
    count = {"alone": 1, "clutter": 1, "several": int(rng.integers(2, 5)), "clutter alone": 0}[kind]
    side = short * rng.uniform(*MEANT_SIZE)
    for i in range(count):
        if kind == "several":  # beside each other, of like size
            own = side * rng.uniform(0.5, 0.8)
            x, y = width * ((i + 0.5 + rng.normal(0, 0.15)) / count), height * rng.normal(0.55, 0.08)
        else:
            own, x, y = side, width * rng.normal(0.5, 0.13), height * rng.normal(0.53, 0.09)
        layers.append(_placed(rng, cutouts.draw(rng), own, (x, y), height, width, True))
    behind = []
    if kind.startswith("clutter"):
        for _ in range(int(rng.integers(1, 6))):
            own = side * rng.uniform(*CLUTTER_SIZE)
            x, y = width * rng.uniform(-0.05, 1.05), height * rng.normal(max(floor_line, 0.45), 0.14)
            behind.append(_placed(rng, cutouts.draw(rng), own, (x, y), height, width, False))
        if rng.random() < 0.25:  # a large one that the frame cuts off
            corner = width * rng.choice([-0.15, 1.15]), height * rng.uniform(0, 1)
            behind.append(
                _placed(rng, cutouts.draw(rng), side * rng.uniform(0.7, 1.3), corner, height, width, False)
            )
        if rng.random() < 0.5:
            blur = np.exp(rng.uniform(np.log(0.7), np.log(0.02 * max(height, width))))
            for layer in behind:
                layer.drawn = cv2.GaussianBlur(layer.drawn, (0, 0), blur)
    hides = [kind == "clutter" and rng.random() < 0.12 for _ in behind]
    before = [layer for layer, nearer in zip(behind, hides) if nearer]
    return [layer for layer, nearer in zip(behind, hides) if not nearer] + layers + before


def _placed(
    rng: np.random.Generator,
    cutout: np.ndarray,
    side: float,
    center: tuple[float, float],
    height: int,
    width: int,
    stands_out: bool,
) -> Layer:
    """An object at a place, of a size, mirrored half the time and leaning a little."""
    if rng.random() < 0.5:
        cutout = cutout[:, ::-1]
    scale = side / max(cutout.shape[:2])
    size = max(2, round(cutout.shape[1] * scale)), max(2, round(cutout.shape[0] * scale))
    own = np.concatenate([cutout[..., :3] * cutout[..., 3:], cutout[..., 3:]], -1)
    own = cv2.resize(own, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    own[..., :3] = recolored(rng, own[..., :3] / np.maximum(own[..., 3:], 1e-3)) * own[..., 3:]
    turn = np.radians(rng.normal(0, 6) if rng.random() < 0.85 else rng.uniform(-180, 180))
    stretch = np.exp(rng.normal(0, 0.08))
    c, s = np.cos(turn), np.sin(turn)
    matrix = np.float64([[c * stretch, -s, 0], [s * stretch, c, 0]])
    matrix[:, 2] = np.float64(center) - matrix[:, :2] @ (size[0] / 2, size[1] / 2)
    drawn = cv2.warpAffine(own, matrix, (width, height), flags=cv2.INTER_LINEAR)
    return Layer(drawn, stands_out, float(own[..., 3].sum()) * stretch)


def _soft(rng: np.random.Generator, drawn: np.ndarray, size: int) -> np.ndarray:
    """Some objects are a little out of focus, in motion, coarse or see-through."""
    kind = rng.random()
    if kind < 0.25:
        drawn = cv2.GaussianBlur(drawn, (0, 0), np.exp(rng.uniform(np.log(0.4), np.log(0.008 * size))))
    elif kind < 0.32:  # moved while the shutter was open
        length = int(rng.integers(3, max(4, size // 20)))
        kernel = np.zeros((length, length), np.float32)
        cv2.line(kernel, (0, int(rng.integers(length))), (length - 1, int(rng.integers(length))), 1.0)
        drawn = cv2.filter2D(drawn, -1, kernel / kernel.sum())
    elif kind < 0.42:  # as enlarged from fewer pixels
        high, wide = drawn.shape[:2]
        few = rng.uniform(0.3, 0.8)
        small = cv2.resize(
            drawn, (max(8, int(wide * few)), max(8, int(high * few))), interpolation=cv2.INTER_AREA
        )
        drawn = np.clip(cv2.resize(small, (wide, high), interpolation=cv2.INTER_CUBIC), 0, 1)
    return drawn * np.float32(rng.uniform(0.45, 0.85)) if rng.random() < 0.04 else drawn  # as glass


def _visible(layers: list[Layer], height: int, width: int) -> np.ndarray:
    """[N, H, W] alpha of each object that nothing in front of it hides."""
    seen, left = [], np.ones((height, width), np.float32)
    for layer in reversed(layers):
        seen.append(layer.drawn[..., 3] * left)
        left = left * (1 - layer.drawn[..., 3])
    return np.stack(seen[::-1]) if seen else np.zeros((0, height, width), np.float32)


def _asked(rng: np.random.Generator, layers: list[Layer], seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What is meant, [H, W], and what is told of it, [H, W, 2]."""
    height, width = seen.shape[1:]
    told = np.zeros((height, width, 2), np.float32)
    areas = seen.sum((1, 2))
    clear = [
        i
        for i, layer in enumerate(layers)
        if areas[i] > max(LEAST_SEEN * layer.whole, LEAST_AREA * height * width)
    ]
    how = rng.choice(TOLD[0], p=TOLD[1])
    if how == "nothing" or not clear:
        chosen = [i for i, layer in enumerate(layers) if layer.stands_out]
        return (seen[chosen].sum(0) if chosen else np.zeros((height, width), np.float32)), told
    one = seen[clear[rng.integers(len(clear))]]
    rows, columns = np.flatnonzero((one > 0.1).any(1)), np.flatnonzero((one > 0.1).any(0))
    if how == "box" and len(rows):
        slack = BOX_SLACK * np.float64([len(rows), len(rows), len(columns), len(columns)])
        top, bottom, left, right = (
            np.float64([rows[0], rows[-1] + 1, columns[0], columns[-1] + 1]) + rng.normal(0, 1, 4) * slack
        )
        told[..., 0] = box_map((left, top, right, bottom), height, width)
    elif how == "point":
        inner = np.argwhere(one > 0.6 * one.max())
        y, x = inner[rng.integers(len(inner))]
        told[..., 1] = point_map(x + 0.5, y + 0.5, height, width)
    return one, told


def photographed(rng: np.random.Generator, rgb: np.ndarray) -> np.ndarray:
    """What a camera and a file make of it: exposure, vignette, noise, JPEG."""
    height, width = rgb.shape[:2]
    if rng.random() < 0.4:
        rgb = recolored(rng, rgb)
    if rng.random() < 0.25:
        y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
        rgb = rgb * (1 - rng.uniform(0, 0.35) * (x * x + y * y) / 2)[..., None]
    if rng.random() < 0.2:
        rgb = cv2.GaussianBlur(rgb, (0, 0), rng.uniform(0.3, 1.2))
    if rng.random() < 0.6:
        grain = rng.normal(0, 1, rgb.shape).astype(np.float32)
        rgb = rgb + np.exp(rng.uniform(np.log(0.003), np.log(0.05))) * grain
    encoded = (np.clip(rgb, 0, 1) * 255 + 0.5).astype(np.uint8)
    if rng.random() < 0.7:
        quality = int(rng.integers(40, 98))
        _, jpeg = cv2.imencode(".jpg", encoded[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
        encoded = np.ascontiguousarray(cv2.imdecode(jpeg, cv2.IMREAD_COLOR)[..., ::-1])
    return encoded


def _square(part: np.ndarray, size: int) -> np.ndarray:
    """uint8, squeezed or stretched into a square; channels of what is told come first."""
    if part.dtype != np.uint8:
        part = (np.clip(part, 0, 1) * 255 + 0.5).astype(np.uint8)
    resized = cv2.resize(part, (size, size), interpolation=cv2.INTER_LINEAR)
    return (
        np.ascontiguousarray(resized.transpose(2, 0, 1))
        if resized.ndim == 3 and resized.shape[2] == 2
        else resized
    )
