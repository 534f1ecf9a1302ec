"""The boxes of all objects that a photo shows, for making each by itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sv3d_pipe.config import PrepConfig
from sv3d_pipe.errors import UserError
from sv3d_pipe.pictures import read_image
from sv3d_pipe.prep.frame import longest_read
from sv3d_pipe.prep.matte import cut_out
from sv3d_pipe.prep.meant import Box, photo_box
from sv3d_pipe.prep.objects import objects_in
from sv3d_pipe.prep.parts import separate
from sv3d_pipe.road.context import Context

MOST = 12  # objects of one photo


def find_boxes(config: PrepConfig, path: Path, context: Context) -> list[Box]:
    """The objects' boxes in whole pixels of the upright photo, the most prominent first.

    Args:
        config: whose ``matte`` says how they are found: by :func:`sv3d_pipe.prep.objects.objects_in` where the network
            cuts out, else among the parts of the cut-out.
    Raises:
        UserError: the photo cannot be read or cut out, or nothing was found in it.
    """
    image, (width, height) = read_image(path, longest_read(config), warn=context.warn)
    cut = cut_out(image, config.matte, path.name, context)
    if cut.source == "net":
        alphas = objects_in(np.ascontiguousarray(image[..., :3]))
    else:
        alphas = separate(cut.rgba[..., 3])
    if not alphas:
        raise UserError(f"No object was found in {path.name}; give the objects' boxes with --box.")
    if len(alphas) > MOST:
        context.warn(
            f"{path.name} shows {len(alphas)} objects; only the {MOST} most prominent ones are made."
        )
    return [photo_box(alpha, width, height) for alpha in alphas[:MOST]]
