"""Kinds of invented objects: each a function from a random generator to solids with material numbers.

Every object stands upright, +z is its front.
"""

from __future__ import annotations

import numpy as np

from sv3d_pipe.dataset.invented.forms import any_solid, arc, blob, coin, plate, slab, spline, turned
from sv3d_pipe.dataset.invented.solids import Solid, extrusion, lathe, rotation, superquadric, tapered, tube

Part = tuple[Solid, int]  # with the number of its material
MATERIALS = 6


def vessel(rng: np.random.Generator) -> list[Part]:
    """A vase, cup, jug, bottle or pot: a hollow lathe, perhaps with handles, a spout or a lid."""
    height = np.linspace(0, 1, 5)
    radius = rng.uniform(0.18, 0.5, 5)
    if coin(rng, 0.3):  # a bottle
        radius[3:] = rng.uniform(0.08, 0.14)
    outside = spline(radius, height)
    wall, floor = rng.uniform(0.02, 0.05), 4
    inside = np.column_stack([np.maximum(outside[floor:, 0] - wall, 0.02), outside[floor:, 1]])[::-1]
    body = lathe(np.concatenate([outside, inside, [[0, outside[floor, 1]]]]))
    parts = [(body, 0)]
    if coin(rng, 0.55):
        low, high = np.sort(rng.choice(np.arange(6, 30), 2, replace=False))
        high = max(high, low + 5) if low < 24 else high
        ends = [np.array([outside[min(i, 31), 0] - wall / 2, outside[min(i, 31), 1], 0]) for i in (low, high)]
        handle = arc(rng, *ends, np.array([rng.uniform(0.12, 0.35), 0, 0]), rng.uniform(0.02, 0.05))
        parts.append((handle, 1))
        parts += [(handle.mirrored(), 1)] if coin(rng, 0.4) else []
    if coin(rng, 0.35):
        lid = lathe([[radius[-1] + 0.02, 1], [radius[-1] + 0.02, 1.04], [0.05, 1.14], [0.05, 1.2], [0, 1.22]])
        parts.append((lid, 2))
    return parts


def furniture(rng: np.random.Generator) -> list[Part]:
    """A table, stool, chair, bench, shelf or cupboard."""
    width, depth, thick = rng.uniform(0.6, 1.4), rng.uniform(0.5, 0.9), rng.uniform(0.04, 0.12)
    height = rng.uniform(0.3, 0.9)
    leg = (
        turned(rng) if coin(rng, 0.4) else slab(1, 1, 1) if coin(rng) else tapered(superquadric(0.1, 1), -0.5)
    )
    thin = rng.uniform(0.06, 0.14)
    if coin(rng, 0.3):
        return _cupboard(rng, width, 1.5 * height + 0.3, depth)
    top = slab(width, thick, depth) if coin(rng, 0.7) else superquadric(0.15, 1).placed((width, thick, depth))
    reach = 0.36 if coin(rng, 0.7) else 0.3
    parts = [(top.placed(move=(0, height, 0)), 0)]
    for x in (-1, 1):
        for z in (-1, 1):
            foot = leg.placed((thin, height, thin), (x * reach * width, height / 2, z * reach * depth))
            parts.append((foot, 1))
    if coin(rng, 0.6):  # a chair
        rise, lean = rng.uniform(0.5, 0.9), rotation(0, rng.uniform(-12, 0))
        back = slab(width, rise, thick) if coin(rng) else plate(rng).placed((width, rise, thick))
        parts.append((back.placed(turn=lean, move=(0, height + rise / 2, -0.46 * depth)), 2))
        if coin(rng, 0.4):
            arm = slab(0.08, 0.06, depth).placed(move=(0.46 * width, height + 0.25, 0))
            parts += [(arm, 1), (arm.mirrored(), 1)]
    return parts


def _cupboard(rng: np.random.Generator, width: float, height: float, depth: float) -> list[Part]:
    parts = [(slab(width, height, depth, 0.06), 0)]
    rows, columns = int(rng.integers(1, 5)), int(rng.integers(1, 4))
    knob = superquadric(1, 1).placed(0.05)
    for row in range(rows):
        for column in range(columns):
            cell = np.array([width / columns, height / rows])
            middle = (np.array([column, row]) + 0.5) * cell - np.array([width, height]) / 2
            door = slab(*(0.88 * cell), 0.06).placed(move=(*middle, depth / 2))
            parts.append((door, 1 + (row + column) % 2))
            parts.append((knob.placed(move=(middle[0] + 0.3 * cell[0], middle[1], depth / 2 + 0.05)), 3))
    return parts


def creature(rng: np.random.Generator) -> list[Part]:
    """A body with head, eyes, limbs, perhaps ears, a tail and a hat: mirror-symmetric, facing +z."""
    upright = coin(rng)
    body_size = rng.uniform((0.4, 0.5, 0.35), (0.8, 0.9, 0.7)) * ((1, 1, 1) if upright else (0.8, 0.7, 1.7))
    body = superquadric(rng.uniform(0.5, 1.3), rng.uniform(0.5, 1.2)).placed(body_size)
    head = rng.uniform(0.3, 0.6) * rng.uniform(0.8, 1.2, 3)
    seat = np.array([0, body_size[1] / 2 + 0.35 * head[1], 0.05])
    seat = seat if upright else np.array([0, 0.4 * body_size[1], body_size[2] / 2 + 0.2 * head[2]])
    skull = superquadric(rng.uniform(0.6, 1.1), rng.uniform(0.6, 1.1)).placed(head, seat)
    parts = [(body, 0), (skull, int(coin(rng)))]
    pairs = []
    eye, away = rng.uniform(0.06, 0.14) * np.ones(3), head * (0.2, 0.12, 0.43)
    pairs.append((superquadric(1, 1).placed(eye, seat + away), 4))
    pairs.append((superquadric(1, 1).placed(0.5 * eye, seat + away + (0, 0, 0.32 * eye[2])), 5))
    if coin(rng, 0.7):
        ear = blob(rng).placed(rng.uniform(0.1, 0.35, 3), seat + head * (0.35, 0.5, 0))
        pairs.append((ear, 1))
    limb = rng.uniform(0.08, 0.18)
    for row in range(2):
        z = 0 if upright else (0.35 - 0.7 * row) * body_size[2]
        is_arm = upright and row == 0
        start = np.array([0.35 * body_size[0], (0.25 if is_arm else -0.3) * body_size[1], z])
        end = start + ((rng.uniform(0.2, 0.5), rng.uniform(-0.4, 0.3), 0.15) if is_arm else (0.05, -0.5, 0))
        path = start + np.linspace(0, 1, 9)[:, None] * (end - start)
        pairs.append((tube(path, np.linspace(limb, 0.7 * limb, 9)), 2))
        pairs.append((superquadric(0.8, 1).placed((2.2 * limb, 1.6 * limb, 3 * limb), end + (0, 0, 0.06)), 3))
    if coin(rng, 0.4):
        parts.append((turned(rng).placed((0.4, 0.3, 0.4), seat + (0, 0.5 * head[1], 0)), 3))
    if coin(rng):
        tail = arc(rng, np.array([0, 0, -0.45 * body_size[2]]), np.array([0, 0.3, -0.5 - body_size[2] / 2]), np.array([0, -0.2, 0]), 0.05)  # fmt: skip
        parts.append((tail, 1))
    return parts + pairs + [(solid.mirrored(), material) for solid, material in pairs]


def vehicle(rng: np.random.Generator) -> list[Part]:
    """Something on two to four pairs of wheels, with a cabin and a load."""
    length, width, height = rng.uniform(1.2, 2.2), rng.uniform(0.6, 0.9), rng.uniform(0.25, 0.5)
    wheel = rng.uniform(0.14, 0.28)
    floor = 1.1 * wheel
    body = superquadric(rng.uniform(0.1, 0.6), rng.uniform(0.1, 0.5)).placed(
        (width, height, length), (0, floor + height / 2, 0)
    )
    cabin_size = (0.9 * width, rng.uniform(0.3, 0.6), rng.uniform(0.3, 0.6) * length)
    place = np.array([0, floor + 0.9 * height + cabin_size[1] / 2, rng.uniform(-0.2, 0.25) * length])
    cabin = tapered(superquadric(0.25, 0.2), rng.uniform(0, 0.5)).placed(cabin_size, place)
    glass = tapered(superquadric(0.15, 0.15), 0.2).placed(np.multiply(cabin_size, (1.02, 0.5, 0.8)), place)
    parts = [(body, 0), (cabin, int(coin(rng))), (glass, 2)]
    tire = lathe(spline(np.array([0.4, 0.5, 0.5, 0.4]), np.array([-0.5, -0.25, 0.25, 0.5]), 12))
    hub = lathe([[0.28, -0.55], [0.28, 0.55]]) if coin(rng) else plate(rng).placed(0.6, turn=rotation(0, 90))
    for z in np.linspace(-0.34, 0.34, int(rng.integers(2, 5))) * length:
        for solid, scale, material in ((tire, 1.0, 3), (hub, 1.05, 4)):
            lying = solid.placed((2 * wheel, 0.2 * scale, 2 * wheel)).placed(turn=rotation(2, 90))
            lying = lying.placed(move=(width / 2, wheel, z))
            parts += [(lying, material), (lying.mirrored(), material)]
    lamp = superquadric(1, 1).placed((0.14, 0.14, 0.1), (0.3 * width, floor + 0.55 * height, length / 2))
    parts += [(lamp, 5), (lamp.mirrored(), 5)]
    if coin(rng, 0.5):
        load = any_solid(rng).placed(rng.uniform(0.3, 0.6, 3), (0, floor + height + 0.15, -0.3 * length))
        parts.append((load, 4))
    return parts


def building(rng: np.random.Generator) -> list[Part]:
    """A house, tower or castle: stories that shrink upwards, a roof, windows, towers at the corners."""
    sides = int(rng.choice([4, 4, 4, 6, 8, 24]))
    turn = rotation(1, 180 / sides)
    foot, y = np.array([rng.uniform(0.8, 1.4), rng.uniform(0.8, 1.2)]), 0.0
    parts: list[Part] = []

    def prism(top: float = 1.0) -> Solid:
        corner = 0.5 / np.cos(np.pi / sides)
        return lathe([[corner, -0.5], [corner * top, 0.5]], sides).placed(turn=turn)

    for storey in range(int(rng.integers(1, 5))):
        height = rng.uniform(0.3, 0.7)
        parts.append((prism().placed((foot[0], height, foot[1]), (0, y + height / 2, 0)), storey % 2))
        parts += _windows(rng, foot, y, height) if sides == 4 else []
        y += height
        foot = foot * (rng.uniform(0.6, 0.95) if coin(rng) else 1.0)
    roof, eave = rng.uniform(0.2, 0.8), rng.uniform(1.0, 1.2)
    top = prism(0.0 if coin(rng, 0.7) else 0.8)
    if sides == 4 and coin(rng):  # a gable
        outline = np.array([[0.5, -0.5], [0, 0.5], [-0.5, -0.5]])
        top = extrusion(outline)
    parts.append((top.placed((eave * foot[0], roof, eave * foot[1]), (0, y + roof / 2, 0)), 2))
    if coin(rng, 0.4):
        tower = lathe([[0.14, 0], [0.14, 1], [0.18, 1], [0.18, 1.1], [0, 1.5]]).placed((1, 0.9 * y + 0.3, 1))
        for x in (-1, 1):
            for z in (-1, 1):
                parts.append((tower.placed(move=(x * 0.5 * foot[0], 0, z * 0.5 * foot[1])), 3))
    return parts


def _windows(rng: np.random.Generator, foot: np.ndarray, y: float, height: float) -> list[Part]:
    count, parts = int(rng.integers(1, 5)), []
    size = min(0.5 * foot[0] / count, 0.5 * height)
    for x in (np.arange(count) + 0.5) / count * foot[0] - foot[0] / 2:
        pane = slab(size, 1.2 * size, 0.05, 0.1)
        for z in (-foot[1] / 2, foot[1] / 2):
            parts.append((pane.placed(move=(x, y + height / 2, z)), 4))
    return parts


def plant(rng: np.random.Generator) -> list[Part]:
    """A pot with a trunk or stems that carry leaves, fruit or a crown."""
    pot = lathe([[0.22, 0], [0.3, 0.4], [0.34, 0.4], [0.34, 0.48], [0.28, 0.48], [0.28, 0.42], [0, 0.42]])
    parts = [(pot, 0)] if coin(rng, 0.7) else []
    top = rng.uniform(0.8, 1.6)
    if coin(rng):
        parts.append(
            (tube([(0, 0.3, 0), (0.05, top / 2, 0), (0, top, 0.03)], np.array([0.1, 0.07, 0.05])), 1)
        )
        for _ in range(int(rng.integers(1, 7))):
            size = rng.uniform(0.3, 0.7, 3)
            parts.append(
                (blob(rng).placed(size, (*rng.uniform(-0.25, 0.25, 2), 0) + np.array([0, top, 0])), 2)
            )
        return parts
    for angle in np.arange(count := int(rng.integers(4, 11))) * 360 / count:
        bow = rng.uniform(0.2, 0.6)
        t = np.linspace(0, 1, 9)[:, None]
        stem = np.concatenate([bow * t**2, 0.4 + (top - 0.4) * t * (1.2 - 0.4 * t), 0 * t], 1)
        leaf = superquadric(1, 1).placed((0.5, 0.06, 0.22), (0, 0, 0), rotation(2, rng.uniform(-40, 40)))
        turn = rotation(1, angle)
        parts.append((tube(stem, 0.025, 8).placed(turn=turn), 1))
        parts.append((leaf.placed(move=stem[-1]).placed(turn=turn), 2 + int(coin(rng, 0.3))))
    return parts


def tool(rng: np.random.Generator) -> list[Part]:
    """A handle and what sits at its end: hammer, spoon, racket, key, lamp, brush."""
    long = rng.uniform(0.8, 1.6)
    grip = turned(rng).placed((0.24, long, 0.24)) if coin(rng) else slab(0.12, long, 0.1, 0.5)
    head = any_solid(rng).placed(rng.uniform((0.3, 0.2, 0.1), (0.9, 0.6, 0.4)), (0, long / 2, 0))
    parts = [(grip, 0), (head, 1)]
    if coin(rng):
        angle = np.linspace(0, 2 * np.pi, 33)
        ring = 0.3 * np.stack([np.sin(angle), -np.cos(angle), 0 * angle], -1)
        parts.append((tube(ring + (0, -long / 2 - 0.25, 0), 0.05, closed=True), 2))
    if coin(rng):
        parts.append(
            (any_solid(rng).placed(rng.uniform(0.15, 0.4, 3), (0, rng.uniform(-0.3, 0.3) * long, 0)), 3)
        )
    return parts


def assembly(rng: np.random.Generator) -> list[Part]:
    """Any solids, the smaller ones around a big one: mirrored, repeated around the axis, or stacked."""
    core = any_solid(rng).placed(rng.uniform(0.5, 1.2, 3))
    parts, extent = [(core, 0)], np.ptp(core.vertices, axis=0)
    for material in range(1, 1 + int(rng.integers(1, MATERIALS))):
        size = rng.uniform(0.15, 0.6) * rng.uniform(0.5, 1.5, 3)
        turn = rotation(int(rng.integers(3)), rng.choice([0, 90, rng.uniform(0, 360)]))
        part = any_solid(rng).placed(size).placed(turn=turn, move=rng.uniform(-0.5, 0.5, 3) * extent)
        manner = rng.integers(4)
        if manner == 0:
            parts += [(part, material), (part.mirrored(), material)]
        elif manner == 1:
            count = int(rng.integers(3, 9))
            part = part.placed(move=(0.2 * extent[0], 0, 0))
            parts += [(part.placed(turn=rotation(1, 360 * i / count)), material) for i in range(count)]
        elif manner == 2:
            rise = core.vertices[:, 1].max() - part.vertices[:, 1].min() - 0.1 * extent[1]
            middle = part.vertices.mean(0)
            part = part.placed(move=(-middle[0], rise, -middle[2]))
            parts.append((part, material))
        else:
            parts.append((part, material))
    return parts
