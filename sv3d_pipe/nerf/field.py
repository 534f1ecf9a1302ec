"""The radiance field: hash grid, then a small network, then density and diffuse color."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from sv3d_pipe.artifacts import Field, Mesh
from sv3d_pipe.nerf.hashgrid import FEATURES, Layout, encode


class RadianceField(nn.Module):
    """Density and color of every point of the cube [-radius, radius]^3.

    The arguments are plain numbers, so that ``RadianceField(**field.shape)`` rebuilds it.

    Args:
        radius: half the cube's side, world units. Points outside are moved to its border.
        levels, table_log2, coarsest, finest: the hash grid, see :class:`Layout`.
        hidden: width of the network.
    Attributes:
        mesh: the surface of a fitted field, see :class:`sv3d_pipe.contracts.Reconstruction`.
    """

    mesh: Mesh

    def __init__(
        self, radius: float, levels: int = 12, table_log2: int = 16, coarsest: int = 16, finest: int = 256,
        hidden: int = 32,
    ):  # fmt: skip
        super().__init__()
        self.shape = dict(
            radius=radius, levels=levels, table_log2=table_log2, coarsest=coarsest, finest=finest,
            hidden=hidden,
        )  # fmt: skip
        self.radius = radius
        self.layout = Layout.geometric(levels, table_log2, coarsest, finest)
        self.table = nn.Parameter(torch.zeros(self.layout.rows, FEATURES))
        self.trunk = _linear(self.layout.width, hidden)
        self.density_head = _linear(hidden, 1)
        self.color_trunk = _linear(hidden, hidden)
        self.color_head = _linear(hidden, 3)

    @classmethod
    def from_field(cls, field: Field) -> RadianceField:
        """The fitted field of an artifact, ready to be queried."""
        model = cls(**field.shape)
        model.load_state_dict(field.weights)
        model.mesh = field.mesh
        return model.eval()

    def initialize(self, generator: torch.Generator) -> RadianceField:
        """Draw fresh weights: tables uniform in +-1e-4 (Instant-NGP), layers by He's rule, biases 0."""
        nn.init.uniform_(self.table, -1e-4, 1e-4, generator=generator)
        for layer in (self.trunk, self.density_head, self.color_trunk, self.color_head):
            nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu", generator=generator)
            nn.init.zeros_(layer.bias)
        return self

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """World points [N, 3] to sigma [N] (per world unit, >= 0) and rgb [N, 3] in [0, 1]."""
        features = self._features(x)
        return self._sigma(features), self._rgb(features)

    def sigma(self, x: torch.Tensor) -> torch.Tensor:
        """Density [N] at world points [N, 3]."""
        return self._sigma(self._features(x))

    def rgb(self, x: torch.Tensor) -> torch.Tensor:
        """Color [N, 3] at world points [N, 3]; differentiable in the points."""
        return self._rgb(self._features(x))

    def _features(self, x: torch.Tensor) -> torch.Tensor:
        unit = (x * (0.5 / self.radius) + 0.5).clamp(0, 1)
        return F.relu(self.trunk(encode(unit, self.table, self.layout)))

    def _sigma(self, features: torch.Tensor) -> torch.Tensor:
        return _TruncatedExp.apply(self.density_head(features).squeeze(-1))

    def _rgb(self, features: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(self.color_head(F.relu(self.color_trunk(features))))


def _linear(inputs: int, outputs: int) -> nn.Linear:
    layer = nn.utils.skip_init(nn.Linear, inputs, outputs)  # draws nothing from the global generator
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.zero_()
    return layer


class _TruncatedExp(torch.autograd.Function):
    """exp, with its argument and its gradient's argument limited so that neither overflows."""

    LIMIT = 12.0

    @staticmethod
    def forward(ctx, x):
        out = torch.exp(x.clamp(max=_TruncatedExp.LIMIT))
        ctx.save_for_backward(out)
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        (out,) = ctx.saved_tensors
        return grad * out
