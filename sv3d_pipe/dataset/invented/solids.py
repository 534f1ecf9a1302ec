"""Parametric solids with texture coordinates: superquadrics, lathes, extrusions, tubes.

All but the tubes stand around the y axis and fill about [-0.5, 0.5]^3; u runs around, v upwards, both in [0, 1].
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

AROUND, ALONG = 48, 24  # segments of smooth shapes


@dataclass(frozen=True)
class Solid:
    """A closed triangle mesh.

    Attributes:
        vertices: [V, 3]. faces: [F, 3].
        corner_uv: [F, 3, 2] in [0, 1], v up.
    """

    vertices: np.ndarray
    faces: np.ndarray
    corner_uv: np.ndarray

    def placed(self, scale=1.0, move=(0.0, 0.0, 0.0), turn: np.ndarray | None = None) -> Solid:
        """Scaled (one factor or three), then turned by a rotation matrix [3, 3], then moved."""
        vertices = self.vertices * scale
        if turn is not None:
            vertices = np.einsum("ij,vj->vi", turn, vertices)
        return replace(self, vertices=vertices + move)

    def mirrored(self, axis: int = 0) -> Solid:
        """The mirror image at the plane through the origin; triangles keep facing outwards."""
        vertices = self.vertices.copy()
        vertices[:, axis] *= -1
        return Solid(vertices, self.faces[:, ::-1], self.corner_uv[:, ::-1])


def rotation(axis: int, degrees: float) -> np.ndarray:
    """[3, 3] right-handed turn around x, y or z (0, 1, 2)."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turn = np.eye(3)
    i, j = (axis + 1) % 3, (axis + 2) % 3
    turn[[i, i, j, j], [i, j, i, j]] = c, -s, s, c
    return turn


def sheet(points: np.ndarray, flip: bool = False) -> Solid:
    """Triangles over a grid of points [rows, columns, 3]; u along columns, v along rows, both 0 to 1.

    Seen from outside, columns run to the right and rows upwards. Triangles without area are left out.
    """
    rows, columns, _ = points.shape
    index = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]
    faces = np.concatenate([np.stack([a, b, c], -1).reshape(-1, 3), np.stack([a, c, d], -1).reshape(-1, 3)])
    v, u = np.meshgrid(np.linspace(0, 1, rows), np.linspace(0, 1, columns), indexing="ij")
    uv = np.stack([u, v], -1).reshape(-1, 2)
    vertices = points.reshape(-1, 3)
    corners = vertices[faces]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    faces = faces[area > 1e-9]
    return Solid(vertices, faces[:, ::-1], uv[faces][:, ::-1]) if flip else Solid(vertices, faces, uv[faces])


def joined(solids: list[Solid]) -> Solid:
    """Several solids as one, their texture coordinates as they are."""
    starts = np.cumsum([0] + [len(solid.vertices) for solid in solids])
    faces = np.concatenate([solid.faces + start for solid, start in zip(solids, starts)])
    return Solid(
        np.concatenate([solid.vertices for solid in solids]),
        faces,
        np.concatenate([solid.corner_uv for solid in solids]),
    )


def _power(value: np.ndarray, exponent: float) -> np.ndarray:
    return np.sign(value) * np.abs(value) ** exponent


def superquadric(upright: float, around: float) -> Solid:
    """Barr's superellipsoid (1981): 1 and 1 is a sphere, both small a box, 2 an octahedron.

    Args:
        upright, around: exponents of the outline seen from the side and from above.
    """
    latitude = np.linspace(-np.pi / 2, np.pi / 2, ALONG + 1)[:, None]
    longitude = np.linspace(-np.pi, np.pi, AROUND + 1)[None]
    ring = _power(np.cos(latitude), upright)
    x = 0.5 * ring * _power(np.sin(longitude), around)
    z = 0.5 * ring * _power(np.cos(longitude), around)
    y = 0.5 * _power(np.sin(latitude), upright) * np.ones_like(longitude)
    points = np.stack([x, y, z], -1)
    points[0, :, [0, 2]] = points[-1, :, [0, 2]] = 0
    points[:, -1] = points[:, 0]
    return sheet(points)


def lathe(profile: np.ndarray, segments: int = AROUND) -> Solid:
    """A profile [P, 2] of (radius, height), from the bottom upwards, turned around the y axis.

    Where the ends do not touch the axis they are closed by discs; for a sharp rim there or elsewhere the
    profile must provide the edge.
    """
    profile = np.asarray(profile, np.float64)
    ends = [np.array([[0.0, row[1]]]) if row[0] > 1e-6 else np.empty((0, 2)) for row in profile[[0, -1]]]
    radius, height = np.concatenate([ends[0], profile, ends[1]]).T[:, :, None]
    angle = np.linspace(-np.pi, np.pi, segments + 1)[None]
    y = np.broadcast_to(height, (len(height), segments + 1))
    points = np.stack([radius * np.sin(angle), y, radius * np.cos(angle)], -1)
    points[:, -1] = points[:, 0]
    return sheet(points)


def extrusion(outline: np.ndarray, bevel: float = 0.0) -> Solid:
    """An outline [P, 2] in x and y, counter-clockwise and star-shaped around 0, drawn along z from -0.5 to 0.5.

    Args:
        bevel: how far the front and back edges are cut off, as a share of the outline and of the depth.
    """
    ring = np.concatenate([outline, outline[:1]])
    inner = ring * (1 - bevel)
    levels = [(inner, -0.5), (ring, -0.5 + bevel), (ring, 0.5 - bevel), (inner, 0.5)]
    if bevel == 0:
        levels = [levels[1], levels[2]]
    wall = np.stack([np.column_stack([line, np.full(len(line), z)]) for line, z in levels])
    side = sheet(wall)
    low, extent = outline.min(0), np.ptp(outline, axis=0)
    caps = []
    for line, z in (levels[0], levels[-1]):
        fan = np.stack([np.zeros_like(line), line])  # from the middle outwards
        cap = sheet(np.concatenate([fan, np.full((*fan.shape[:2], 1), z)], -1), flip=z > 0)
        flat = np.clip((cap.vertices[cap.faces][..., :2] - low) / extent, 0, 1)
        caps.append(replace(cap, corner_uv=flat))
    return joined([side, *caps])


def tube(path: np.ndarray, radius: np.ndarray | float, segments: int = 16, closed: bool = False) -> Solid:
    """A round tube along a path [P, 3], its ends closed; a ring if ``closed`` (the last point is the first).

    Args:
        radius: one for all points, or [P].
    """
    path = np.asarray(path, np.float64)
    tangent = np.gradient(path, axis=0)
    if closed:
        tangent[0] = tangent[-1] = path[1] - path[-2]
    tangent /= np.maximum(np.linalg.norm(tangent, axis=1, keepdims=True), 1e-9)
    side = _carried_along(tangent)
    if closed:
        side[-1] = side[0]
    up = np.cross(tangent, side)
    radius = np.broadcast_to(np.asarray(radius, np.float64), len(path))[:, None, None]
    angle = np.linspace(0, 2 * np.pi, segments + 1)[None, :, None]
    points = path[:, None] + radius * (np.cos(angle) * side[:, None] + np.sin(angle) * up[:, None])
    points[:, -1] = points[:, 0]
    if not closed:
        ends = [np.repeat(path[i][None, None], segments + 1, 1) for i in (0, -1)]
        points = np.concatenate([ends[0], points, ends[1]])
    return sheet(points)


def _carried_along(tangent: np.ndarray) -> np.ndarray:
    """Unit vectors [P, 3] perpendicular to the tangents [P, 3] that turn as little as possible along the path."""
    side = np.empty_like(tangent)
    side[0] = np.cross(tangent[0], np.eye(3)[np.abs(tangent[0]).argmin()])
    for i in range(1, len(tangent)):
        side[i] = side[i - 1] - (side[i - 1] * tangent[i]).sum() * tangent[i]
    return side / np.linalg.norm(side, axis=1, keepdims=True)


def regular_outline(corners: int, inner: float = 1.0, phase_deg: float = 0.0) -> np.ndarray:
    """A regular polygon [P, 2] of radius 0.5; a star if ``inner`` (share of the radius between corners) < 1."""
    count = corners if inner == 1 else 2 * corners
    angle = np.radians(phase_deg) + 2 * np.pi * np.arange(count) / count
    radius = np.where(np.arange(count) % 2 == 0, 0.5, 0.5 * inner) if inner != 1 else np.full(count, 0.5)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], -1)


def super_outline(symmetry: int, n1: float, n2: float, n3: float) -> np.ndarray:
    """Gielis' superformula (2003) as an outline [P, 2] whose largest radius is 0.5."""
    angle = 2 * np.pi * np.arange(96) / 96
    waves = np.abs(np.cos(symmetry * angle / 4)) ** n2 + np.abs(np.sin(symmetry * angle / 4)) ** n3
    radius = waves ** (-1 / n1)
    radius *= 0.5 / radius.max()
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], -1)


def tapered(solid: Solid, amount: float) -> Solid:
    """Narrower towards the top (0 < amount < 1) or towards the bottom (negative)."""
    factor = 1 - amount * (solid.vertices[:, 1] + (0.5 if amount > 0 else -0.5))
    return replace(solid, vertices=solid.vertices * np.stack([factor, np.ones_like(factor), factor], -1))


def twisted(solid: Solid, degrees: float) -> Solid:
    """Turned around y by an angle that grows from 0 at y = 0 by ``degrees`` per unit of height."""
    angle = np.radians(degrees) * solid.vertices[:, 1]
    x, y, z = solid.vertices.T
    c, s = np.cos(angle), np.sin(angle)
    return replace(solid, vertices=np.stack([c * x + s * z, y, c * z - s * x], -1))


def bent(solid: Solid, amount: float) -> Solid:
    """Leaning over to +x by amount * y^2."""
    shift = np.zeros_like(solid.vertices)
    shift[:, 0] = amount * solid.vertices[:, 1] ** 2
    return replace(solid, vertices=solid.vertices + shift)
