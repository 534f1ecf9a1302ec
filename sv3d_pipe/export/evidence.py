"""Which loose parts of a mesh do the pictures show? Those are not debris, however small."""

from __future__ import annotations

import cv2
import numpy as np
import torch

from sv3d_pipe.artifacts import Mesh, Views
from sv3d_pipe.geometry.raster import rasterize

SIZE = 256  # side of the pictures in which parts are looked for
FEWEST_PIXELS = 20  # of a part, in all views together
TOUCHED = 0.25  # alpha from which a pixel has the object: thin parts are rims and nothing else
ON_OBJECT = 0.9  # share of a part's pixels that must lie on the object in the pictures


def shown_parts(mesh: Mesh, labels: np.ndarray, views: Views) -> np.ndarray:
    """[C] bool: the part is seen by the views' cameras, and where it is seen the pictures have the object.

    A part that floats beside the object fails in the views that see it against the background; one
    that hides inside the object is not seen.

    Args:
        labels: [F] the part of each face, 0 to C - 1.
    """
    count = int(labels.max()) + 1
    seen, on_object = np.zeros(count, np.int64), np.zeros(count, np.int64)
    vertices, faces = torch.from_numpy(mesh.vertices), torch.from_numpy(mesh.faces)
    for i, rgba in enumerate(views.rgba):
        ids = rasterize(vertices, faces, views.cameras[i], SIZE).face_ids[0].numpy()
        alpha = _alpha_with_rim(rgba)
        counts = (ids >= 0) & _known(views, i)
        part = labels[ids[counts]]
        seen += np.bincount(part, minlength=count)
        on_object += np.bincount(part, alpha[counts] > TOUCHED, minlength=count).astype(np.int64)
    return (seen >= FEWEST_PIXELS) & (on_object >= ON_OBJECT * seen)


def _alpha_with_rim(rgba: np.ndarray) -> np.ndarray:
    """Alpha [SIZE, SIZE] of a picture [S, S, 4], grown by half a pixel of S: its outline is known no better.

    The leg of a horse in a picture of 64 pixels is hardly wider.
    """
    alpha = cv2.resize(rgba[..., 3], (SIZE, SIZE), interpolation=cv2.INTER_LINEAR)
    reach = round(0.5 * SIZE / len(rgba))
    return cv2.dilate(alpha, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1)))


def _known(views: Views, i: int) -> np.ndarray:
    """[SIZE, SIZE] bool: what frame i knows."""
    if views.seen is None:
        return np.ones((SIZE, SIZE), bool)
    return cv2.resize(views.seen[i].astype(np.uint8), (SIZE, SIZE), interpolation=cv2.INTER_NEAREST) > 0
