"""How far is what each view sees: plane sweep stereo between neighboring views.

Silhouettes cannot tell a filled vessel from an empty one, colors seen from two sides can. The constants are
choices of this project, not of the papers it follows.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from sv3d_pipe.artifacts import Views
from sv3d_pipe.cameras import Cameras
from sv3d_pipe.nerf import _stereo_numba as kernels
from sv3d_pipe.road.context import Context

SIDE = 128  # pixels per side of the compared pictures, at most
PLANES_PER_PIXEL = 0.5
MOST_VIEWS = 24
NEIGHBORS = 4  # views compared with each view; the better half of them counts, the others may be blocked
NEAR_DEG, FAR_DEG = 5.0, 50.0  # angles between views that can be compared
WINDOW = 5  # pixels per side
FLAT = 0.004  # contrast below which a window has no pattern
COLOR = 0.06  # difference of the windows' mean colors that is as bad as any larger one
SMALL_MOVE, LARGE_MOVE = 0.03, 0.25  # costs of depths that differ between neighboring pixels
CONFIRMED = 2  # views that must find the same point


@dataclass(frozen=True)
class Depths:
    """What N views see, in distances.

    Attributes:
        views: [N] which of the views they are.
        depth: [N, S, S] float32 along the viewing axis; NaN where it is not known.
        cameras: the N cameras.
    """

    views: np.ndarray
    depth: np.ndarray
    cameras: Cameras

    def at(self, points: np.ndarray, view: int) -> tuple[np.ndarray, np.ndarray]:
        """Depth of world points [P, 3] in a view, and what the view itself sees there (NaN: unknown)."""
        size = self.depth.shape[1]
        xy, depth = self.cameras[view].project(points, size)
        x, y = np.floor(np.nan_to_num(xy[0], nan=-1)).astype(np.int64).T
        inside = (depth[0] > 0) & (x >= 0) & (y >= 0) & (x < size) & (y < size)
        index = np.where(inside, y * size + x, 0)
        return depth[0], np.where(inside, self.depth[view].ravel()[index], np.nan)


def find_depths(views: Views, radius: float, context: Context) -> Depths:
    """Depths in at most MOST_VIEWS views of what lies in the ball of ``radius``, where others confirm them.

    For each view and plane the neighbors' pictures are brought onto the plane and compared (Collins
    1996); the best plane of each pixel minimizes the costs of semi-global matching (Hirschmüller 2008).
    """
    chosen = np.unique(np.linspace(0, len(views.cameras) - 1, MOST_VIEWS).round().astype(int))
    cameras = views.cameras[chosen]
    pictures = np.stack([_shrunk(views, n) for n in chosen])
    depth = np.full(pictures.shape[:3], np.nan, np.float32)
    count = int(np.ceil(PLANES_PER_PIXEL * pictures.shape[1]))
    neighbors = [_neighbors(cameras, n) for n in range(len(chosen))]
    with context.bar("looking for hollows", len(chosen)) as bar:
        for n, others in enumerate(neighbors):
            if len(others) > 1:
                planes = _planes(cameras[n], radius, count)
                best = smooth(sweep(pictures, cameras, n, others, planes)).argmin(-1)
                depth[n] = np.where(pictures[n, ..., 3] > 0.5, planes[best], np.nan)
            bar.update(1)
    return _confirmed(Depths(chosen, depth, cameras), 2 * radius / count)


def _shrunk(views: Views, n: int) -> np.ndarray:
    """[S, S, 4], color premultiplied; alpha is 0 where the view knows nothing."""
    frame = views.rgba[n]
    known = frame[..., 3:] if views.seen is None else frame[..., 3:] * views.seen[n][..., None]
    side = min(SIDE, len(frame))
    return cv2.resize(
        np.concatenate([frame[..., :3] * known, known], -1), (side, side), None, 0, 0, cv2.INTER_AREA
    )


def _neighbors(cameras: Cameras, n: int) -> list[int]:
    toward = cameras.origins / np.linalg.norm(cameras.origins, axis=-1, keepdims=True)
    angle_deg = np.degrees(np.arccos(np.clip(toward @ toward[n], -1, 1)))
    near = [m for m in np.argsort(angle_deg, kind="stable") if NEAR_DEG <= angle_deg[m] <= FAR_DEG]
    return near[:NEIGHBORS]


def _planes(camera: Cameras, radius: float, count: int) -> np.ndarray:
    """[count] float32 depths of planes through the ball that are parallel to the picture."""
    middle = -camera.w2c[0, 2, 3]
    return np.linspace(max(middle - radius, 0.1 * radius), middle + radius, count, dtype=np.float32)


def sweep(
    pictures: np.ndarray,  # [N, S, S, 4] premultiplied
    cameras: Cameras,
    n: int,
    others: list[int],
    planes: np.ndarray,  # [D] depths in view n
) -> np.ndarray:
    """Costs [S, S, D] in [0, 1] of each pixel of view n lying on each plane, judged by the other views.

    Half a cost is the missing correlation of the windows' gray values, half the difference of their
    mean colors. A plane that leads to another view's background costs 1.
    """
    size = pictures.shape[1]
    own = _Windows(pictures[n])
    cost = np.ones((len(others), size, size, len(planes)), np.float32)
    for k, other in enumerate(others):
        for d, depth in enumerate(planes):
            warp = _homography(cameras[n], cameras[other], size, float(depth))
            moved = cv2.warpPerspective(
                pictures[other], warp, (size, size), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
            )
            differs = own.difference(_Windows(moved))
            cost[k, ..., d] = np.where(moved[..., 3] < 0.5, 1, differs)
    return np.sort(cost, 0)[: (len(others) + 1) // 2].mean(0)


class _Windows:
    """Means and variances of a picture's [S, S, 4] windows."""

    def __init__(self, picture: np.ndarray):
        self.mean = self._box(picture[..., :3])
        self.gray = np.ascontiguousarray(picture[..., :3].mean(-1))
        self.gray_mean = self._box(self.gray)
        self.variance = np.maximum(self._box(self.gray**2) - self.gray_mean**2, 0)

    @staticmethod
    def _box(values: np.ndarray) -> np.ndarray:
        return cv2.boxFilter(values, -1, (WINDOW, WINDOW), borderType=cv2.BORDER_REPLICATE)

    def difference(self, other: _Windows) -> np.ndarray:
        """[S, S] in [0, 1]."""
        covariance = self._box(self.gray * other.gray) - self.gray_mean * other.gray_mean
        scale = np.sqrt((self.variance + FLAT**2) * (other.variance + FLAT**2))
        pattern = np.clip(1 - (covariance + FLAT**2) / scale, 0, 1)
        color = np.minimum(np.abs(self.mean - other.mean).mean(-1) / COLOR, 1)
        return 0.5 * pattern + 0.5 * color


def _homography(camera: Cameras, other: Cameras, size: int, depth: float) -> np.ndarray:
    """[3, 3] from pixels of ``camera`` to those of ``other``, for points at that depth.

    H = K (R + t n^T / depth) K^-1 in camera axes x right, y down, z forward (Hartley and Zisserman,
    eq. 13.2), pixel indices counted from pixel centers.
    """
    flip = np.diag([1.0, -1.0, -1.0, 1.0])
    move = flip @ other.w2c[0].astype(np.float64) @ camera.c2w[0].astype(np.float64) @ flip
    rotation = move[:3, :3].copy()
    rotation[:, 2] += move[:3, 3] / depth
    inner, outer = (_intrinsics(c, size) for c in (camera, other))
    return outer @ rotation @ np.linalg.inv(inner)


def _intrinsics(camera: Cameras, size: int) -> np.ndarray:
    focal, center = camera.focal(size), size / 2 - 0.5
    return np.array([[focal, 0, center], [0, focal, center], [0, 0, 1]])


def smooth(cost: np.ndarray) -> np.ndarray:
    """Costs [H, W, D] summed along the paths from the four sides (semi-global matching, eq. 13)."""
    total = np.zeros_like(cost)
    turned = np.ascontiguousarray(cost.swapaxes(0, 1))
    moves = np.float32(SMALL_MOVE), np.float32(LARGE_MOVE)
    kernels.add_scanlines(np.ascontiguousarray(cost), *moves, total)
    down = np.zeros_like(turned)
    kernels.add_scanlines(turned, *moves, down)
    return total + down.swapaxes(0, 1)


def _confirmed(depths: Depths, spacing: float) -> Depths:
    """Only the points that CONFIRMED other views find too, within one and a half times the planes' spacing."""
    size = depths.depth.shape[1]
    kept = depths.depth.copy()
    for n, seen in enumerate(depths.depth):
        known = np.isfinite(seen)
        origins, directions = depths.cameras[n].rays(size)
        forward = directions[0] @ -depths.cameras.c2w[n, :3, 2]
        points = origins[0] + directions[0][known] * (seen / forward)[known][:, None]
        found = np.zeros(len(points), np.int64)
        for other in range(len(depths.depth)):
            if other != n:
                depth, theirs = depths.at(points, other)
                found += np.abs(depth - theirs) < 1.5 * spacing
        kept[n][known] = np.where(found >= CONFIRMED, seen[known], np.nan)
    return Depths(depths.views, kept, depths.cameras)
