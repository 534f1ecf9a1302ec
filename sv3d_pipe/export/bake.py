"""Paint the texture: the photos where they see the surface well, the other views around them.

Every texel is a point of the surface. Each view that sees it gives it a color and a trust; the views
are averaged by trust and by how near they are to the median of all, so that reflections that move with
the camera leave no patches. The photos are laid over them by their own trust. What no view sees is grown in
from its surroundings along the surface. All trusts fade to zero smoothly, so no seam shows where views
take turns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from sv3d_pipe.artifacts import Mesh, Views
from sv3d_pipe.cameras import Cameras
from sv3d_pipe.export._consensus_numba import consensus
from sv3d_pipe.export.exposure import agree
from sv3d_pipe.export.projection import (
    SeenView,
    Surface,
    directions_to,
    look,
    project,
    ready_picture,
    smoothstep,
)
from sv3d_pipe.export.sampling import sample
from sv3d_pipe.export.unwrap import Texels
from sv3d_pipe.export.vertex_diffusion import diffuse
from sv3d_pipe.geometry.meshes import face_normals, unit, vertex_normals

PHOTO_FACING = (0.05, 0.2)  # cosines where the photo begins to count and counts fully
VIEW_FACING = (0.1, 0.95)
ANCHOR_WEIGHT = 4.0  # the photo's say in what the frames' common exposure is
SAMPLES = 30_000  # points at which that is measured
AT_ONCE = 2**18  # points that are blended at once
USUAL = 0.1  # distance between colors at which a view that disagrees keeps a quarter of its say
WITNESSES = (2.0, 4.0)  # trust of agreeing frames from which the photo's highlights are doubted, and fully so
FINE = 96  # pixels per side of frames that can tell a highlight of the photo from detail that they lack
CELLS = 64  # per side of the photo, in which its highlights are looked for
SMOOTH = 1.0  # of these cells: standard deviation of what counts as smooth
STRONG = 0.1  # least brightness of a highlight
UNUSUAL = 4.0  # times the usual difference between photo and frames
GLANCING = 0.05  # what a photo has to say of a surface that it sees from the side, where another sees it well
SHARPNESS = 3  # trust is raised to this power between views: higher is crisper, with harder seams
FAINT = 1e-4  # weight at which the views and the surroundings have equal say
HOLD = 10.0  # how firmly well-seen vertices keep their color while it spreads


@dataclass(frozen=True)
class Paint:
    """The result of baking.

    Attributes:
        texture: [R, R, 3] uint8, sRGB, filled everywhere.
        photo_coverage: share of the surface's texels that take most of their color from the photos.
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
        views: frames; ``views.photos``, if there, are laid over them from their own cameras.
        on_view: called after each frame.
    """
    surface = _surface(mesh, texels)
    looks = []
    for i, rgba in enumerate(views.rgba):
        looks.append(_look(mesh, rgba, views.cameras[i]))
        on_view()
    photos = [_look(mesh, views.photos[k], views.photo_cameras[k]) for k in range(views.n_photos)]
    shifts = agreement(looks, photos, surface[:: -(-len(surface.points) // SAMPLES)])
    others = looks[: len(looks) - len(photos)]  # the last are smaller copies of the photos
    rgb, weight, agreeing = blend_views(surface, others, shifts)
    if views.size < FINE:
        agreeing = np.zeros_like(agreeing)
    rgb, weight, share = overlay_photos(surface, photos, shifts[len(looks) :], rgb, weight, agreeing)
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


def agreement(looks: list[SeenView | None], photos: list[SeenView | None], points: Surface) -> np.ndarray:
    """[N + K, 3] what to add to the colors of frames and photos; found on a few points of the surface, not on all.

    The last photo stays as it is.
    """
    everyone = [*looks, *(photos or [None])]
    rgb, trust = _votes(everyone, points, np.zeros((len(everyone), 3), np.float32))
    trust[-1] *= ANCHOR_WEIGHT
    return agree(rgb, trust, len(everyone) - 1)


def blend_views(
    surface: Surface, looks: list[SeenView | None], shifts: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The shifted frames' colors that most of them agree on.

    Returns:
        rgb [P, 3], the sum of the weights [P], and [P] the trust of the frames that agree with rgb.
    """
    rgb = np.zeros((len(surface.points), 3), np.float32)
    weight, agreeing = np.zeros(len(rgb), np.float32), np.zeros(len(rgb), np.float32)
    for first in range(0, len(rgb), AT_ONCE):
        part = slice(first, first + AT_ONCE)
        colors, trust = _votes(looks, surface[part], shifts)
        consensus(colors, trust, SHARPNESS, np.float32(USUAL), rgb[part], weight[part], agreeing[part])
    return rgb, weight, agreeing


def _votes(
    looks: list[SeenView | None], points: Surface, shifts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """What N views say about P points: colors [N, P, 3], each with its view's shift [N, 3], and trust [N, P]."""
    rgb = np.zeros((len(looks), len(points.points), 3), np.float32)
    trust = np.zeros(rgb.shape[:2], np.float32)
    for i, view in enumerate(looks):
        if view is not None:
            index, seen, trust[i, index] = project(view, points, VIEW_FACING)
            rgb[i, index] = seen + shifts[i]
    return rgb, trust


def overlay_photos(
    surface: Surface,
    photos: list[SeenView | None],
    shifts: np.ndarray,
    rgb: np.ndarray,
    weight: np.ndarray,
    agreeing: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lay the photos, with their shifts [K, 3], over the blended frames, without the highlights that no frame has.

    Returns:
        rgb [P, 3], weight [P], and the photos' share [P] in each color.
    """
    total, sharp, best = np.zeros_like(rgb), np.zeros_like(weight), np.zeros_like(weight)
    for photo, shift in zip(photos, shifts):
        if photo is None:
            continue
        index, target, trust = project(photo, surface, PHOTO_FACING)
        target = target + shift
        xy = photo.camera.project(surface.points[index], 1)[0][0].astype(np.float32)
        target = target - highlights(xy, target - rgb[index], trust, agreeing[index])
        cosine = np.einsum(
            "pi,pi->p", directions_to(photo.camera, surface.points[index]), surface.normals[index]
        )
        say = (trust * (GLANCING + smoothstep(cosine, *VIEW_FACING))) ** SHARPNESS
        total[index] += say[:, None] * target
        sharp[index] += say
        best[index] = np.maximum(best[index], trust)
    below = (1 - best) * weight / (weight + FAINT)
    share = best / np.maximum(best + below, 1e-12)
    photographed = total / np.maximum(sharp, 1e-30)[:, None]  # a say may be as little as 1e-13
    return rgb + share[:, None] * (photographed - rgb), np.maximum(weight, best), share


def highlights(xy: np.ndarray, excess: np.ndarray, trust: np.ndarray, agreeing: np.ndarray) -> np.ndarray:
    """[K, 3] what broad, strong highlights and shadows, which only the photo has, add to its colors.

    Only what is smooth across the picture: lettering and other detail stay as they are.

    Args:
        xy: [K, 2] where in the photo points are seen, in [0, 1].
        excess: [K, 3] by how much the photo exceeds the color that the frames agree on.
        trust: [K] in the photo. agreeing: [K] trust of the frames that agree.
    """
    cells = CELLS
    column, row = np.clip((xy * cells).astype(int), 0, cells - 1).T
    known = trust * smoothstep(agreeing, *WITNESSES)
    layers = [np.bincount(row * cells + column, v, cells**2) for v in (known, *(known[:, None] * excess).T)]
    layers = cv2.GaussianBlur(
        np.stack(layers, -1).reshape(cells, cells, 4).astype(np.float32), (0, 0), SMOOTH
    )
    smooth = layers[..., 1:] / np.maximum(layers[..., :1], 1e-6)
    size = np.abs(smooth.mean(-1))
    there = layers[..., 0] > 0.1 * layers[..., 0].max()
    usual = float(np.median(size[there])) if there.any() else 0.0
    least = max(STRONG, UNUSUAL * usual)
    smooth *= (smoothstep(size, least, 1.5 * least) * there)[..., None]
    return sample(smooth, xy) * smoothstep(agreeing, *WITNESSES)[:, None]


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
