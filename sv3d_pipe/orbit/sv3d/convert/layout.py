"""What an original SV3D checkpoint holds: its groups of keys, and the networks' sizes read from the shapes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from sv3d_pipe.errors import UserError

UNET = "model.diffusion_model."
CLIP = "conditioner.embedders.0.open_clip.model.visual."
ENCODER = "conditioner.embedders.1.encoder."  # of the photo: encoder and quant_conv
DECODER = "first_stage_model.decoder."

# In every released file and used by nobody: CLIP's text half, and the photo encoder's own decoder.
UNUSED = (
    re.compile(
        r"conditioner\.embedders\.0\.open_clip\.model\."
        r"(token_embedding\.|positional_embedding$|ln_final\.|text_projection$|logit_scale$|transformer\.)"
    ),
    re.compile(r"conditioner\.embedders\.1\.encoder\.(decoder|post_quant_conv)\."),
)

NUMBER_WIDTH = 256  # of the sinusoid of a conditioning number; sv3d-p's angles have twice that
U_WIDTH, P_WIDTH = NUMBER_WIDTH, 5 * NUMBER_WIDTH
SVD_WIDTH = 3 * NUMBER_WIDTH  # fps, motion and noise on the photo
SVD_ENCODER = "conditioner.embedders.3.encoder."  # SVD's whole image VAE; its frames' decoder is temporal


@dataclass(frozen=True)
class HeadWidths:
    """Channels per attention head, which no tensor's shape shows."""

    unet: int = 64
    clip: int = 80


RELEASED = HeadWidths()
STRANGE = "A tensor of this checkpoint has a shape that no SV3D model has; download the checkpoint again."


def configs(shapes: Mapping[str, tuple[int, ...]], heads: HeadWidths = RELEASED) -> dict[str, dict]:
    """Settings of the diffusers modules that a checkpoint with these tensors belongs to.

    Args:
        shapes: of all tensors by official key; SVD's VAE already under SV3D's names.
    Returns:
        keyword arguments for ``unet`` (StableVideo3DUNet), ``vae`` (AutoencoderKL) and
        ``image_encoder`` (CLIPVisionConfig).
    Raises:
        UserError: the tensors from which sizes are read are missing, or no such model has their shapes.
    """
    try:
        return {
            "unet": unet_config(shapes, heads.unet),
            "vae": vae_config(shapes),
            "image_encoder": clip_config(shapes, heads.clip),
        }
    except KeyError as error:
        raise UserError(f"The checkpoint lacks the tensor {error.args[0]}; download it again.") from None
    except (IndexError, ValueError, OverflowError):  # a tensor of fewer or more axes, or of none
        raise UserError(STRANGE) from None


def kind_of(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """``sv3d-u``, ``sv3d-p`` or ``svd``.

    Raises:
        UserError: none of these.
    """
    if f"{UNET}input_blocks.0.0.weight" not in shapes:
        raise UserError(
            "This is not an SV3D checkpoint in the original layout (it has no tensor"
            f" {UNET}input_blocks.0.0.weight); give sv3d_u.safetensors or sv3d_p.safetensors."
        )
    shape = shapes.get(f"{UNET}label_emb.0.0.weight", (0, 0))
    width = shape[1] if len(shape) == 2 else 0
    kinds = {U_WIDTH: "sv3d-u", P_WIDTH: "sv3d-p", SVD_WIDTH: "svd"}
    if width not in kinds:
        raise UserError(
            f"This video model takes a condition of {width} numbers; SV3D's take 256 (u) or 1280 (p)."
        )
    return kinds[width]


def unet_config(shapes: Mapping[str, tuple[int, ...]], head_width: int) -> dict:
    """Read levels, widths and attention from the keys of the input blocks."""
    channels, attends, layers = [], [], 0
    block, fresh = 1, True
    while f"{UNET}input_blocks.{block}.0.in_layers.0.weight" in shapes or _downsamples(shapes, block):
        if _downsamples(shapes, block):
            fresh = True
        else:
            if fresh:
                channels.append(shapes[f"{UNET}input_blocks.{block}.0.out_layers.0.weight"][0])
                attends.append(f"{UNET}input_blocks.{block}.1.norm.weight" in shapes)
                fresh = False
            layers += len(channels) == 1
        block += 1
    middle = f"{UNET}middle_block.1.transformer_blocks.0.attn2.to_k.weight"
    down = ["CrossAttnDownBlockSpatioTemporal" if a else "DownBlockSpatioTemporal" for a in attends]
    up = ["CrossAttnUpBlockSpatioTemporal" if a else "UpBlockSpatioTemporal" for a in reversed(attends)]
    return {
        "sample_size": 72,
        "in_channels": shapes[f"{UNET}input_blocks.0.0.weight"][1],
        "out_channels": shapes[f"{UNET}out.2.weight"][0],
        "down_block_types": down,
        "up_block_types": up,
        "block_out_channels": channels,
        "addition_time_embed_dim": NUMBER_WIDTH,
        "projection_class_embeddings_input_dim": shapes[f"{UNET}label_emb.0.0.weight"][1],
        "layers_per_block": layers,
        "cross_attention_dim": shapes[middle][1],
        "num_attention_heads": [_heads(width, head_width) for width in channels],
        "num_frames": 21,
    }


def _heads(width: int, head_width: int) -> int:
    if width % head_width:
        raise UserError(
            f"A network of this checkpoint is {width} channels wide, which its heads of {head_width} do not divide;"
            " this is not one of the released SV3D models."
        )
    return width // head_width


def _downsamples(shapes: Mapping[str, tuple[int, ...]], block: int) -> bool:
    return f"{UNET}input_blocks.{block}.0.op.weight" in shapes


def vae_config(shapes: Mapping[str, tuple[int, ...]]) -> dict:
    """Sizes of the image VAE; SV3D's decoder has no ``post_quant_conv`` in front."""
    channels = []
    while f"{ENCODER}encoder.down.{len(channels)}.block.0.conv1.weight" in shapes:
        channels.append(shapes[f"{ENCODER}encoder.down.{len(channels)}.block.0.conv1.weight"][0])
    layers = 0
    while f"{ENCODER}encoder.down.0.block.{layers}.conv1.weight" in shapes:
        layers += 1
    return {
        "block_out_channels": channels,
        "down_block_types": ["DownEncoderBlock2D"] * len(channels),
        "up_block_types": ["UpDecoderBlock2D"] * len(channels),
        "layers_per_block": layers,
        "latent_channels": shapes[f"{DECODER}conv_in.weight"][1],
        "scaling_factor": 0.18215,
        "sample_size": 576,
        "use_quant_conv": True,
        "use_post_quant_conv": f"{DECODER}post_quant_conv.weight" in shapes,
    }


def clip_config(shapes: Mapping[str, tuple[int, ...]], head_width: int) -> dict:
    """Sizes of the CLIP image tower."""
    width, _, patch, _ = shapes[f"{CLIP}conv1.weight"]
    positions = shapes[f"{CLIP}positional_embedding"][0]
    layers = 0
    while f"{CLIP}transformer.resblocks.{layers}.ln_1.weight" in shapes:
        layers += 1
    return {
        "hidden_size": width,
        "intermediate_size": shapes[f"{CLIP}transformer.resblocks.0.mlp.c_fc.weight"][0],
        "num_hidden_layers": layers,
        "num_attention_heads": _heads(width, head_width),
        "patch_size": patch,
        "image_size": round((positions - 1) ** 0.5) * patch,
        "projection_dim": shapes[f"{CLIP}proj"][1],
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-5,
    }
