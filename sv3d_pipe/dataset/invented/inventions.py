"""Endless objects: put together from parametric solids and procedural materials, by a seed.

Every object stands upright, +z is its front. No two seeds agree, and one seed always gives the same object.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sv3d_pipe.dataset.invented.kinds import (
    assembly,
    building,
    creature,
    furniture,
    plant,
    tool,
    vehicle,
    vessel,
)
from sv3d_pipe.dataset.invented.solids import Solid, joined
from sv3d_pipe.dataset.invented.toys import procedural
from sv3d_pipe.geometry.extent import unit_box
from sv3d_pipe.render.objects import Object
from sv3d_pipe.render.textures import on_tile, random_color, tile

KINDS: tuple[Callable, ...] = (
    vessel, furniture, creature, vehicle, building, plant, tool, assembly, procedural,
)  # fmt: skip
WEIGHTS = (0.13, 0.13, 0.15, 0.11, 0.11, 0.07, 0.1, 0.15, 0.05)
FLAT_SHARE = 0.3  # of the materials are one color without a pattern


def invent(seed: int) -> Object:
    """A random object, centered, its longest side 1, in up to six procedural materials."""
    rng = np.random.default_rng([seed, 0x5EED])
    kind = KINDS[rng.choice(len(KINDS), p=WEIGHTS)]
    if kind is procedural:
        return procedural(seed)
    parts = kind(rng)
    used = sorted({material for _, material in parts})
    tiles = [_material(rng) for _ in used]
    dressed = [
        Solid(solid.vertices, solid.faces, on_tile(solid.corner_uv, used.index(material), len(used)))
        for solid, material in parts
    ]
    whole = joined(dressed)
    vertices = unit_box(whole.vertices)[0].astype(np.float32)
    return Object(vertices, whole.faces, whole.corner_uv.astype(np.float32), np.concatenate(tiles, 1))


def _material(rng: np.random.Generator) -> np.ndarray:
    color = random_color(rng)
    if rng.random() < FLAT_SHARE:
        return np.broadcast_to(color, tile(rng, color).shape).astype(np.float32)
    return tile(rng, color)
