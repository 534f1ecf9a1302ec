"""Small errors of painted views: where each frame was really seen from, and how bright it is.

A model that paints an orbit does not put every frame exactly where it was told to. The surface that was fitted to
all frames is what they agree on; each frame but the photo's is moved, by six numbers, and its channels are scaled
until it fits that surface best (Gauss-Newton on the pictures, as in direct image alignment: Baker and Matthews,
IJCV 56(3), 2004). Half of the pixels decide; the other half, which took no part, tell whether it was worth it.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from scipy.spatial import cKDTree

from sv3d_pipe.artifacts import Correction, Mesh, Views
from sv3d_pipe.cameras import Cameras
from sv3d_pipe.config import RefineConfig
from sv3d_pipe.geometry.camera_moves import POSE, moved
from sv3d_pipe.refine.mesh_picture import shrink
from sv3d_pipe.render.draw import render_views
from sv3d_pipe.render.objects import Object
from sv3d_pipe.road.context import Context

SIZE = 128  # side of the pictures that are compared, in pixels
BLUR = 1.0  # their standard deviation, in pixels: steps of a pixel stay on the slope of every edge
BLOCK = 8  # side of the squares of pixels that take turns in fitting and judging
HUBER = 0.1  # differences beyond this count linearly, as in nerf
ROUNDS, STEPS = 2, 2  # slopes that a fit measures, and its steps with each
FACES = 20_000  # of the surface that is drawn: about as large as a pixel
NEAR = 7  # pixels by which the object is widened to those that are compared

# Azimuth, elevation, roll (radians), log of the distance, shift to the right and down (shares of the side), three log
# gains. A frame stays the nearest to its place on an orbit of 21; what is larger is another shape, not another place.
BOUND = np.array([*np.radians([4, 4, 2]), 0.03, 0.02, 0.02, 0.2, 0.2, 0.2])
EXPECTED = np.array([*np.radians([1, 1, 0.5]), 0.01, 0.005, 0.005, 0.07, 0.07, 0.07])  # size of errors
INDEPENDENT = 20.0  # one in so many differences says something new; 3 and 100 do the same
LEAST_SIZE = 96  # pixels per side of frames that are corrected: at 64 one of them is as large as the errors
# Shares by which the differences at the pixels that judge must fall: of all frames together, and of a frame itself.
# Of renders they fall by up to .03; where frames are only bent, which no camera explains, by .06 to .13, and correcting
# them does harm; with errors of .4 of EXPECTED on top by .24 to .40, and it helps.
LEAST_FALL, LEAST_FALL_OF_ONE = 0.15, 0.1


def corrected(
    config: RefineConfig, mesh: Mesh, views: Views, context: Context
) -> tuple[Correction | None, Views, dict[str, Any]]:
    """The views with the errors of their frames' cameras and colors put right, where they agree better for it.

    Runs on the CPU whatever the device. The last frame, the photo, stays as it is, and so does what all others have in
    common: the surface has it, too. Views without a photo, or of less than LEAST_SIZE pixels, are not asked.

    Args:
        mesh: the surface that was fitted to the views.
    Returns:
        the correction, None where cameras and colors are right as they are; the views, then the same object; and the
        metrics: poses_corrected and colors_corrected (numbers of frames), pose_change_deg (mean angle between the old and
        new cameras of those, seen from the middle of the scene), and disagreement_before and disagreement_after: root
        mean squares of how far the frames are from the surface at the pixels that took no part (differences of more than
        HUBER count linearly).
    """
    known = views.photo is not None and views.size >= LEAST_SIZE and len(views.rgba) > 2
    if not (config.correct_views and known and len(mesh.faces)):
        return None, views, {"poses_corrected": 0, "colors_corrected": 0}
    correction, metrics = _find_errors(mesh, views, context)
    return correction, views if correction is None else correction.of(views), metrics


def _find_errors(mesh: Mesh, views: Views, context: Context) -> tuple[Correction | None, dict[str, Any]]:
    """The correction and the metrics of :func:`corrected`."""
    surface, frames = _Surface(mesh), []
    changes = np.zeros((len(views.rgba) - 1, POSE + 3))
    with context.bar("cameras", len(changes)) as bar:
        for i in range(len(changes)):
            frames.append(_Frame(_blurred(shrink(views.rgba[i], SIZE)), views.cameras[i], surface))
            changes[i] = frames[i].fit()
            bar.update(1)
    changes = np.clip(changes - np.median(changes, 0), -BOUND, BOUND)
    kept, before, after = _judged(frames, changes)
    angle = _angles_deg(views.cameras[:-1], moved(views.cameras[:-1], kept[:, :POSE]))
    poses, colors = kept[:, :POSE].any(1), kept[:, POSE:].any(1)
    metrics = {
        "poses_corrected": int(poses.sum()),
        "colors_corrected": int(colors.sum()),
        "pose_change_deg": round(float(angle[poses].mean()), 3) if poses.any() else 0.0,
        "disagreement_before": round(before, 5),
        "disagreement_after": round(after, 5),
    }
    if not kept.any():
        return None, metrics
    context.say(
        f"Corrected the cameras of {poses.sum()} and the colors of {colors.sum()} of {len(views.rgba)} frames, "
        "which then agree better."
    )
    whole = np.concatenate([kept, np.zeros((1, POSE + 3))])
    c2w = np.where(
        whole[:, :POSE].any(1)[:, None, None], moved(views.cameras, whole[:, :POSE]).c2w, views.cameras.c2w
    )
    return Correction(c2w, np.exp(whole[:, POSE:]).astype(np.float32)), metrics


def _judged(frames: list[_Frame], changes: np.ndarray) -> tuple[np.ndarray, float, float]:
    """The changes [N, 9] that are worth it, and how far the frames are from the surface without and with them."""
    pose = np.arange(POSE + 3) < POSE
    looks = np.stack([0 * changes, changes * pose, changes * ~pose, changes], 1)  # [N, 4, 9]
    cost = np.array(
        [[frame.judge(change) for change in look] for frame, look in zip(frames, looks)]
    )  # [N, 4]
    posed = _worth(cost[:, 2], cost[:, 3])
    without, with_colors = np.where(posed[:, None], cost[:, [1, 3]], cost[:, [0, 2]]).T
    colored = _worth(without, with_colors)
    after = np.where(colored, with_colors, without)
    kept = np.where(np.where(pose, posed[:, None], colored[:, None]), changes, 0)
    return kept, float(np.sqrt(2 * cost[:, 0].mean())), float(np.sqrt(2 * after.mean()))


def _worth(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """[N] bool: the frames to be corrected, by how far they are from the surface without and with it [N]."""
    clear = after.sum() <= (1 - LEAST_FALL) * before.sum()
    return clear & (after <= (1 - LEAST_FALL_OF_ONE) * before) & (after < before)


def _angles_deg(first: Cameras, second: Cameras) -> np.ndarray:
    """[N] degrees between the directions of cameras from the origin."""
    a, b = (c.origins.astype(np.float64) for c in (first, second))
    return np.degrees(np.arctan2(np.linalg.norm(np.cross(a, b), axis=-1), (a * b).sum(-1)))


class _Surface:
    """What all views agree on, as flat colored triangles.

    Args:
        mesh: with the colors of its vertices.
    """

    def __init__(self, mesh: Mesh):
        import fast_simplification

        vertices, faces = mesh.vertices, mesh.faces
        if len(faces) > FACES:
            vertices, faces = fast_simplification.simplify(vertices, faces, 1 - FACES / len(faces))
        rgb = mesh.rgb[cKDTree(mesh.vertices).query(vertices[faces].mean(1))[1]]  # [F, 3]
        texel = (np.arange(len(faces)) + 0.5) / len(faces)
        corner_uv = np.stack([np.repeat(texel[:, None], 3, 1), np.full((len(faces), 3), 0.5)], -1)
        self.object = Object(
            vertices.astype(np.float32), faces.astype(np.int64), corner_uv.astype(np.float32), rgb[None]
        )

    def seen(self, cameras: Cameras) -> np.ndarray:
        """[N, SIZE, SIZE, 4] premultiplied, blurred."""
        return np.stack([_blurred(rgba) for rgba in render_views(self.object, cameras, SIZE, supersample=2)])


def _blurred(rgba: np.ndarray) -> np.ndarray:
    """[S, S, 4] straight alpha to premultiplied, blurred."""
    premultiplied = np.concatenate([rgba[..., :3] * rgba[..., 3:], rgba[..., 3:]], -1)
    return cv2.GaussianBlur(premultiplied, (0, 0), BLUR)


class _Frame:
    """One frame beside the surface. A change is [9]: of the camera as in :func:`moved`, then of the logs of the channels.

    Args:
        picture: [SIZE, SIZE, 4] premultiplied, blurred. camera: where it was meant to be seen from.
    """

    def __init__(self, picture: np.ndarray, camera: Cameras, surface: _Surface):
        self.picture, self.camera, self.surface = picture, camera, surface
        alpha = np.maximum(picture[..., 3], surface.seen(camera)[0, ..., 3])
        near = cv2.dilate((alpha > 0.01).astype(np.uint8), np.ones((NEAR, NEAR), np.uint8)) > 0
        row, column = np.indices(near.shape) // BLOCK
        self.fitted, self.judged = (near & ((row + column) % 2 == part) for part in (0, 1))  # [SIZE, SIZE]

    def fit(self) -> np.ndarray:
        """The change that fits best."""
        change = np.zeros(POSE + 3)
        difference, surface = self._compare(change, self.fitted)
        noise = INDEPENDENT * float(np.square(np.minimum(np.abs(difference), HUBER)).mean())
        cost = _cost(difference, change, noise)
        for _ in range(ROUNDS):
            slopes = self._slopes(change, surface)  # [9, P, 4]
            for _ in range(STEPS):
                weight = np.minimum(1, HUBER / np.maximum(np.abs(difference), 1e-9))
                system = np.einsum("apc,bpc->ab", slopes * weight, slopes) + noise * np.eye(len(change))
                pull = np.einsum("apc,pc->a", slopes, weight * difference) + noise * change / EXPECTED
                step = EXPECTED * np.linalg.solve(system, pull)
                tried = np.clip(change - step, -BOUND, BOUND)
                found = self._compare(tried, self.fitted)
                if (less := _cost(found[0], tried, noise)) >= cost:
                    break
                change, cost, (difference, surface) = tried, less, found
        return change

    def judge(self, change: np.ndarray) -> float:
        """Mean difference from the surface at the pixels that took no part in :meth:`fit`."""
        return float(_huber(self._compare(change, self.judged)[0]).mean())

    def _compare(self, change: np.ndarray, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """[P, 4] the frame less the surface, and the surface, both with the change, at the chosen pixels."""
        seen = self._seen(change[None])[0, pixels]
        return self.picture[pixels] - seen, seen

    def _slopes(self, change: np.ndarray, surface: np.ndarray) -> np.ndarray:
        """[9, P, 4] how the differences of :meth:`_compare` grow with each part of the change, by EXPECTED."""
        steps = np.diag(EXPECTED)
        slopes = np.zeros((len(change), *surface.shape), np.float32)
        slopes[:POSE] = surface - self._seen(change + steps[:POSE])[:, self.fitted]
        for channel in range(3):
            slopes[POSE + channel, :, channel] = EXPECTED[POSE + channel] * surface[:, channel]
        return slopes

    def _seen(self, changes: np.ndarray) -> np.ndarray:
        """[K, SIZE, SIZE, 4] the surface with the changes [K, 9]: the channels are divided by the frame's factors."""
        cameras = Cameras(np.repeat(self.camera.c2w, len(changes), 0), self.camera.fov_deg)
        seen = self.surface.seen(moved(cameras, changes[:, :POSE]))
        seen[..., :3] *= np.exp(-changes[:, None, None, POSE:]).astype(np.float32)
        return seen


def _huber(difference: np.ndarray) -> np.ndarray:
    size = np.abs(difference)
    return np.where(size < HUBER, 0.5 * size**2, HUBER * (size - 0.5 * HUBER))


def _cost(difference: np.ndarray, change: np.ndarray, noise: float) -> float:
    """What a fit minimizes: the differences, and a pull of the change to 0 that counts the more the noisier they are."""
    return float(_huber(difference).sum() + 0.5 * noise * np.square(change / EXPECTED).sum())
