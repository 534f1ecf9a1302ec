"""Paint the texture: the photo where it sees the surface well, the other views around it.

Every texel is a point of the surface. Each view that sees it gives it a color and a trust; the views
are averaged by trust and the photo is laid over them by its own trust. What no view sees is grown in
from its surroundings along the surface. All trusts fade to zero smoothly, so no seam shows where
views take turns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from sv3d_pipe.artifacts import Mesh, Views
from sv3d_pipe.cameras import Cameras
from sv3d_pipe.export.exposure import agree
from sv3d_pipe.export.projection import SeenView, Surface, look, project, ready_picture
from sv3d_pipe.export.unwrap import Texels
from sv3d_pipe.export.vertex_diffusion import diffuse
from sv3d_pipe.geometry.meshes import face_normals, unit, vertex_normals

PHOTO_FACING = (0.05, 0.2)  # cosines where the photo begins to count and counts fully
VIEW_FACING = (0.1, 0.95)
ANCHOR_WEIGHT = 4.0  # the photo's say in what the frames' common exposure is
SAMPLES = 30_000  # points at which that is measured
SHARPNESS = 3  # trust is raised to this power between views: higher is crisper, with harder seams
FAINT = 1e-4  # weight at which the views and the surroundings have equal say
HOLD = 10.0  # how firmly well-seen vertices keep their color while it spreads


@dataclass(frozen=True)
class Paint:
    """The result of baking.

    Attributes:
        texture: [R, R, 3] uint8, sRGB, filled everywhere.
        photo_coverage: share of the surface's texels that take most of their color from the photo.
        seen_coverage: share of the texels that at least one view sees.
    """

    texture: np.ndarray
    photo_coverage: float
    seen_coverage: float


def bake(
    mesh: Mesh, texels: Texels, views: Views, size: int, on_view: Callable[[], None] = lambda: None
) -> Paint:
    """Paint a size x size texture.

    Args:
        mesh: the uncut mesh, which hides texels from views.
        views: frames; ``views.photo``, if there, is laid over them from its own camera.
        on_view: called after each frame.
    """
    surface = _surface(mesh, texels)
    looks = [_look(mesh, rgba, views.cameras[i]) for i, rgba in enumerate(views.rgba)]
    photo = None if views.photo is None else _look(mesh, views.photo, views.photo_camera)
    shifts = agreement(looks, photo, surface[:: -(-len(surface.points) // SAMPLES)])
    rgb, weight = blend_views(surface, looks, shifts, on_view)
    rgb, weight, share = overlay_photo(surface, photo, rgb, weight)
    n, firm = len(texels.rows), weight / (weight + FAINT)
    # The vertices' own colors give the detail of unseen places, the seen ones around them the tone.
    tone = diffuse(mesh.faces, rgb[n:] - mesh.rgb, HOLD * firm[n:])
    around = texels.interpolate(mesh.rgb + tone)
    texture = np.zeros((size, size, 3), np.float32)
    filled = np.zeros((size, size), bool)
    texture[texels.rows, texels.columns] = around + firm[:n, None] * (rgb[:n] - around)
    filled[texels.rows, texels.columns] = True
    pixels = (np.clip(spread(texture, filled), 0, 1) * 255 + 0.5).astype(np.uint8)
    return Paint(pixels, float((share[:n] > 0.5).mean()), float((firm[:n] > 0.5).mean()))


def _surface(mesh: Mesh, texels: Texels) -> Surface:
    """The points of all texels, then all vertices: [T + V]."""
    smooth = vertex_normals(mesh.vertices, mesh.faces)
    flat = unit(face_normals(mesh.vertices[mesh.faces].astype(np.float64)))
    return Surface(
        np.concatenate([texels.interpolate(mesh.vertices), mesh.vertices]),
        np.concatenate([unit(texels.interpolate(smooth)), smooth]),
        np.concatenate([flat[texels.faces], smooth]),
    )


def _look(mesh: Mesh, rgba: np.ndarray, camera: Cameras) -> SeenView | None:
    """None if the view shows nothing."""
    picture = ready_picture(rgba)
    return None if picture is None else look(picture, camera, mesh)


def agreement(looks: list[SeenView | None], photo: SeenView | None, points: Surface) -> np.ndarray:
    """[N, 3] what to add to the frames' colors; found on a few points of the surface, not on all."""
    views = [*looks, photo]
    rgb = np.zeros((len(views), len(points.points), 3), np.float32)
    trust = np.zeros(rgb.shape[:2], np.float32)
    for i, view in enumerate(views):
        if view is not None:
            index, rgb[i, index], trust[i, index] = project(view, points, VIEW_FACING)
    trust[-1] *= ANCHOR_WEIGHT
    return agree(rgb, trust, len(looks))[: len(looks)]


def blend_views(
    surface: Surface,
    looks: list[SeenView | None],
    shifts: np.ndarray,
    on_view: Callable[[], None] = lambda: None,
) -> tuple[np.ndarray, np.ndarray]:
    """Trust-weighted mean of the shifted frames: rgb [P, 3] and the sum of the weights [P]."""
    total = np.zeros((len(surface.points), 3), np.float32)
    weight = np.zeros(len(total), np.float32)
    for view, shift in zip(looks, shifts):
        if view is not None:
            index, rgb, trust = project(view, surface, VIEW_FACING)
            trust = trust**SHARPNESS
            total[index] += trust[:, None] * (rgb + shift)
            weight[index] += trust
        on_view()
    return total / np.maximum(weight, 1e-12)[:, None], weight


def overlay_photo(
    surface: Surface, photo: SeenView | None, rgb: np.ndarray, weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lay the photo over the blended frames.

    Returns:
        rgb [P, 3], weight [P], and the photo's share [P] in each color.
    """
    share = np.zeros(len(rgb), np.float32)
    if photo is None:
        return rgb, weight, share
    index, target, trust = project(photo, surface, PHOTO_FACING)
    below = (1 - trust) * weight[index] / (weight[index] + FAINT)
    share[index] = trust / (trust + below)
    rgb, weight = rgb.copy(), weight.copy()
    rgb[index] += share[index, None] * (target - rgb[index])
    weight[index] = np.maximum(weight[index], trust)
    return rgb, weight, share


def spread(texture: np.ndarray, filled: np.ndarray) -> np.ndarray:
    """Give every texel outside the charts the color of the nearest one inside, so no border bleeds.

    Args:
        texture: [R, R, 3] float32.
        filled: [R, R] bool, the texels that have a color.
    """
    if not filled.any():
        return texture
    _, label = cv2.distanceTransformWithLabels(
        (~filled).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    nearest = np.zeros(label.max() + 1, np.int64)
    nearest[label[filled]] = np.flatnonzero(filled)
    return texture.reshape(-1, 3)[nearest[label]]
