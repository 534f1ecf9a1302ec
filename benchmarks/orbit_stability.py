"""Stability's sampling code for benchmarks/orbit.py, called through its own API.

None of its code is kept here: it is imported from where the user has it.
"""

from __future__ import annotations

import importlib.util
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from orbit_contenders import COND_AUG, autocast, fill, importable, photo, poses
from orbit_watch import Contender, Task

CHUNK = 14  # frames per decode, the default of its script


def stability(task: Task) -> Contender:
    """Stability's sampling code with its own settings of sv3d_p, float32 weights under autocast."""
    with importable(task.stability, "--stability", "Stability-AI/generative-models"):
        from sgm.util import instantiate_from_config
    settings, remark = _stability_settings(task)
    with torch.device(task.device):
        model = instantiate_from_config(settings).to(task.device).eval()
    fill(model)
    chunk = model.en_and_decode_n_samples_a_time = 1 if task.low_vram else CHUNK

    @torch.no_grad()
    def paint(steps: int) -> np.ndarray:
        model.sampler.num_steps = steps
        with autocast(task, task.dtype != "float32"):
            return _stability_orbit(model, task)

    weights = sum(p.numel() for p in model.model.parameters()), sum(p.numel() for p in model.parameters())
    remark = (
        f"weights in float32, computes in {task.dtype}; image decoder, frames per decode: {chunk}; {remark}"
    )
    return Contender(paint, model.model, (model, "decode_first_stage"), weights, remark)


def _stability_settings(task: Task) -> tuple[Any, str]:
    """Its settings file with our widths and without a checkpoint; and which attention it uses."""
    from omegaconf import OmegaConf

    unet, vae, clip = (task.network[name] for name in ("unet", "vae", "image_encoder"))
    settings = OmegaConf.load(Path(task.stability, "scripts/sampling/configs/sv3d_p.yaml")).model
    parts = settings.params
    parts.ckpt_path = None
    fused = importlib.util.find_spec("xformers") is not None  # else its own other choice of attention

    network = parts.network_config.params
    network.model_channels = unet["block_out_channels"][0]
    network.channel_mult = _multiples(unet)
    network.num_res_blocks = unet["layers_per_block"]
    network.num_head_channels = unet["block_out_channels"][0] // unet["num_attention_heads"][0]
    network.context_dim = clip["projection_dim"]
    if not fused:
        network.spatial_transformer_attn_type = "softmax"

    image, latent = (embedder.params for embedder in parts.conditioner_config.params.emb_models[:2])
    embedding = image.open_clip_embedding_config.params
    embedding.arch, embedding.version, embedding.init_device = _open_clip(clip), None, task.device
    for coder in (
        latent.encoder_config.params.ddconfig,
        parts.first_stage_config.params.decoder_config.params,
    ):
        coder.ch, coder.ch_mult = vae["block_out_channels"][0], _multiples(vae)
        coder.num_res_blocks = vae["layers_per_block"]
        if not fused:
            coder.attn_type = "vanilla"

    sampler = parts.sampler_config.params
    sampler.num_steps, sampler.verbose, sampler.device = task.steps, False, task.device
    guider = sampler.guider_config.params
    guider.num_frames, guider.max_scale = task.frames, task.guidance
    return settings, "attention by " + ("xformers" if fused else "PyTorch, for xformers is not installed")


def _open_clip(clip: dict[str, Any]) -> str:
    """Make an image tower known to open_clip; the text tower, which is thrown away, is tiny."""
    import open_clip

    vision = {
        "image_size": 224,
        "layers": clip["num_hidden_layers"],
        "width": clip["hidden_size"],
        "head_width": clip["hidden_size"] // clip["num_attention_heads"],
        "patch_size": clip["patch_size"],
        "mlp_ratio": clip["intermediate_size"] / clip["hidden_size"],
    }
    text = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "random-tower.json")
        path.write_text(
            json.dumps({"embed_dim": clip["projection_dim"], "vision_cfg": vision, "text_cfg": text})
        )
        open_clip.add_model_config(path)
    return path.stem


def _stability_orbit(model: torch.nn.Module, task: Task) -> np.ndarray:
    """[T, S, S, 3]: the calls of its API in the order in which its script makes them."""
    frames, device = task.frames, task.device
    picture = torch.from_numpy(photo(task.size)[..., :3]).permute(2, 0, 1)[None].to(device) * 2 - 1
    polar, azimuth = (torch.from_numpy(angle).float().to(device) for angle in poses(task))
    batch = {
        "cond_frames_without_noise": picture,
        "cond_frames": picture + COND_AUG * torch.randn_like(picture),
        "cond_aug": torch.full((frames,), COND_AUG, device=device),
        "polars_rad": polar,
        "azimuths_rad": azimuth,
    }
    pair = model.conditioner.get_unconditional_conditioning(
        batch, batch_uc=dict(batch), force_uc_zero_embeddings=["cond_frames", "cond_frames_without_noise"]
    )
    for condition in pair:
        for name in ("crossattn", "concat"):
            condition[name] = condition[name].repeat_interleave(frames, 0)
    extra = {
        "image_only_indicator": torch.zeros(2, frames, device=device),
        "num_video_frames": frames,
    }
    noise = torch.randn(frames, 4, task.size // 8, task.size // 8, device=device)
    latents = model.sampler(
        lambda x, sigma, condition: model.denoiser(model.model, x, sigma, condition, **extra),
        noise,
        cond=pair[0],
        uc=pair[1],
    )
    video = model.decode_first_stage(latents)
    video[-1:] = picture
    return ((video.float() + 1) / 2).clamp(0, 1).permute(0, 2, 3, 1).cpu().numpy()


def _multiples(settings: dict[str, Any]) -> list[int]:
    widths = settings["block_out_channels"]
    return [width // widths[0] for width in widths]
