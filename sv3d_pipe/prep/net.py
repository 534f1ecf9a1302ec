"""The cut-out that the matting network makes, with sharp edges, and what is doubtful about it."""

from __future__ import annotations

import numpy as np

from sv3d_pipe.errors import UserError
from sv3d_pipe.prep.edges import decontaminate, guided, refine
from sv3d_pipe.prep.matting.doubt import (
    CUT_OFF,
    PALE,
    SEVERAL,
    UNCERTAIN,
    UNCLEAR,
    calibration,
    reason,
)
from sv3d_pipe.prep.matting.find import LEAST, SIDE, Finding
from sv3d_pipe.road.context import Context

DOUBTFUL = 0.3  # probability of a wrong cut-out from which on the user is told
REACH = 1.0  # pixels of the network's square by which its edges may be off
WINDOW = (
    4.0  # radius of the guided filter in pixels of the network's square; both were chosen on held-out scenes
)
FAINT = 0.03  # alpha that counts as none, and the same less than 1 as all
CHOOSE = "say which object is meant with --box left,top,right,bottom or --point x,y"
SENTENCES = {
    UNCLEAR: f"No object stands out clearly in {{name}}, so the cut-out may be wrong; {CHOOSE}, or give a cut-out PNG.",
    SEVERAL: f"Several things could be meant in {{name}}, so the cut-out may be wrong; {CHOOSE}.",
    CUT_OFF: "What stands out in {name} is cut by the picture's border, and its cut-out may be wrong; a photo that"
    " shows all of the object gives a better mesh.",
    PALE: "The object in {name} has nearly the colors of what is around it, so the cut-out may be wrong; look at"
    " 1-prep/photo.png, and give a cut-out PNG or a photo on another background if it is.",
    UNCERTAIN: f"The cut-out of {{name}} is uncertain; look at 1-prep/photo.png, and if it is wrong, {CHOOSE}, or give a"
    " cut-out PNG.",
}


def cut_by_network(
    finding: Finding, signs: np.ndarray, rgb: np.ndarray, name: str, context: Context
) -> tuple[np.ndarray, bool]:
    """[H, W, 4] straight alpha, colors at soft edges freed of the background; and whether it is probably right.

    Args:
        finding: in the photo rgb [H, W, 3], float32 in [0, 1]. signs: [7] of doubt in it.
        name: the photo's, for messages.
    Raises:
        UserError: nothing was found.
    """
    if not (finding.alpha > LEAST).any():
        raise UserError(f"No object was found in {name}; {CHOOSE}, or give a cut-out PNG.")
    doubtful = is_doubtful(signs)
    if doubtful:
        context.warn(SENTENCES[reason(finding, signs)].format(name=name))
    return sharpened(finding, rgb), not doubtful


def is_doubtful(signs: np.ndarray) -> bool:
    """Whether a cut-out with these signs [7] is likely wrong."""
    return calibration().probability(signs) >= DOUBTFUL


def sharpened(finding: Finding, rgb: np.ndarray) -> np.ndarray:
    """A finding at the photo's size as a cut-out [H, W, 4]."""
    left, top, right, bottom = finding.part
    pixel = max(right - left, bottom - top) / SIDE  # of the network's square, in the photo
    crop, alpha = rgb[top:bottom, left:right], np.zeros_like(finding.alpha)
    edges = refine(crop, finding.alpha[top:bottom, left:right], max(1, round(REACH * pixel)))[..., 3]
    edges = guided(crop, edges, max(1, round(WINDOW * pixel)))
    alpha[top:bottom, left:right] = np.clip((edges - FAINT) / (1 - 2 * FAINT), 0, 1)
    return decontaminate(rgb, alpha)
