"""The network itself: EfficientNet-Lite2's trunk, and a decoder that climbs back to every pixel.

It answers two questions at once: which pixels belong to the object that is meant, and which to any object. Which one
is meant may be told by a box or a point; untold, it is what stands out.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from sv3d_pipe.efficientnet import STAGES, Trunk

SKIPS = (0, 1, 2, 4, 6)  # stages whose outputs the decoder reads: strides 2, 4, 8, 16, 32
WIDTHS = (24, 40, 64, 96, 128)  # of the decoder at these strides
TOLD_AFTER = 2  # stages; then box and point come in, at stride 4
ANSWERS = 2  # meant, any


class MattingNet(nn.Module):
    """A photo, and maybe a box or a point in it, to two cut-outs."""

    def __init__(self):
        super().__init__()
        self.trunk = Trunk()
        self.told = nn.Conv2d(2, STAGES[TOLD_AFTER - 1][0], 3, padding=1)
        channels = [STAGES[i][0] for i in SKIPS]
        self.deepest = nn.Conv2d(channels[-1], WIDTHS[-1], 1)
        self.overall = nn.Linear(channels[-1], WIDTHS[-1])
        self.bottom = nn.Sequential(*(Mix(WIDTHS[-1], 3) for _ in range(2)))
        self.climbs = nn.ModuleList(
            Climb(WIDTHS[i + 1], channels[i], WIDTHS[i], 3 if i >= 2 else 5, whole=i >= 2)
            for i in reversed(range(len(WIDTHS) - 1))
        )
        self.rough = nn.ModuleList(
            nn.Conv2d(WIDTHS[i], ANSWERS, 1) for i in (3, 2)
        )  # looked at in training only
        self.answer = nn.Conv2d(WIDTHS[0], ANSWERS, 1)
        self.fine = nn.Sequential(
            nn.Conv2d(WIDTHS[0] // 2 + 3, 16, 3, padding=1), nn.ReLU6(), nn.Conv2d(16, ANSWERS, 3, padding=1)
        )
        self.thin = nn.Conv2d(WIDTHS[0], WIDTHS[0] // 2, 1)
        for told_or_fine in (self.told, self.fine[2]):  # nothing is told, and nothing is sharper, at first
            nn.init.zeros_(told_or_fine.weight)
            nn.init.zeros_(told_or_fine.bias)

    def forward(
        self,
        colors: torch.Tensor,  # [B, 3, S, S] sRGB in [0, 1], S a multiple of 32
        told: torch.Tensor,  # [B, 2, S, S] in [0, 1]: inside of the box, near the point; zeros where untold
    ) -> list[torch.Tensor]:
        """Logits of both cut-outs, [B, 2, S, S], then rougher ones of stride 16 and 8, for training."""
        x, skips = self.trunk.enter(colors), []
        for number, stage in enumerate(self.trunk.stages):
            x = stage(x)
            if number + 1 == TOLD_AFTER:
                x = x + self.told(F.avg_pool2d(told, 4))
            skips += [x] if number in SKIPS else []
        d = self.deepest(skips[-1]) + self.overall(skips[-1].mean((2, 3)))[:, :, None, None]
        d, rough = self.bottom(F.relu6(d)), []
        for i, climb in enumerate(self.climbs):
            d = climb(d, skips[len(SKIPS) - 2 - i])
            if i < len(self.rough):
                rough.append(self.rough[i](d))
        coarse = F.interpolate(self.answer(d), scale_factor=2, mode="bilinear")
        seen = F.interpolate(F.relu6(self.thin(d)), scale_factor=2, mode="bilinear")
        return [coarse + self.fine(torch.cat([seen, colors - 0.5], 1)), *rough]


class Climb(nn.Module):
    """One stride finer: what is known so far, enlarged, beside what the trunk saw there."""

    def __init__(self, coarse: int, skip: int, width: int, kernel: int, whole: bool):
        super().__init__()
        self.known, self.saw = nn.Conv2d(coarse, width, 1), nn.Conv2d(skip, width, 1)
        self.norm = nn.BatchNorm2d(width)
        self.mix = Mix(width, kernel) if whole else Separate(width, kernel)

    def forward(self, coarse, skip):  # [B, coarse, h, w], [B, skip, 2 h, 2 w] -> [B, width, 2 h, 2 w]
        known = F.interpolate(self.known(coarse), scale_factor=2, mode="bilinear")
        return self.mix(F.relu6(self.norm(known + self.saw(skip))))


class Mix(nn.Module):
    """A residual convolution over all channels, for few pixels."""

    def __init__(self, width: int, kernel: int):
        super().__init__()
        self.filter = nn.Conv2d(width, width, kernel, padding=kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x):  # [B, width, h, w]
        return F.relu6(x + self.norm(self.filter(x)))


class Separate(nn.Module):
    """A residual convolution of every channel by itself and then a mixing one, for many pixels."""

    def __init__(self, width: int, kernel: int):
        super().__init__()
        self.filter = nn.Conv2d(width, width, kernel, padding=kernel // 2, groups=width, bias=False)
        self.mix = nn.Conv2d(width, width, 1, bias=False)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x):  # [B, width, h, w]
        return F.relu6(x + self.norm(self.mix(F.relu6(self.filter(x)))))
