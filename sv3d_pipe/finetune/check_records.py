"""Is a data set fit for training? What is wrong is said in one sentence that names the object."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from sv3d_pipe.errors import UserError

STATIC_DEG = 0.5  # an orbit whose elevations differ by less is static


def check_record(record: Any, frames: int) -> None:
    """Raise UserError with one sentence unless ``record`` can be trained on.

    Args:
        record: has ``name``, ``rgba`` [n, S, S, 4] uint8 and ``azimuth_deg``, ``elevation_deg`` [n].
        frames: views that an example needs.
    """
    wrong = _fault(record, frames)
    if wrong:
        raise UserError(f"The object {record.name} {wrong}; render it again or leave it out.")


def _fault(record: Any, frames: int) -> str | None:
    rgba = record.rgba
    if rgba.dtype != torch.uint8:
        return f"has pictures of type {str(rgba.dtype).removeprefix('torch.')} instead of uint8"
    if rgba.ndim != 4 or rgba.shape[1] != rgba.shape[2] or rgba.shape[3] != 4:
        return f"has pictures of shape {list(rgba.shape)} instead of [views, side, side, 4]"
    for kind in ("azimuth", "elevation"):
        angles = np.asarray(getattr(record, f"{kind}_deg"))
        if angles.shape != (len(rgba),):
            return f"has {angles.size} {kind}s for {len(rgba)} pictures"
        if not np.isfinite(angles).all():
            return f"has an {kind} that is not a number"
    if np.abs(np.asarray(record.elevation_deg)).max() > 90:
        return "has an elevation beyond 90 degrees"
    if len(rgba) < frames:
        return f"has {len(rgba)} views, fewer than the {frames} frames of an example"
    alpha = rgba[..., 3]
    empty = torch.nonzero(alpha.flatten(1).amax(1) == 0).flatten().tolist()
    if empty:
        return f"has an empty picture (view {empty[0]})"
    if (alpha == 255).all():
        return "has no cut-out (its pictures are opaque everywhere)"
    if (rgba == rgba[:1]).all():
        return "shows the same picture in all its views"
    return None


def is_static(elevation_deg: np.ndarray) -> bool:
    """Whether the camera keeps its elevation [n] over the orbit."""
    return float(np.ptp(elevation_deg)) < STATIC_DEG
