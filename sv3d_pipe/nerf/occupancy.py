"""Which cells of the hull are marched through: those whose fitted density is not negligible."""

from __future__ import annotations

import torch

from sv3d_pipe.nerf.field import RadianceField


class OccupancyGrid:
    """The cells that are marched through: those of the hull whose density is not negligible.

    Args:
        hull: [G, G, G] bool; nothing outside it is ever occupied.
        radius: half the cube's side.
        step: length of a ray marching interval; a cell is kept if one could hide ``least_alpha``.
    """

    least_alpha = 0.01
    decay = 0.9

    def __init__(self, hull: torch.Tensor, radius: float, step: float):
        self.hull, self.radius, self.step = hull, radius, step
        self.cells = hull.nonzero()  # [C, 3]
        self.alpha = torch.ones(len(self.cells), device=hull.device)
        self.occupied = hull.clone()

    @torch.no_grad()
    def update(self, field: RadianceField, generator: torch.Generator) -> None:
        """Ask the density at a random point of each cell; old answers fade (Instant-NGP, appendix C)."""
        size = 2 * self.radius / len(self.hull)
        inside = torch.rand(self.cells.shape, generator=generator, device=self.hull.device)
        points = (self.cells + inside) * size - self.radius
        sigma = torch.cat([field.sigma(part) for part in points.split(2**16)])
        fresh = -torch.expm1(-sigma * self.step)
        self.alpha = torch.maximum(self.alpha * self.decay, fresh)
        kept = self.alpha > (0.5 * self.alpha.mean()).clamp(max=self.least_alpha)
        self.occupied = torch.zeros_like(self.hull)
        self.occupied[self.cells.unbind(1)] = kept

    def state(self) -> dict[str, torch.Tensor]:
        """What :meth:`restore` needs, and the hull it is for."""
        return {"alpha": self.alpha, "occupied": self.occupied, "hull": self.hull}

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        self.alpha = state["alpha"].to(self.hull.device)
        self.occupied = state["occupied"].to(self.hull.device)
