"""Procedural textures: square tiles of wood, marble, stripes and so on, and flat-colored meshes dressed in them.

A tile repeats seamlessly to the left and right, so that it closes around a turned shape.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np

from sv3d_pipe.geometry.meshes import face_areas, face_normals
from sv3d_pipe.render.draw import nearest_texels
from sv3d_pipe.render.objects import Object

TILE = 256  # texels on a side
MOST_MATERIALS = 6
GUTTER = 1.5 / TILE  # kept away from a tile's edge, where its neighbor begins
TEXTURED_COLORS = (
    100  # palettes with gradients show up to about this many (of 5 bits per channel), pictures more
)


def noise(rng: np.random.Generator, cells: int, octaves: int = 4, stretch: int = 1) -> np.ndarray:
    """[TILE, TILE] smooth noise in [0, 1] that repeats: value noise, each octave half as strong.

    Args:
        cells: of the first octave along a side. stretch: makes the grain this much longer downwards.
    """
    total, strength = np.zeros((TILE, TILE), np.float32), 1.0
    for _ in range(octaves):
        rows = max(2, cells // stretch)
        lattice = rng.random((rows, cells), np.float32)
        ring = np.pad(lattice, 2, mode="wrap")
        scale_y, scale_x = TILE / rows, TILE / cells
        matrix = np.float32([[scale_x, 0, -1.5 * scale_x - 0.5], [0, scale_y, -1.5 * scale_y - 0.5]])
        smooth = cv2.warpAffine(ring, matrix, (TILE, TILE), flags=cv2.INTER_CUBIC)
        total += strength * smooth
        cells, strength = min(2 * cells, TILE // 2), strength / 2
    low, high = np.percentile(total, (1, 99))
    return np.clip((total - low) / (high - low), 0, 1)


def _grid() -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[:TILE, :TILE].astype(np.float32)
    return (x + 0.5) / TILE, (y + 0.5) / TILE


def _step(value: np.ndarray) -> np.ndarray:
    return (value > 0).astype(np.float32)


def _plain(rng):
    return 0.15 * noise(rng, int(rng.integers(3, 8)), 2)


def _mottled(rng):
    return noise(rng, int(rng.integers(3, 20)), 5)


def _speckled(rng):
    return _step(noise(rng, int(rng.integers(24, 64)), 2) - rng.uniform(0.6, 0.85))


def _patches(rng):
    return _step(noise(rng, int(rng.integers(3, 10)), 3) - rng.uniform(0.35, 0.65))


def _stripes(rng):
    x, y = _grid()
    turns, rise = int(rng.integers(0, 12)), int(rng.integers(0, 12))
    wave = np.sin(
        2 * np.pi * (turns * x + (rise + (turns == 0)) * y + rng.uniform(0, 0.3) * noise(rng, 4, 2))
    )
    return _step(wave - rng.uniform(-0.6, 0.6)) if rng.random() < 0.7 else 0.5 + 0.5 * wave


def _checks(rng):
    x, y = _grid()
    across, down = 2 * int(rng.integers(1, 9)), int(rng.integers(2, 17))
    return _step(np.sin(np.pi * across * x) * np.sin(np.pi * down * y))


def _dots(rng):
    x, y = _grid()
    count = int(rng.integers(3, 13))
    row = np.floor(y * count)
    u, v = (x * count + 0.5 * (row % 2)) % 1 - 0.5, (y * count) % 1 - 0.5
    return _step(rng.uniform(0.15, 0.4) - np.hypot(u, v))


def _wood(rng):
    x, y = _grid()
    rings = int(rng.integers(3, 9)) * x + rng.uniform(0.5, 2) * noise(rng, 4, 3, stretch=2)
    return np.clip(
        0.75 * (0.5 + 0.5 * np.sin(2 * np.pi * rings)) + 0.35 * noise(rng, 64, 2, stretch=16), 0, 1
    )


def _marble(rng):
    x, y = _grid()
    vein = np.sin(2 * np.pi * (int(rng.integers(1, 4)) * x + y + rng.uniform(1, 2.5) * noise(rng, 4, 5)))
    return np.exp(-rng.uniform(3, 9) * np.abs(vein))


def _bricks(rng):
    x, y = _grid()
    rows, columns, joint = int(rng.integers(4, 13)), int(rng.integers(2, 8)), rng.uniform(0.05, 0.12)
    row = np.floor(y * rows)
    place = x * columns + 0.5 * (row % 2)
    gap = np.maximum(_step(joint - (y * rows) % 1), _step(joint * columns / rows - place % 1))
    shade = rng.random((rows, columns), np.float32)[row.astype(int) % rows, place.astype(int) % columns]
    return np.maximum(gap, 0.3 * shade)


def _rings(rng):
    _, y = _grid()
    edges = np.sort(rng.random(int(rng.integers(2, 9))))
    return (np.searchsorted(edges, y) % 2).astype(np.float32)


def _gradient(rng):
    _, y = _grid()
    return y if rng.random() < 0.5 else 1 - y


def _label(rng):
    """A panel with bars, blocks and lines of something like writing."""
    picture = np.zeros((TILE, TILE), np.float32)
    left, top = int(rng.integers(10, 80)), int(rng.integers(10, 80))
    right, bottom = TILE - int(rng.integers(10, 80)), TILE - int(rng.integers(10, 80))
    picture[top:bottom, left:right] = 1
    y = top + 6
    while y < bottom - 8:
        height, x = int(rng.integers(3, 16)), left + 6
        while x < right - 6:
            width = int(rng.integers(3, 30))
            if rng.random() < 0.7:
                picture[y : min(y + height, bottom - 4), x : min(x + width, right - 4)] = rng.choice([0, 0.5])
            x += width + int(rng.integers(2, 6))
        y += height + int(rng.integers(4, 12))
    return picture


PATTERNS: tuple[Callable[[np.random.Generator], np.ndarray], ...] = (
    _plain, _mottled, _speckled, _patches, _stripes, _checks, _dots, _wood, _marble, _bricks, _rings,
    _gradient, _label,
)  # fmt: skip


def random_color(rng: np.random.Generator) -> np.ndarray:
    """[3] sRGB; grays and pale colors are as common as saturated ones."""
    hsv = np.float32([[[rng.uniform(0, 360), rng.beta(1, 1.8), rng.beta(2, 1.2)]]])
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0, 0]


def tile(rng: np.random.Generator, base: np.ndarray) -> np.ndarray:
    """A random material of a base color [3] and a second one: [TILE, TILE, 3] sRGB in [0, 1], slightly worn."""
    pattern = PATTERNS[rng.integers(len(PATTERNS))](rng)[..., None]
    if rng.random() < 0.5:
        second = random_color(rng)
    else:  # the same color, lighter or darker
        second = np.clip(base * rng.uniform(0.35, 0.8) + rng.choice([0.0, 0.35]), 0, 1)
    wear = 1 + rng.uniform(0, 0.15) * (noise(rng, 6, 5)[..., None] - 0.5)
    return np.clip((base + pattern * (second - base)) * wear, 0, 1).astype(np.float32)


def on_tile(uv: np.ndarray, index: int, count: int) -> np.ndarray:
    """Texture coordinates [..., 2] in [0, 1] moved onto tile ``index`` of an atlas of ``count`` in a row."""
    inside = np.clip(uv, GUTTER, 1 - GUTTER)
    return np.stack([(inside[..., 0] + index) / count, inside[..., 1]], -1).astype(np.float32)


def is_textured(obj: Object, samples: int = 4096) -> bool:
    """Whether a mesh's colors come from a picture: many different ones over its surface, not a palette."""
    rng = np.random.default_rng(0)
    corners = obj.vertices[obj.faces].astype(np.float64)
    areas = face_areas(corners)
    face = np.searchsorted(np.cumsum(areas), rng.random(samples) * areas.sum()).clip(max=len(areas) - 1)
    weights = rng.dirichlet((1, 1, 1), samples)[..., None]
    rgb = nearest_texels(obj.texture, (obj.corner_uv[face] * weights).sum(1))
    return len(np.unique((rgb * 31 + 0.5).astype(np.uint8), axis=0)) >= TEXTURED_COLORS


def dress(obj: Object, rng: np.random.Generator) -> Object:
    """A flat-colored mesh in other colors (2 of 3 times) and in procedural textures (2 of 3 times).

    All hues turn by one angle. Each of its main colors becomes a material whose tile is laid on from the
    side that a triangle faces most (triplanar mapping, one side per triangle).
    """
    if rng.random() < 2 / 3:
        obj = replace(obj, texture=turn_hues(obj.texture, rng.uniform(0, 360)))
    return retexture(obj, rng) if rng.random() < 2 / 3 else obj


def turn_hues(rgb: np.ndarray, degrees: float) -> np.ndarray:
    """sRGB [H, W, 3] in [0, 1] with all hues turned by an angle; value and saturation stay."""
    hsv = cv2.cvtColor(rgb.astype(np.float32), cv2.COLOR_RGB2HSV)
    hsv[..., 0] = (hsv[..., 0] + np.float32(degrees)) % 360
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)


def retexture(obj: Object, rng: np.random.Generator) -> Object:
    """The mesh with its main colors turned into materials, see :func:`dress`."""
    colors, material = _main_colors(obj)
    low, high = obj.vertices.min(0), obj.vertices.max(0)
    corners = (obj.vertices[obj.faces] - (low + high) / 2) / (high - low).max()  # [F, 3, 3] in +-0.5
    side = np.abs(face_normals(corners)).argmax(1)
    across, along = np.array([2, 0, 0])[side], np.array([1, 2, 1])[side]
    rows = np.arange(len(corners))[:, None]
    uv = np.stack([corners[rows, [0, 1, 2], across[:, None]], corners[rows, [0, 1, 2], along[:, None]]], -1)
    placed = np.empty_like(uv, np.float32)
    for index in range(len(colors)):
        mine = material == index
        placed[mine] = on_tile(uv[mine] + 0.5, index, len(colors))
    tiles = [tile(rng, color) for color in colors]
    return replace(obj, corner_uv=placed, texture=np.concatenate(tiles, 1))


def _main_colors(obj: Object) -> tuple[np.ndarray, np.ndarray]:
    """The colors [K, 3] that cover most of a mesh, and each triangle's nearest of them [F]."""
    rgb = nearest_texels(obj.texture, obj.corner_uv.mean(1))
    areas = face_areas(obj.vertices[obj.faces])
    coarse = (rgb * 7 + 0.5).astype(np.int64) @ np.array([64, 8, 1])
    bins, index = np.unique(coarse, return_inverse=True)
    covered = np.bincount(index, areas)
    main = np.argsort(-covered, kind="stable")[:MOST_MATERIALS]
    count = np.bincount(index)
    means = np.stack([np.bincount(index, rgb[:, i]) / count for i in range(3)], 1)[main]
    distance = ((rgb[:, None] - means) ** 2).sum(-1)
    return means.astype(np.float32), distance.argmin(1)
