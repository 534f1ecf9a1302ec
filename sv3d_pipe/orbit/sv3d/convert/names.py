"""Official key of every parameter of the diffusers modules (1428 + 392 + 246 tensors, one to one).

Each table maps a module's name in diffusers to its official name; parameters keep their last name.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sv3d_pipe.orbit.sv3d.convert.layout import CLIP, DECODER, ENCODER, UNET


@dataclass(frozen=True)
class Tensor:
    """Where one diffusers parameter lies in the official file.

    Attributes:
        name: in diffusers.
        key: in the official file.
        change: ``same``; ``flat``: a 1x1 convolution [A, B, 1, 1] there, a linear map [A, B] here;
            ``turned``: stored transposed; ``third0..2``: that third of the official tensor's rows.
    """

    name: str
    key: str
    change: str = "same"


def unet_tensors(config: dict, names: Iterable[str]) -> list[Tensor]:
    """Official places of the UNet's parameters ``names``."""
    modules = _unet_modules(config)
    return [_by_module(name, modules, UNET) for name in names]


def vae_tensors(config: dict, names: Iterable[str]) -> list[Tensor]:
    """Official places of the image VAE's parameters ``names``."""
    levels, layers = len(config["block_out_channels"]), config["layers_per_block"]
    modules = {f"encoder.{a}": f"{ENCODER}encoder.{b}" for a, b in _vae_half("down", levels, layers).items()}
    modules |= {f"decoder.{a}": f"{DECODER}{b}" for a, b in _vae_half("up", levels, layers + 1).items()}
    modules |= {"quant_conv": f"{ENCODER}quant_conv", "post_quant_conv": f"{DECODER}post_quant_conv"}
    tensors = []
    for name in names:
        module, _, leaf = name.rpartition(".")
        flat = ".attentions.0.to_" in name and leaf == "weight"
        tensors.append(Tensor(name, f"{modules[module]}.{leaf}", "flat" if flat else "same"))
    return tensors


def clip_tensors(names: Iterable[str]) -> list[Tensor]:
    """Official places of the parameters ``names`` of transformers' CLIP vision model with projection."""
    whole = {
        "vision_model.embeddings.class_embedding": Tensor("", "class_embedding"),
        "vision_model.embeddings.position_embedding.weight": Tensor("", "positional_embedding"),
        "visual_projection.weight": Tensor("", "proj", "turned"),
    }
    modules = {
        "vision_model.embeddings.patch_embedding": "conv1",
        "vision_model.pre_layrnorm": "ln_pre",
        "vision_model.post_layernorm": "ln_post",
    }
    in_layer = {
        "layer_norm1": "ln_1",
        "layer_norm2": "ln_2",
        "mlp.fc1": "mlp.c_fc",
        "mlp.fc2": "mlp.c_proj",
        "self_attn.out_proj": "attn.out_proj",
    }
    tensors = []
    for name in names:
        if name in whole:
            tensors.append(Tensor(name, CLIP + whole[name].key, whole[name].change))
            continue
        module, _, leaf = name.rpartition(".")
        if module in modules:
            tensors.append(Tensor(name, f"{CLIP}{modules[module]}.{leaf}"))
            continue
        layer, _, inner = module.removeprefix("vision_model.encoder.layers.").partition(".")
        block = f"{CLIP}transformer.resblocks.{layer}."
        if inner in in_layer:
            tensors.append(Tensor(name, f"{block}{in_layer[inner]}.{leaf}"))
        else:  # self_attn.q_proj and its like share one official matrix
            third = "qkv".index(inner.removeprefix("self_attn.")[0])
            tensors.append(Tensor(name, f"{block}attn.in_proj_{leaf}", f"third{third}"))
    return tensors


def _by_module(name: str, modules: dict[str, str], prefix: str) -> Tensor:
    """The module that is the longest beginning of ``name``; what follows is the same in both."""
    module = name
    while module not in modules:
        module = module.rpartition(".")[0]
    return Tensor(name, prefix + modules[module] + name.removeprefix(module))


def _unet_modules(config: dict) -> dict[str, str]:
    """diffusers module -> official module, without the prefix."""
    layers = config["layers_per_block"]
    attends = ["CrossAttn" in name for name in config["down_block_types"]]
    modules = {
        "conv_in": "input_blocks.0.0",
        "time_embedding.linear_1": "time_embed.0",
        "time_embedding.linear_2": "time_embed.2",
        "add_embedding.linear_1": "label_emb.0.0",
        "add_embedding.linear_2": "label_emb.0.2",
        "conv_norm_out": "out.0",
        "conv_out": "out.2",
    }
    modules |= _residual("mid_block.resnets.0", "middle_block.0")
    modules |= _transformer("mid_block.attentions.0", "middle_block.1")
    modules |= _residual("mid_block.resnets.1", "middle_block.2")
    block = 1
    for level, attention in enumerate(attends):
        for layer in range(layers):
            modules |= _residual(f"down_blocks.{level}.resnets.{layer}", f"input_blocks.{block}.0")
            if attention:
                modules |= _transformer(f"down_blocks.{level}.attentions.{layer}", f"input_blocks.{block}.1")
            block += 1
        if level < len(attends) - 1:
            modules[f"down_blocks.{level}.downsamplers.0.conv"] = f"input_blocks.{block}.0.op"
            block += 1
    block = 0
    for level, attention in enumerate(reversed(attends)):
        for layer in range(layers + 1):
            modules |= _residual(f"up_blocks.{level}.resnets.{layer}", f"output_blocks.{block}.0")
            if attention:
                modules |= _transformer(f"up_blocks.{level}.attentions.{layer}", f"output_blocks.{block}.1")
            block += 1
        if level < len(attends) - 1:
            place = f"output_blocks.{block - 1}.{2 if attention else 1}.conv"
            modules[f"up_blocks.{level}.upsamplers.0.conv"] = place
    return modules


def _residual(ours: str, official: str) -> dict[str, str]:
    inner = {
        "norm1": "in_layers.0",
        "conv1": "in_layers.2",
        "time_emb_proj": "emb_layers.1",
        "norm2": "out_layers.0",
        "conv2": "out_layers.3",
        "conv_shortcut": "skip_connection",
    }
    spatial = {f"{ours}.spatial_res_block.{a}": f"{official}.{b}" for a, b in inner.items()}
    temporal = {f"{ours}.temporal_res_block.{a}": f"{official}.time_stack.{b}" for a, b in inner.items()}
    return spatial | temporal | {f"{ours}.time_mixer": f"{official}.time_mixer"}


def _transformer(ours: str, official: str) -> dict[str, str]:
    renamed = {
        "temporal_transformer_blocks": "time_stack",
        "time_pos_embed.linear_1": "time_pos_embed.0",
        "time_pos_embed.linear_2": "time_pos_embed.2",
    }
    kept = ("norm", "proj_in", "transformer_blocks", "time_mixer", "proj_out")
    return {f"{ours}.{a}": f"{official}.{b}" for a, b in renamed.items() | {(a, a) for a in kept}}


def _vae_half(side: str, levels: int, layers: int) -> dict[str, str]:
    """diffusers module -> official module of the encoder (``down``) or decoder (``up``).

    The official decoder numbers its levels from the output side.
    """
    inner = {
        "norm1": "norm1",
        "conv1": "conv1",
        "norm2": "norm2",
        "conv2": "conv2",
        "conv_shortcut": "nin_shortcut",
    }
    modules = {"conv_in": "conv_in", "conv_norm_out": "norm_out", "conv_out": "conv_out"}
    for i in (0, 1):
        modules |= {f"mid_block.resnets.{i}.{a}": f"mid.block_{i + 1}.{b}" for a, b in inner.items()}
    attention = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
    modules |= {f"mid_block.attentions.0.{a}": f"mid.attn_1.{b}" for a, b in attention.items()}
    sampler = {"down": "downsample", "up": "upsample"}[side]
    for level in range(levels):
        there = level if side == "down" else levels - 1 - level
        for layer in range(layers):
            place = f"{side}_blocks.{level}.resnets.{layer}"
            modules |= {f"{place}.{a}": f"{side}.{there}.block.{layer}.{b}" for a, b in inner.items()}
        modules[f"{side}_blocks.{level}.{sampler}rs.0.conv"] = f"{side}.{there}.{sampler}.conv"
    return modules
