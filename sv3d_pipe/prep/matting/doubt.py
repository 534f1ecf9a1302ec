"""How likely a cut-out is wrong, from what its looks agree on, and what seems to be the matter."""

from __future__ import annotations

import functools
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np

from sv3d_pipe.built_in import built_in_folder
from sv3d_pipe.files import read_own_json, write_atomically
from sv3d_pipe.prep.matting.find import LEAST, Finding, soft_iou
from sv3d_pipe.prep.matting.weights import NAME

FILE = "doubt.json"
SIGNS = ("disagreement", "blur", "faintness", "smallness", "others", "border", "likeness")
WIDEST = 12.0  # pixels: an edge as wide as this has the blur 1
SMALL = 0.05  # share of the photo that an object must fill for its smallness to be 0
LIKENESS_SIDE, AROUND = 256, (9, 9)  # pixels: of the copy in which colors are compared, and of the windows
MIXED = 0.2  # share of a window that must lie on either side of the outline
CONTRAST = (
    0.1  # difference of colors (of the channel that differs most) at which likeness has fallen to 1 / e
)
EMPTY = 5e-3  # share of the photo; what is smaller is no clear object
RIVAL = 0.5  # other objects' area in units of this one's, above which it is not clear which is meant
CUT = 0.12  # share of an outline on the photo's border
ALIKE = 0.85  # likeness of colors on both sides of the outline
UNCLEAR, SEVERAL, CUT_OFF, PALE, UNCERTAIN = "unclear", "several", "cut off", "low contrast", "uncertain"


@dataclass(frozen=True)
class Calibration:
    """A logistic model of "this cut-out is wrong" (IoU below .8), fitted to held-out scenes.

    Attributes:
        weights: of every sign. bias: of none.
    """

    weights: tuple[float, ...]
    bias: float

    def probability(self, signs: np.ndarray) -> float:
        """That the cut-out with these signs [7] is wrong."""
        return float(1 / (1 + np.exp(-np.clip(signs @ np.array(self.weights) + self.bias, -30, 30))))


@functools.cache
def calibration() -> Calibration:
    """That of the built-in network."""
    document = read_own_json(built_in_folder(NAME) / FILE, "install img2mesh again")
    return Calibration(tuple(document["weights"]), document["bias"])


def save_calibration(found: Calibration, folder: Path) -> None:
    """Write it beside the network's weights."""
    write_atomically(folder / FILE, json.dumps({"signs": SIGNS, **asdict(found)}, indent=1) + "\n")


def signs_of(finding: Finding, rgb: np.ndarray) -> np.ndarray:
    """What may tell of a wrong cut-out, [7] float64 in [0, 1], in the order of SIGNS."""
    alpha, looks = finding.alpha, finding.looks
    solid = alpha > LEAST
    if not solid.any():
        return np.array([1, 1, 1, 1, 1, 0, 1], np.float64)
    pairs = [(i, j) for i in range(len(looks)) for j in range(i)]
    agreement = np.mean([soft_iou(looks[i], looks[j]) for i, j in pairs])
    mean = looks.mean(0)
    outline = np.hypot(*np.gradient(mean)).sum()
    blur = (4 * mean * (1 - mean)).sum() / max(outline, 1e-3) / WIDEST  # of an edge, in pixels of the looks
    area = float(alpha.sum())
    rest = float(np.clip(finding.others - alpha, 0, 1).sum())
    return np.array(
        [
            1 - agreement,
            min(1.0, blur),
            1 - float(alpha[solid].mean()),
            1 - min(1.0, area / alpha.size / SMALL),
            min(1.0, rest / area),
            border_share(solid),
            likeness(rgb, alpha),
        ],
        np.float64,
    )


def reason(finding: Finding, signs: np.ndarray) -> str:
    """What is probably the matter with a cut-out that is likely wrong: one of the five words above."""
    named = dict(zip(SIGNS, signs))
    if finding.alpha.mean() < EMPTY:
        return UNCLEAR
    if named["others"] > RIVAL:
        return SEVERAL
    if named["border"] > CUT:
        return CUT_OFF
    return PALE if named["likeness"] > ALIKE else UNCERTAIN


def border_share(solid: np.ndarray) -> float:
    """Share of the outline of [H, W] that lies on the picture's border."""
    edge = solid & (cv2.erode(solid.astype(np.uint8), np.ones((3, 3), np.uint8), borderValue=0) == 0)
    on_border = np.concatenate([solid[0], solid[-1], solid[1:-1, 0], solid[1:-1, -1]]).sum()
    return float(on_border / max(1, edge.sum()))


def likeness(rgb: np.ndarray, alpha: np.ndarray) -> float:
    """How alike the colors just inside and just outside of an outline are: 1 where they are the same."""
    scale = LIKENESS_SIDE / max(alpha.shape)
    size = max(8, round(alpha.shape[1] * scale)), max(8, round(alpha.shape[0] * scale))
    small = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
    solid = (cv2.resize(alpha, size, interpolation=cv2.INTER_AREA) > LEAST).astype(np.float32)
    inside, outside = cv2.blur(solid, AROUND), cv2.blur(1 - solid, AROUND)
    edge = (inside > MIXED) & (outside > MIXED)
    if not edge.any():
        return 1.0
    front = cv2.blur(small * solid[..., None], AROUND)[edge] / inside[edge][:, None]
    behind = cv2.blur(small * (1 - solid)[..., None], AROUND)[edge] / outside[edge][:, None]
    return float(np.exp(-np.abs(front - behind).max(-1) / CONTRAST).mean())


def fit_calibration(signs: np.ndarray, wrong: np.ndarray) -> Calibration:
    """Logistic regression with a little ridge, by Newton's method.

    Args:
        signs: [N, 7]. wrong: [N] bool.
    """
    terms = np.concatenate([signs, np.ones((len(signs), 1))], 1)
    weights = np.zeros(terms.shape[1])
    ridge = np.diag([1.0] * signs.shape[1] + [1e-3])
    for _ in range(50):
        chance = 1 / (1 + np.exp(-np.clip(terms @ weights, -30, 30)))
        slope = terms.T @ (wrong - chance) - ridge @ weights
        curvature = (terms * (chance * (1 - chance))[:, None]).T @ terms + ridge
        weights = weights + np.linalg.solve(curvature, slope)
    return Calibration(tuple(float(w) for w in weights[:-1]), float(weights[-1]))
