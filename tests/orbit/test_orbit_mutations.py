"""Five well-known mistakes, each far outside the limits that the comparison with the released code sets."""

import pytest
import sv3d_tiny
import torch
from diffusers.models.resnet import ResnetBlock2D, TemporalResnetBlock
from sv3d_tiny import loop_error, numbers, part, run_chain, unet_error
from test_orbit_goldens import LATENTS, UNET, VAE

import sv3d_pipe.orbit.denoising_pipeline as pipeline_module


@pytest.mark.parametrize("case", ["a", "b"])
def test_norm_constant_of_the_stock_blocks(tiny_pipeline, case):
    for name, block in tiny_pipeline.unet.named_modules():
        if isinstance(block, (ResnetBlock2D, TemporalResnetBlock)) and not name.startswith("mid_block"):
            block.norm1.eps = block.norm2.eps = 1e-6
    assert unet_error(tiny_pipeline.unet, part(numbers(), f"unet.{case}.")) > UNET


def test_polar_and_azimuth_swapped(tiny_pipeline):
    case = part(numbers(), "unet.a.")
    case["polars_rad"], case["azimuths_rad"] = case["azimuths_rad"], case["polars_rad"]
    assert unet_error(tiny_pipeline.unet, case) > 1000 * UNET


@torch.no_grad()
def test_image_latent_scaled(tiny_pipeline, monkeypatch):
    chain = part(numbers(), "chain.")
    encode = tiny_pipeline.encode_photo

    def scaled(*args, **options):
        photo = encode(*args, **options)
        return pipeline_module.PhotoCondition(photo.latents * 0.18215, photo.token)

    monkeypatch.setattr(tiny_pipeline, "encode_photo", scaled)
    latents = run_chain(tiny_pipeline, chain, monkeypatch, output_type="latent")
    assert (latents - chain["latents"]).abs().max() > 1000 * LATENTS


def test_guidance_peaks_one_frame_early(tiny_pipeline, monkeypatch):
    """The scale of a widely used port: the first value of each half is dropped."""
    right = pipeline_module.triangle_scales
    monkeypatch.setattr(
        pipeline_module, "triangle_scales", lambda n, top: torch.cat([right(n, top)[1:], right(n, top)[-1:]])
    )
    assert loop_error(tiny_pipeline, part(numbers(), "loop.")) > 100 * LATENTS


def test_unconditional_vector_zeroed(tiny_pipeline):
    loop = part(numbers(), "loop.")

    def forget(module, args):
        vector = args[0].clone()
        vector[0] = 0  # the unconditional video comes first
        return vector

    tiny_pipeline.unet.add_embedding.register_forward_pre_hook(forget)
    assert loop_error(tiny_pipeline, loop) > 100 * LATENTS


def test_the_unmutated_model_passes(tiny_pipeline):
    """Guards the five tests above: with nothing changed the errors are within the limits."""
    assert unet_error(tiny_pipeline.unet, part(numbers(), "unet.a.")) < UNET
    assert loop_error(tiny_pipeline, part(numbers(), "loop.")) < LATENTS
    vae = part(sv3d_tiny.numbers(), "vae.")
    with torch.no_grad():
        latent = tiny_pipeline.vae.encode(vae["image"]).latent_dist.mode()
    assert (latent - vae["cond_latent"]).abs().max() < VAE
    assert (latent * 0.18215 - vae["cond_latent"]).abs().max() > 1000 * VAE
