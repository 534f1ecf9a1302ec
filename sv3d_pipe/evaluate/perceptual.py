"""Perceptual similarity of pictures: LPIPS and CLIP-S, only where packages and weights are already here.

Nothing is ever downloaded: each measure is looked for first, and where something is missing it says
what. The weights are those of LPIPS v0.1 on VGG-16 (SyncDreamer's table; AlexNet, EscherNet's, where
only that is here) from torchvision in PyTorch's hub folder, and OpenAI's CLIP ViT-L/14 from the Hugging
Face cache. SV3D's paper names neither network: compare with its tables with care.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from sv3d_pipe.errors import one_line

Score = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # [N, 3, H, W] twice -> [N]

LPIPS_NETS = {"vgg": "vgg16-397923af.pth", "alex": "alexnet-owt-7be5be79.pth"}  # torchvision's file names
LPIPS_SMALLEST = 64  # pixels: the networks halve the picture up to five times
CLIP_MODEL = "openai/clip-vit-large-patch14"
CLIP_SIZE = 224
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


def perceptual_scores(a: np.ndarray, b: np.ndarray) -> dict[str, list[float]]:
    """``lpips`` and ``clip_s`` of stacks [N, H, W, 3] in [0, 1], as far as they can be computed here.

    LPIPS is a distance (0 is best; pictures below 64 pixels have none); CLIP-S is the cosine of the
    image embeddings (1 is best).
    """
    pair = [torch.from_numpy(np.ascontiguousarray(x, np.float32)).movedim(-1, 1) for x in (a, b)]
    scores = {"lpips": lpips_score()[0], "clip_s": clip_score()[0]}
    if min(pair[0].shape[2:]) < LPIPS_SMALLEST:
        scores["lpips"] = None
    with torch.no_grad():
        return {name: score(*pair).tolist() for name, score in scores.items() if score is not None}


def availability() -> dict[str, str]:
    """For both measures, what computes them or ``not computed: <why>``."""
    return {"lpips": lpips_score()[1], "clip_s": clip_score()[1]}


@cache
def lpips_score() -> tuple[Score | None, str]:
    """LPIPS per picture, and its name or the reason why it is not computed."""
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    here = [net for net, file in LPIPS_NETS.items() if (folder / file).exists()]
    if not here:
        return None, f"not computed: {' or '.join(LPIPS_NETS.values())} is not in {folder}"
    try:
        from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity
        from torchvision.models import AlexNet_Weights, VGG16_Weights
    except Exception as error:  # a torchvision built for another torch raises whatever it likes
        return None, _unusable("torchvision", error)
    url = {"vgg": VGG16_Weights, "alex": AlexNet_Weights}[here[0]].IMAGENET1K_V1.url
    if not url.endswith(LPIPS_NETS[here[0]]):
        return None, f"not computed: this torchvision wants {url}"
    with _tensors_only():
        metric = LearnedPerceptualImagePatchSimilarity(net_type=here[0], normalize=True).eval()

    def score(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return torch.stack([metric(a[i : i + 1], b[i : i + 1]).reshape(()) for i in range(len(a))])

    return score, f"LPIPS v0.1 on {here[0]}, values in [-1, 1]"


@cache
def clip_score() -> tuple[Score | None, str]:
    """Cosine of CLIP image embeddings per picture, and its name or the reason why it is not computed."""
    from huggingface_hub import try_to_load_from_cache

    if not isinstance(try_to_load_from_cache(CLIP_MODEL, "model.safetensors"), str):
        return None, f"not computed: model.safetensors of {CLIP_MODEL} is not in the Hugging Face cache"
    try:
        from transformers import CLIPVisionModelWithProjection

        tower = CLIPVisionModelWithProjection.from_pretrained(
            CLIP_MODEL, local_files_only=True, use_safetensors=True
        ).eval()
    except Exception as error:  # transformers imports a good part of what is installed
        return None, _unusable("transformers", error)

    def score(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        embedded = [tower(pixel_values=clip_input(x)).image_embeds for x in (a, b)]
        return F.cosine_similarity(*embedded)

    return score, f"cosine of image embeddings, {CLIP_MODEL}"


def _unusable(package: str, error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"not computed: {error.name} is not installed"
    return f"not computed: {package} cannot be used ({one_line(str(error), 80)})"


def clip_input(images: torch.Tensor) -> torch.Tensor:
    """Square pictures [N, 3, S, S] in [0, 1] as CLIP takes them: bicubic to 224, standardized."""
    mean, std = (torch.tensor(v)[:, None, None] for v in (CLIP_MEAN, CLIP_STD))
    small = F.interpolate(images, (CLIP_SIZE, CLIP_SIZE), mode="bicubic", antialias=True)
    return (small.clamp(0, 1) - mean) / std


@contextmanager
def _tensors_only():
    """PyTorch's files are read as tensors, never as code, also inside libraries."""
    name = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
