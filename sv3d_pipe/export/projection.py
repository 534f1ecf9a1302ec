"""What one view says about points of the surface: a color, and how far it can be trusted."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch

from sv3d_pipe.artifacts import Mesh
from sv3d_pipe.cameras import Cameras
from sv3d_pipe.export.sampling import sample
from sv3d_pipe.geometry.raster import rasterize

DEPTH_SIZE = 768  # side of the depth maps that decide visibility
TOLERANCE = 0.012  # a point this much behind the nearest surface still counts as seen (size of object: 1)
JUMP = 0.03  # a depth step larger than this is an occlusion edge
SOLID_ALPHA = 0.9  # pixels below this are mixed with background


@dataclass(frozen=True)
class Surface:
    """Points to be colored.

    Attributes:
        points: [P, 3] float32, world space.
        normals: [P, 3] float32, smooth unit normals: they grade how well a view sees a point.
        flat: [P, 3] float32, unit normals of the triangles: they decide whether it can see it at all
            (beside a crease the smooth normal may face a camera that the triangle turns away from).
    """

    points: np.ndarray
    normals: np.ndarray
    flat: np.ndarray

    def __getitem__(self, index) -> Surface:
        """The points chosen by a slice or an index."""
        return Surface(self.points[index], self.normals[index], self.flat[index])


@dataclass(frozen=True)
class SolidPicture:
    """A view made ready for lookups.

    Attributes:
        rgb: [S, S, 3] float32; pixels that are not solid hold the color of the nearest solid one.
        outside: [S, S] float32, distance to the solid region, as a share of the image side.
        fade: width of the soft borders, as a share of the image side.
    """

    rgb: np.ndarray
    outside: np.ndarray
    fade: float


def smoothstep(x: np.ndarray, low: float, high: float) -> np.ndarray:
    """0 below ``low``, 1 above ``high``, 3t^2 - 2t^3 between."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def ready_picture(rgba: np.ndarray) -> SolidPicture | None:
    """Spread the solid colors of a straight-alpha [S, S, 4] view over its rest; None if none is solid.

    Large pictures lose one more ring of pixels, whose color a matte has often mixed.
    """
    size = len(rgba)
    solid = (rgba[..., 3] >= SOLID_ALPHA).astype(np.uint8)
    if size >= 256:
        solid = cv2.erode(solid, np.ones((3, 3), np.uint8), borderValue=0)
    if not solid.any():
        return None
    distance, label = cv2.distanceTransformWithLabels(
        1 - solid, cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    nearest = np.zeros(label.max() + 1, np.int64)
    nearest[label[solid > 0]] = np.flatnonzero(solid)
    rgb = rgba[..., :3].reshape(-1, 3)[nearest[label]].astype(np.float32)
    return SolidPicture(rgb, distance.astype(np.float32) / size, max(0.012, 1.5 / size))


def occlusion_distance(depth: np.ndarray) -> np.ndarray:
    """[S, S] distance of each pixel to the nearest jump between two surfaces, as a share of the side.

    Args:
        depth: [S, S], inf where nothing is seen; the step to nothing is not a jump.
    """
    seen = np.isfinite(depth)
    kernel = np.ones((3, 3), np.uint8)
    far = cv2.dilate(np.where(seen, depth, -1).astype(np.float32), kernel)
    near = cv2.erode(np.where(seen, depth, 1e9).astype(np.float32), kernel)
    calm = ~(seen & (far - near > JUMP))
    if calm.all():
        return np.full(depth.shape, 1.0, np.float32)
    return cv2.distanceTransform(calm.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5) / len(depth)


@dataclass(frozen=True)
class SeenView:
    """A picture, its camera, and what the mesh hides from it.

    Attributes:
        camera: one camera.
        depth: [D, D] float32, depth of the nearest surface; inf where there is none.
        from_edge: [D, D] float32, distance to the nearest occlusion edge, as a share of the side.
    """

    picture: SolidPicture
    camera: Cameras
    depth: np.ndarray
    from_edge: np.ndarray


def look(picture: SolidPicture, camera: Cameras, mesh: Mesh) -> SeenView:
    """Draw the mesh as the picture's camera sees it."""
    raster = rasterize(torch.from_numpy(mesh.vertices), torch.from_numpy(mesh.faces), camera, DEPTH_SIZE)
    depth = raster.depth[0].numpy()
    return SeenView(picture, camera, depth, occlusion_distance(depth))


def directions_to(camera: Cameras, points: np.ndarray) -> np.ndarray:
    """[P, 3] unit vectors from points [P, 3] to a camera."""
    toward = camera.origins[0] - points
    return toward / np.sqrt(np.einsum("pi,pi->p", toward, toward))[:, None]


def project(
    view: SeenView, surface: Surface, facing: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Colors that one view gives to the points it sees.

    Args:
        facing: cosines between normal and viewing ray where trust begins and where it is full.
    Returns:
        index [K] of the points seen, rgb [K, 3], trust [K] in (0, 1]: the product of ramps over the
        cosines, of the distance to occlusion edges and of the distance outside the picture's object.
    """
    picture, camera = view.picture, view.camera
    toward = directions_to(camera, surface.points)
    cosine = np.einsum("pi,pi->p", toward, surface.normals)
    slant = np.einsum("pi,pi->p", toward, surface.flat)
    index = np.flatnonzero((cosine > facing[0]) & (slant > 0))
    xy, depth = camera.project(surface.points[index], 1)  # [1, K, 2] in [0, 1], [1, K]
    xy, depth = xy[0].astype(np.float32), depth[0]
    # Beside the silhouette the map says "nothing": such a point is not hidden by anything.
    near = np.where(np.isfinite(view.depth), view.depth, 1e9).astype(np.float32)
    visible = depth < sample(near, xy, cv2.INTER_NEAREST) + TOLERANCE
    visible &= (np.abs(xy[:, 0] - 0.5) < 0.5) & (np.abs(xy[:, 1] - 0.5) < 0.5)
    index, xy = index[visible], xy[visible]
    trust = smoothstep(cosine[index], *facing) * smoothstep(slant[index], 0, 0.1)
    trust *= smoothstep(sample(view.from_edge, xy), 0, picture.fade)
    trust *= 1 - smoothstep(sample(picture.outside, xy), picture.fade, 3 * picture.fade)
    known = trust > 1e-3
    return index[known], sample(picture.rgb, xy[known]), trust[known].astype(np.float32)
