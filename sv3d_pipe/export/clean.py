"""From a raw surface to one that is fit to ship: one body, outward faces, a bounded face count."""

from __future__ import annotations

from typing import Any

import numpy as np
import trimesh

from sv3d_pipe.artifacts import Mesh, Views
from sv3d_pipe.errors import UserError
from sv3d_pipe.export.evidence import shown_parts
from sv3d_pipe.export.remesh import equal_triangles
from sv3d_pipe.export.simplify import drop_bad_faces, recolored, simplify, used
from sv3d_pipe.export.watertight import is_solid, patch, rebuild
from sv3d_pipe.geometry.meshes import component_labels, cone_volumes, face_areas, same_places

SMALL_PART = 0.02  # components below this share of the whole area are debris, unless the pictures show them
SPECK = 2e-4  # below this share they are debris in any case
PATCHES = 6  # rounds of patching before an open mesh is rebuilt
FEWEST_FACES = 2000  # coarser meshes are subdivided: viewers and texture seams like small triangles


def clean(
    mesh: Mesh,
    max_faces: int,
    watertight: bool = False,
    remesh: bool = False,
    views: Views | None = None,
) -> tuple[Mesh, dict[str, Any]]:
    """Weld, drop debris, orient outward, close or remesh if asked to, simplify or subdivide.

    Args:
        max_faces: the result has at most this many faces.
        watertight: close what is open, so that the result is a closed manifold.
        remesh: make triangles of nearly equal size, about ``max_faces`` of them.
        views: small loose parts that these pictures show are kept.
    Returns:
        The cleaned mesh and a report: ``dropped_components``, ``dropped_faces`` (degenerate, doubled
        or in dropped components), ``components``, ``watertight`` (closed and manifold), ``faces``,
        ``vertices``.
    Raises:
        UserError: when nothing with an area is left.
    """
    raw = len(mesh.faces)
    mesh = drop_bad_faces(weld(mesh))
    mesh, dropped = drop_debris(orient(mesh), views)
    kept = len(mesh.faces)
    if watertight:
        mesh = solidify(mesh)
    if remesh:
        mesh = even_out(mesh, max_faces)
    mesh = subdivide(simplify(mesh, max_faces), max_faces)
    report = {
        "dropped_components": dropped,
        "dropped_faces": raw - kept,
        "components": int(component_labels(mesh.faces).max()) + 1,
        "watertight": is_solid(mesh),
        "faces": len(mesh.faces),
        "vertices": len(mesh.vertices),
    }
    return mesh, report


def weld(mesh: Mesh) -> Mesh:
    """Merge vertices at the same place (to a millionth of the size); their colors are averaged."""
    finite = np.isfinite(mesh.vertices).all(1)
    faces = mesh.faces[finite[mesh.faces].all(1)]
    if len(faces) == 0:
        raise UserError("The mesh has no usable triangles; check the views it was fitted to.")
    points = np.where(finite[:, None], mesh.vertices, 0).astype(np.float64)
    step = max(np.ptp(points[faces.reshape(-1)], axis=0).max(), 1e-12) * 1e-6
    first, index = same_places(np.round(points / step).astype(np.int64))
    count = np.bincount(index)[:, None]
    rgb = np.stack([np.bincount(index, mesh.rgb[:, c]) for c in range(3)], -1) / count
    return used(mesh.vertices[first], index[faces], rgb)


def signed_volumes(mesh: Mesh, labels: np.ndarray) -> np.ndarray:
    """[C] volume of each component by the divergence theorem; negative where inside out."""
    corners = mesh.vertices[mesh.faces].astype(np.float64)
    corners -= mesh.vertices.mean(0)
    return np.bincount(labels, cone_volumes(corners))


def closed_components(faces: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """[C] bool: every edge of the component lies between two faces."""
    edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), 1)
    _, index, count = np.unique(edges, axis=0, return_inverse=True, return_counts=True)
    loose = count[index.reshape(-1)] != 2
    return np.bincount(np.tile(labels, 3), loose) == 0


def orient(mesh: Mesh) -> Mesh:
    """Faces counter-clockwise seen from outside.

    Neighbors are made to agree first. Then the largest component is turned outward, and with it all
    others; a closed one that is still inside out stays so (a cavity) only within the largest's box.
    """
    body = mesh.to_trimesh()
    if not body.is_winding_consistent:
        trimesh.repair.fix_winding(body)
    mesh = Mesh(mesh.vertices, np.asarray(body.faces, np.int64), mesh.rgb)
    labels = component_labels(mesh.faces)
    main = np.bincount(labels, face_areas(mesh.vertices[mesh.faces].astype(np.float64))).argmax()
    volume = signed_volumes(mesh, labels)
    flip = np.full(len(volume), volume[main] < 0)
    box = mesh.vertices[mesh.faces[labels == main]].reshape(-1, 3)
    inverted = (np.where(flip, -volume, volume) < 0) & closed_components(mesh.faces, labels)
    for part in np.flatnonzero(inverted):
        points = mesh.vertices[mesh.faces[labels == part]].reshape(-1, 3)
        inside = (points.min(0) > box.min(0)).all() and (points.max(0) < box.max(0)).all()
        flip[part] ^= not inside
    faces = np.where(flip[labels][:, None], mesh.faces[:, ::-1], mesh.faces)
    return Mesh(mesh.vertices, np.ascontiguousarray(faces), mesh.rgb)


def drop_debris(mesh: Mesh, views: Views | None = None) -> tuple[Mesh, int]:
    """Without cavities and without components below ``SMALL_PART`` of the area; and how many went.

    Components that the views show stay if they have at least ``SPECK`` of the area.
    """
    labels = component_labels(mesh.faces)
    area = np.bincount(labels, face_areas(mesh.vertices[mesh.faces].astype(np.float64)))
    share = area / area.sum()
    cavity = (signed_volumes(mesh, labels) < 0) & closed_components(mesh.faces, labels)
    keep = (share >= SMALL_PART) & ~cavity
    if views is not None and not keep.all():
        keep |= (share >= SPECK) & shown_parts(mesh, labels, views)
    keep[area.argmax()] = True
    return used(mesh.vertices, mesh.faces[keep[labels]], mesh.rgb), int((~keep).sum())


def solidify(mesh: Mesh) -> Mesh:
    """A closed manifold mesh: the same if it is one, else with holes patched, else rebuilt around it.

    Colors of a rebuilt mesh come from the nearest old vertices.
    """
    patched: Mesh | None = mesh
    for _ in range(PATCHES):
        if is_solid(patched):
            return patched
        patched = patch(patched)
        if patched is None:
            break
        patched = orient(drop_bad_faces(patched))
    return recolored(drop_debris(rebuild(mesh))[0], mesh)


def even_out(mesh: Mesh, faces: int) -> Mesh:
    """About ``faces`` triangles of nearly equal size; a closed mesh stays one.

    Colors come from the nearest old vertices.
    """
    even = orient(drop_bad_faces(weld(equal_triangles(mesh, faces))))
    if is_solid(mesh):
        even = solidify(even)
    return recolored(even, mesh)


def subdivide(mesh: Mesh, max_faces: int) -> Mesh:
    """Every triangle into four until there are ``FEWEST_FACES`` (never more than ``max_faces``)."""
    while len(mesh.faces) < FEWEST_FACES and 4 * len(mesh.faces) <= max_faces:
        vertices, faces, attributes = trimesh.remesh.subdivide(
            mesh.vertices, mesh.faces, vertex_attributes={"rgb": mesh.rgb}
        )
        rgb = np.asarray(attributes["rgb"], np.float32)
        mesh = Mesh(vertices.astype(np.float32), np.asarray(faces, np.int64), rgb)
    return mesh
