"""Forms of random size and shape, from which invented objects are put together."""

from __future__ import annotations

import numpy as np

from sv3d_pipe.dataset.invented.solids import (
    Solid,
    bent,
    extrusion,
    lathe,
    regular_outline,
    super_outline,
    superquadric,
    tapered,
    tube,
    twisted,
)


def coin(rng: np.random.Generator, chance: float = 0.5) -> bool:
    return bool(rng.random() < chance)


def blob(rng: np.random.Generator) -> Solid:
    """A superquadric between ball, box and spindle, sometimes tapered, twisted or bent."""
    solid = superquadric(rng.choice([0.15, 0.4, 1.0, 1.6]), rng.choice([0.15, 0.4, 1.0, 1.0, 1.6]))
    if coin(rng, 0.3):
        solid = tapered(solid, rng.uniform(-0.7, 0.7))
    if coin(rng, 0.15):
        solid = twisted(solid, rng.uniform(-120, 120))
    return bent(solid, rng.uniform(-0.8, 0.8)) if coin(rng, 0.15) else solid


def turned(rng: np.random.Generator) -> Solid:
    """A lathe of a random profile, smooth or with sharp steps."""
    height = np.linspace(-0.5, 0.5, 4 + int(rng.integers(4)))
    radius = rng.uniform(0.12, 0.5, len(height))
    radius[0] *= rng.choice([0.0, 1.0], p=[0.2, 0.8])
    radius[-1] *= rng.choice([0.0, 1.0], p=[0.3, 0.7])
    if coin(rng):
        return lathe(np.stack([radius, height], -1))
    return lathe(spline(radius, height))


def spline(radius: np.ndarray, height: np.ndarray, count: int = 32) -> np.ndarray:
    """A smooth profile [count, 2] through the given radii, never negative."""
    from scipy.interpolate import PchipInterpolator

    fine = np.linspace(height[0], height[-1], count)
    return np.stack([np.maximum(PchipInterpolator(height, radius)(fine), 0), fine], -1)


def plate(rng: np.random.Generator) -> Solid:
    """An extruded polygon, star, gear or flower; its outline faces the front."""
    kind = rng.integers(4)
    if kind == 0:
        outline = regular_outline(int(rng.integers(3, 9)), phase_deg=90)
    elif kind == 1:
        outline = regular_outline(int(rng.integers(4, 9)), rng.uniform(0.4, 0.75), 90)
    elif kind == 2:
        outline = gear(int(rng.integers(7, 17)), rng.uniform(0.7, 0.88))
    else:
        outline = super_outline(int(rng.integers(3, 9)), *rng.uniform((0.4, 0.5, 0.5), (3.0, 2.0, 2.0)))
    return extrusion(outline, rng.choice([0.0, 0.06, 0.15]))


def gear(teeth: int, inner: float) -> np.ndarray:
    angle = 2 * np.pi * np.arange(4 * teeth) / (4 * teeth)
    radius = np.where(np.arange(4 * teeth) % 4 < 2, 0.5, 0.5 * inner)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], -1)


def any_solid(rng: np.random.Generator) -> Solid:
    return [blob, turned, plate][rng.integers(3)](rng)


def slab(width: float, height: float, depth: float, soft: float = 0.12) -> Solid:
    return superquadric(soft, soft).placed((width, height, depth))


def arc(rng: np.random.Generator, start, end, bulge: np.ndarray, thick: float) -> Solid:
    """A handle from start to end that bulges to one side."""
    t = np.linspace(0, 1, 17)[:, None]
    path = (1 - t) * start + t * end + np.sin(np.pi * t) ** rng.uniform(0.5, 1.0) * bulge
    return tube(path, thick)
