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
from sv3d_pipe.export.diffusion import diffuse
from sv3d_pipe.export.projection import Surface, project_view, ready_picture
from sv3d_pipe.export.unwrap import Texels, face_normals, unit, vertex_normals

PHOTO_FACING = (0.05, 0.2)  # cosines where the photo begins to count and counts fully
VIEW_FACING = (0.1, 0.95)
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
        views: frames; ``views.photo``, if there, is laid over them from the last camera.
        on_view: called after each frame.
    """
    surface = _surface(mesh, texels)
    rgb, weight = blend_views(mesh, surface, views, on_view)
    rgb, weight, share = overlay_photo(mesh, surface, views, rgb, weight)
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
    flat = unit(face_normals(mesh.vertices, mesh.faces))
    return Surface(
        np.concatenate([texels.interpolate(mesh.vertices), mesh.vertices]),
        np.concatenate([unit(texels.interpolate(smooth)), smooth]),
        np.concatenate([flat[texels.faces], smooth]),
    )


def blend_views(
    mesh: Mesh, surface: Surface, views: Views, on_view: Callable[[], None] = lambda: None
) -> tuple[np.ndarray, np.ndarray]:
    """Trust-weighted mean of the frames: rgb [P, 3] and the sum of the weights [P]."""
    total = np.zeros((len(surface.points), 3), np.float32)
    weight = np.zeros(len(total), np.float32)
    for i in range(len(views.cameras)):
        picture = ready_picture(views.rgba[i])
        if picture is not None:
            index, rgb, trust = project_view(picture, views.cameras[i], mesh, surface, VIEW_FACING)
            trust = trust**SHARPNESS
            total[index] += trust[:, None] * rgb
            weight[index] += trust
        on_view()
    return total / np.maximum(weight, 1e-12)[:, None], weight


def overlay_photo(
    mesh: Mesh, surface: Surface, views: Views, rgb: np.ndarray, weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lay the photo over the blended frames.

    Returns:
        rgb [P, 3], weight [P], and the photo's share [P] in each color.
    """
    share = np.zeros(len(rgb), np.float32)
    picture = None if views.photo is None else ready_picture(views.photo)
    if picture is None:
        return rgb, weight, share
    index, target, trust = project_view(picture, views.cameras[-1], mesh, surface, PHOTO_FACING)
    rgb = match_colors(rgb, weight, index, target, trust)
    below = (1 - trust) * weight[index] / (weight[index] + FAINT)
    share[index] = trust / (trust + below)
    rgb[index] += share[index, None] * (target - rgb[index])
    weight = weight.copy()
    weight[index] = np.maximum(weight[index], trust)
    return rgb, weight, share


def match_colors(
    rgb: np.ndarray, weight: np.ndarray, index: np.ndarray, target: np.ndarray, trust: np.ndarray
) -> np.ndarray:
    """Shift the frames' colors so that, where the photo sees well, their mean is the photo's.

    Only a shift: a slope fitted on the few colors of a front would run wild on those of the back.

    Args:
        rgb: [P, 3] colors from the frames, weight [P] behind them.
        index: [K] points that the photo sees, target [K, 3] its colors there, trust [K].
    Returns:
        [P, 3] in [0, 1].
    """
    both = trust * (weight[index] > FAINT)
    if both.sum() < 100:
        return rgb.copy()
    shift = ((target - rgb[index]) * both[:, None]).sum(0) / both.sum()
    return np.clip(rgb + shift, 0, 1).astype(np.float32)


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
