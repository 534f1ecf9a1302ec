"""Frames of one object that differ in exposure and tint: the shifts that make them agree.

As in panoramas (Brown and Lowe 2007, section 6), all are found at once by least squares over the points
that several views see. Shifts only: slopes fitted beside them did not make textures better.
"""

from __future__ import annotations

import numpy as np

TOGETHER = 0.02  # pull of the shifts towards their mean, as a share of a view's mean weight
STAY = 1e-4  # pull towards 0


def agree(rgb: np.ndarray, trust: np.ndarray, anchor: int) -> np.ndarray:
    """What to add to each view's colors so that views agree where they see the same.

    Minimizes, per channel, the sum over points p and views i of
    t_ip (c_ip + shift_i - m_p)^2, m_p the weighted mean of all c_ip + shift_i, plus a pull of the shifts
    towards their mean and a slight one towards 0.

    Args:
        rgb: [N, P, 3] colors that N views give to P points; any value where trust is 0.
        trust: [N, P], 0 where a view does not see a point.
        anchor: the view that stays as it is.
    Returns:
        [N, 3] float32; 0 for the anchor.
    """
    trust = trust.astype(np.float64)
    share = trust / np.maximum(trust.sum(0), 1e-12)  # [N, P]
    mean = np.einsum("np,npc->pc", share, rgb)
    wanted = np.einsum("np,npc->nc", trust, mean - rgb)
    free = np.flatnonzero(np.arange(len(rgb)) != anchor)
    system = (np.diag(trust.sum(1)) - trust @ share.T)[np.ix_(free, free)]
    spread = np.eye(len(free)) - 1 / len(free)
    system += trust.sum(1).mean() * (TOGETHER * spread + STAY * np.eye(len(free))) + 1e-12 * np.eye(len(free))
    shifts = np.zeros((len(rgb), 3), np.float32)
    shifts[free] = np.linalg.solve(system, wanted[free])
    return shifts
