"""Model of a plain backdrop: its color everywhere in the picture, and how sure each pixel belongs to it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from scipy.sparse import coo_matrix, diags
from scipy.sparse.linalg import cg

CROSS3 = np.ones((3, 3), np.uint8)
BAND = 0.02  # width of the border band the backdrop is first read from, as a share of the longer side
NEAR = 5.0  # Lab distance within which a noiseless backdrop still counts as itself
EDGE = 1.2  # Lab units per pixel; a steeper slope is an edge that the backdrop does not cross
AGREE = 0.7  # share of the border band that must fit the smooth model for the backdrop to be plain
TEXTURE = 0.45  # Lab units per pixel; the median slope of a plain backdrop, blurred against noise, is below


@dataclass(frozen=True)
class Backdrop:
    """A backdrop found in an [H, W] picture.

    Attributes:
        foreground: [H, W] in [0, 1], how much a pixel belongs to the object.
        distance: [H, W] Lab distance to the backdrop's color.
        near: Lab distance within which a pixel counts as backdrop.
        plain: whether the model describes the border well enough to be trusted.
    """

    foreground: np.ndarray
    distance: np.ndarray
    near: float
    plain: bool


def find_backdrop(lab: np.ndarray) -> Backdrop:
    """Fit a smooth backdrop to a picture and follow it inwards from the border.

    A quadratic surface is fitted to the border band (robustly, so that an object may touch it), the
    region connected to the border is grown up to edges, and the surface follows slow changes such as
    vignettes and soft shadows. What the region leaves open is settled by a random walker.

    Args:
        lab: [H, W, 3] float32 CIE Lab, L in [0, 100].
    """
    surface, spread, agreement = fit_border(lab)
    slope, broad_slope = _slope(lab, 0.7), _slope(lab, 2.0)
    near, edge = NEAR + 2 * spread, EDGE
    for _ in range(5):
        distance = _distance(lab, surface)
        loose = _connected_to_border(cv2.medianBlur((distance < near).astype(np.uint8), 3) > 0)
        edge = max(EDGE, 3 * float(np.median(slope[loose]))) if loose.any() else EDGE
        region = _flood(distance < near, slope > edge)
        if region.mean() < 0.05:
            return Backdrop(np.ones(lab.shape[:2]), distance, near, False)
        noise = float(np.median(distance[region]))
        near = min(near, NEAR + 4 * noise)
        surface = _follow(surface, lab, region)
    distance = _distance(lab, surface)
    region = _flood(distance < near, slope > edge)
    if agreement < AGREE or np.median(broad_slope[loose]) > TEXTURE:
        return Backdrop((~region).astype(np.float32), distance, near, False)
    shadow = _is_shadow(lab - surface, slope < 2 * edge, 3 + 2 * noise)
    foreground = _settle(lab, distance, region, shadow, near, tight=2 + 3 * noise)
    return Backdrop(foreground, distance, near, True)


def fit_border(lab: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Robust quadratic surface through the border band (Cauchy weights squared, 20 rounds).

    Returns:
        surface [H, W, 3], the robust spread of the residual in Lab units (at least 1) and the share
        of the band within 8 Lab units.
    """
    height, width = lab.shape[:2]
    y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    basis = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], -1)  # [H, W, 6]
    inner = max(2, round(BAND * max(height, width)))
    band = np.ones((height, width), bool)
    band[inner:-inner, inner:-inner] = False
    terms, colors = basis[band], lab[band].astype(np.float64)
    weights = np.ones((len(terms), 1))
    for _ in range(20):
        weighted = (terms * weights).T  # normal equations: 6 x 6, far faster than lstsq on the long matrix
        fitted = np.linalg.solve(weighted @ terms + 1e-9 * np.eye(6), weighted @ colors)
        residual = np.linalg.norm(colors - terms @ fitted, axis=1)
        spread = max(1.0, 1.4826 * float(np.median(residual)))
        weights = (1 + (residual / spread) ** 2)[:, None] ** -2
    return (basis @ fitted).astype(np.float32), spread, float((residual < 8).mean())


def _distance(lab: np.ndarray, surface: np.ndarray) -> np.ndarray:
    """Lab distance that counts lightness a little less than hue, [H, W]."""
    return np.linalg.norm((lab - surface) * np.float32([0.8, 1, 1]), axis=-1).astype(np.float32)


def _slope(lab: np.ndarray, sigma: float) -> np.ndarray:
    """Length of the color gradient in Lab units per pixel after a blur by sigma pixels, [H, W]."""
    smooth = cv2.GaussianBlur(lab, (0, 0), sigma)
    across, down = (cv2.Sobel(smooth, cv2.CV_32F, dx, 1 - dx) / 8 for dx in (1, 0))
    return np.sqrt((across**2 + down**2).sum(-1))


def _connected_to_border(mask: np.ndarray) -> np.ndarray:
    count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)
    keep = np.zeros(count, bool)
    keep[np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])] = True
    keep[0] = False
    return keep[labels]


def _flood(similar: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Similar pixels reached from the border without crossing an edge or a gap narrower than it."""
    barrier = cv2.dilate(edges.astype(np.uint8), CROSS3) > 0
    region = _connected_to_border(similar & ~barrier).astype(np.uint8)
    for _ in range(2):
        region = cv2.dilate(region, CROSS3) * similar
    return region > 0


def _follow(surface: np.ndarray, lab: np.ndarray, region: np.ndarray) -> np.ndarray:
    """The surface corrected by the smoothed residual inside the region (normalized convolution)."""
    inside = cv2.erode(region.astype(np.uint8), CROSS3).astype(np.float32)[..., None]
    stacked = np.concatenate([(lab - surface) * inside, inside], -1)
    height, width = region.shape
    coarse = cv2.resize(stacked, (width // 4 + 1, height // 4 + 1), interpolation=cv2.INTER_AREA)
    coarse = cv2.GaussianBlur(coarse, (0, 0), 0.05 / 4 * max(height, width))
    correction = coarse[..., :3] / np.maximum(coarse[..., 3:], 0.02)
    return surface + cv2.resize(correction, (width, height), interpolation=cv2.INTER_LINEAR)


def _is_shadow(difference: np.ndarray, smooth: np.ndarray, hue_limit: float) -> np.ndarray:
    """Darker than the backdrop, of its hue, and without edges: [H, W] bool."""
    darker = (difference[..., 0] < 0) & (difference[..., 0] > -35)
    return darker & (np.linalg.norm(difference[..., 1:], axis=-1) < hue_limit) & smooth


def _settle(
    lab: np.ndarray,
    distance: np.ndarray,
    region: np.ndarray,
    shadow: np.ndarray,
    near: float,
    tight: float,
) -> np.ndarray:
    """Foreground in [0, 1]: evidence from the distance, spread by a random walker up to edges."""
    prior = np.clip((distance - tight) / (2 * near - tight), 0, 1)
    trust = 0.4 * (prior - 0.5) ** 2 + 0.002
    trust[~region & (prior < 0.5)] *= 0.1  # backdrop-colored but enclosed: may well be the object
    trust[region] = 0.1 * np.exp(-((distance[region] / near) ** 2))
    trust[shadow & ~region] *= 0.03
    prior[region] = 0
    certain = cv2.erode((distance > 3 * near).astype(np.uint8), CROSS3) > 0
    prior[certain] = 1
    deep = cv2.erode(region.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    foreground = random_walker(lab, prior, trust, ~(certain | deep))
    return _fill_holes(foreground, distance, max(tight, 0.7 * near))


def random_walker(lab: np.ndarray, prior: np.ndarray, trust: np.ndarray, free: np.ndarray) -> np.ndarray:
    """Minimize sum trust (x - prior)^2 + sum over neighbors exp(-0.15 |dLab|^2) (x_i - x_j)^2.

    Random walker with prior (Grady 2005), on the 4-neighborhood, by conjugate gradients.

    Args:
        lab: [H, W, 3]. prior, trust: [H, W].
        free: [H, W] bool; elsewhere x stays at the prior.
    Returns:
        x [H, W].
    """
    index = np.arange(prior.size).reshape(prior.shape)
    first = np.concatenate([index[:, 1:].ravel(), index[1:].ravel()])
    second = np.concatenate([index[:, :-1].ravel(), index[:-1].ravel()])
    steps = ((lab[:, 1:] - lab[:, :-1]) ** 2).sum(-1).ravel(), ((lab[1:] - lab[:-1]) ** 2).sum(-1).ravel()
    weight = np.exp(-0.15 * np.concatenate(steps)).astype(np.float64) + 1e-4
    x, open_, own = prior.astype(np.float64).ravel(), free.ravel(), trust.astype(np.float64).ravel()
    if not open_.any():
        return prior
    diagonal = own + np.bincount(first, weight, prior.size) + np.bincount(second, weight, prior.size)
    right = own * x
    for here, there in ((first, second), (second, first)):
        rim = open_[here] & ~open_[there]
        right += np.bincount(here[rim], weight[rim] * x[there[rim]], prior.size)
    inner = open_[first] & open_[second]
    number = np.cumsum(open_) - 1
    row, column, value = number[first[inner]], number[second[inner]], weight[inner]
    shape = (int(open_.sum()),) * 2
    neighbors = coo_matrix((value, (row, column)), shape).tocsr()
    system = diags(diagonal[open_]) - neighbors - neighbors.T
    x[open_] = cg(system, right[open_], x0=x[open_], M=diags(1 / diagonal[open_]), maxiter=40, rtol=1e-2)[0]
    return x.reshape(prior.shape)


def _fill_holes(foreground: np.ndarray, distance: np.ndarray, limit: float) -> np.ndarray:
    """Close specks and the holes whose median distance shows that they are not the backdrop."""
    hole = (foreground <= 0.5) & ~_connected_to_border(foreground <= 0.5)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(hole.astype(np.uint8), connectivity=4)
    filled = foreground.copy()
    for label in range(1, count):
        inside = labels == label
        if stats[label, cv2.CC_STAT_AREA] < 12 or np.median(distance[inside]) > limit:
            filled[inside] = 1
    return filled
