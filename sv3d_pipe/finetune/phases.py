"""The model a training run starts from, prepared for its phase, and which of its weights are trained."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from sv3d_pipe.errors import UserError
from sv3d_pipe.finetune.lora import add_lora
from sv3d_pipe.finetune.recipe import Recipe
from sv3d_pipe.orbit.denoising_pipeline import OrbitPipeline
from sv3d_pipe.orbit.mini.denoiser import VolumeDenoiser
from sv3d_pipe.orbit.mini.pixel_codec import PixelCodec
from sv3d_pipe.orbit.mini.pixel_pipeline import MiniPipeline
from sv3d_pipe.orbit.schedulers import euler_scheduler
from sv3d_pipe.orbit.store.load import load_pipeline
from sv3d_pipe.orbit.sv3d.convert import to_folder
from sv3d_pipe.orbit.sv3d.convert.checkpoint import OriginalFile
from sv3d_pipe.orbit.sv3d.convert.layout import NUMBER_WIDTH, P_WIDTH, RELEASED, HeadWidths, kind_of
from sv3d_pipe.orbit.sv3d.unet import StableVideo3DUNet

OVER_TIME = ("temporal_transformer_blocks", "temporal_res_block", "time_pos_embed", "time_mixer")


def start_model(
    name: str, phase: str, device: str, workplace: Path, heads: HeadWidths = RELEASED
) -> OrbitPipeline:
    """The pipeline to train, in float32.

    Args:
        name: ``new`` (mini with random weights), an SVD .safetensors file, or what
            :func:`sv3d_pipe.orbit.store.find.find_model` takes.
        phase: u, c or p, see :class:`Recipe`.
        workplace: a converted SVD checkpoint is kept here as ``start``.
        heads: channels per attention head of an SVD file.
    Raises:
        UserError: there is no such model, or it cannot start this phase.
    """
    if name == "new":
        pipeline = MiniPipeline(
            vae=PixelCodec(),
            unet=VolumeDenoiser(knows=True),
            scheduler=euler_scheduler(),
            steps=1,
            guidance=1.0,
        ).to(device)
    elif _is_svd(Path(name)):
        if phase == "p":
            raise UserError("Phase p starts from a model of phase u; train --phase u or --phase c from SVD.")
        folder = workplace / "start"
        if not folder.exists():
            to_folder(Path(name), folder, "fp32", start="u" if phase == "u" else "p", heads=heads)
        pipeline = load_pipeline(str(folder), device)
    else:
        pipeline = load_pipeline(name, device)
    fit_phase(pipeline.unet, phase, fresh=name == "new" or _is_svd(Path(name)))
    pipeline.unet.train()
    return pipeline


def _is_svd(path: Path) -> bool:
    return path.suffix == ".safetensors" and path.is_file() and kind_of(OriginalFile(path).shapes) == "svd"


def fit_phase(unet: nn.Module, phase: str, fresh: bool = False) -> None:
    """Give the network the conditions of a phase, or raise UserError.

    Args:
        fresh: it has not been trained on orbits yet.
    """
    takes_angles = not isinstance(unet, StableVideo3DUNet) or len(unet.widths) > 1
    if phase == "u" and takes_angles:
        raise UserError("Phase u trains without camera angles, which this model needs; use --phase p.")
    if phase == "c" and not takes_angles and not fresh:
        raise UserError(
            "A model of phase u continues with --phase p; phase c is for a model without phase u."
        )
    if phase != "u" and not takes_angles:
        add_angles(unet)


def add_angles(unet: StableVideo3DUNet) -> None:
    """Make sv3d-u's network sv3d-p's: it may be told angles, and paints the same until it has learned them.

    The layer that reads the conditioning numbers gets columns for polar angle and azimuth, all zero
    (SV3D starts p from u, arXiv 2403.12008, section 3.2).
    """
    layer = unet.add_embedding.linear_1
    wider = nn.Linear(P_WIDTH, layer.out_features, device=layer.weight.device, dtype=layer.weight.dtype)
    with torch.no_grad():
        wider.weight.zero_()
        wider.weight[:, :NUMBER_WIDTH] = layer.weight
        wider.bias.copy_(layer.bias)
    unet.add_embedding.linear_1 = wider
    unet.register_to_config(projection_class_embeddings_input_dim=P_WIDTH)


def choose_trained(unet: nn.Module, recipe: Recipe) -> None:
    """Freeze what the recipe does not train, add LoRA, and set up recomputation of activations.

    The layers that read the camera angles are always trained: an angle that is new to a model has
    no other way in.

    Raises:
        UserError: the network has no layers over time, or cannot recompute activations.
    """
    if recipe.train == "lora":
        add_lora(unet, recipe.rank)
    if recipe.train == "temporal":
        if not isinstance(unet, StableVideo3DUNet):
            raise UserError("This model has no layers over time; use --train full or --train lora.")
        unet.requires_grad_(False)
        for name, parameter in unet.named_parameters():
            parameter.requires_grad_(any(part in name for part in OVER_TIME))
    if isinstance(unet, StableVideo3DUNet):
        unet.add_embedding.requires_grad_(True)
    if recipe.checkpointing:
        try:
            unet.enable_gradient_checkpointing()
        except ValueError:
            raise UserError("This model cannot recompute activations; leave out --checkpointing.") from None
