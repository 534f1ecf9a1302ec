"""The same numbers as the released code, on random weights, in float32 on a CPU.

Those in tests/data always run; the others need the shared reference files. `pytest -s` prints the
differences reached.
"""

import numpy as np
import pytest
import sv3d_tiny
import torch
from PIL import Image
from safetensors.torch import load_file
from sv3d_tiny import build_unet, load, loop_error, numbers, part, run_chain, unet_error

from sv3d_pipe.orbit.conditioning import as_rgba
from sv3d_pipe.orbit.sv3d.photo_input import clip_pixels, photo_on_white

UNET, VAE, CLIP, LATENTS = 2e-5, 2e-5, 2e-6, 2e-4  # a wrong norm constant is above the first


def reached(what: str, difference: float, limit: float) -> None:
    print(f"\n{what}: {difference:.2g} (limit {limit:g})", end="")
    assert difference < limit


@pytest.mark.parametrize("case", ["a", "b"])
def test_unet_p(tiny_pipeline, case):
    reached(f"UNet p, {case}", unet_error(tiny_pipeline.unet, part(numbers(), f"unet.{case}.")), UNET)


@pytest.mark.parametrize(
    "file, case", [("golden_unet_u", "a"), ("golden_unet_u", "b"), ("golden_unet_topology", "b")]
)
def test_unet_u_and_other_topology(shared_dir, file, case):
    tensors = load_file(shared_dir / "sv3d" / f"{file}.safetensors")
    reached(f"{file}, {case}", unet_error(build_unet(tensors), part(tensors, f"io.{case}.")), UNET)


@torch.no_grad()
def test_vae(tiny_pipeline):
    numbers = part(sv3d_tiny.numbers(), "vae.")
    vae = tiny_pipeline.vae
    latent = vae.encode(numbers["image"]).latent_dist.mode()
    reached("photo's latent", (latent - numbers["cond_latent"]).abs().max().item(), VAE)
    decoded = vae.decode(numbers["decoder_latent"] / 0.18215).sample
    reached("decoded frames", (decoded - numbers["decoded"]).abs().max().item(), VAE)


@torch.no_grad()
def test_clip(tiny_pipeline):
    numbers = part(sv3d_tiny.numbers(), "clip.")
    token = tiny_pipeline.image_encoder(numbers["preprocessed"]).image_embeds[:, None]
    reached("CLIP token", (token - numbers["embedding"]).abs().max().item(), CLIP)


def test_clip_preprocessing(shared_dir):
    numbers = load_file(shared_dir / "sv3d" / "golden_clip.safetensors")
    image = numbers["io.image_u8"].float().permute(2, 0, 1)[None] / 255 * 2 - 1
    reached("CLIP preprocessing", (clip_pixels(image) - numbers["io.preprocessed"]).abs().max().item(), 2e-6)


def test_sampler_loop_p(tiny_pipeline):
    reached("loop p", loop_error(tiny_pipeline, part(numbers(), "loop.")), LATENTS)


def test_sampler_loop_u(shared_dir, tiny_u_folder):
    tensors = load_file(shared_dir / "sv3d" / "golden_sampler.safetensors")
    reached("loop u", loop_error(load(tiny_u_folder), part(tensors, "loop.u.")), LATENTS)


def test_chain_p(tiny_pipeline, monkeypatch):
    chain = part(numbers(), "chain.")
    latents = run_chain(tiny_pipeline, chain, monkeypatch, output_type="latent")
    reached("chain p, latents", (latents - chain["latents"]).abs().max().item(), LATENTS)


def test_chain_u(shared_dir, tiny_u_folder, monkeypatch):
    chain = part(load_file(shared_dir / "sv3d" / "golden_orbit_u.safetensors"), "")
    latents = run_chain(load(tiny_u_folder), chain, monkeypatch, output_type="latent")
    reached("chain u, latents", (latents - chain["latents"]).abs().max().item(), LATENTS)


def test_chain_frames(tiny_pipeline, monkeypatch):
    chain = part(numbers(), "chain.")
    frames = run_chain(tiny_pipeline, chain, monkeypatch, output_type="pt")
    expected = (chain["decoded"] / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)
    reached("chain p, frames", (frames - expected)[:-1].abs().max().item(), 1e-4)
    photo = (chain["image"][0].permute(1, 2, 0) + 1) / 2
    torch.testing.assert_close(frames[-1], photo)  # the photo takes the last frame's place


def test_chain_conditions(tiny_pipeline, monkeypatch):
    """Photo's latent, token and vector, conditional and not."""
    chain = part(numbers(), "chain.")
    calls = []
    tiny_pipeline.unet.register_forward_pre_hook(
        lambda module, args, kwargs: calls.append((args, kwargs)), with_kwargs=True
    )
    vectors = []
    tiny_pipeline.unet.add_embedding.register_forward_pre_hook(lambda module, args: vectors.append(args[0]))
    run_chain(tiny_pipeline, chain, monkeypatch, output_type="latent")
    sample, tokens = calls[0][0][0], calls[0][1]["encoder_hidden_states"]
    for row, name in enumerate(("uc", "c")):
        torch.testing.assert_close(sample[row, :, 4:], chain[f"{name}.concat"], rtol=0, atol=2e-5)
        torch.testing.assert_close(tokens[row], chain[f"{name}.crossattn"][0], rtol=0, atol=2e-6)
        torch.testing.assert_close(vectors[0][row], chain[f"{name}.vector"], rtol=0, atol=2e-6)


def placed(rgba: np.ndarray, ratio: float) -> np.ndarray:
    """The released script's square canvas around the object; without a ratio its side is the image height."""
    rows, columns = np.flatnonzero((rgba[..., 3] > 0).any(1)), np.flatnonzero((rgba[..., 3] > 0).any(0))
    box = rgba[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    side = int(max(box.shape[:2]) / ratio) if ratio > 0 else len(rgba)
    y, x = side // 2 - box.shape[0] // 2, side // 2 - box.shape[1] // 2
    canvas = np.zeros((side, side, 4), np.uint8)
    canvas[y : y + box.shape[0], x : x + box.shape[1]] = box
    return canvas


@pytest.mark.parametrize("case", ["square", "tall", "odd", "ratio09"])
def test_photo_on_white(shared_dir, case):
    numbers = load_file(shared_dir / "sv3d" / "golden_preprocess.safetensors")
    canvas = placed(numbers[f"{case}.rgba"].numpy(), float(numbers[f"{case}.ratio"]))
    ours = np.round(photo_on_white(as_rgba(canvas), 576) * 255).astype(np.int32)
    sums = ours.reshape(36, 16, 36, 16, 3).sum((1, 3))
    np.testing.assert_array_equal(sums, numbers[f"{case}.block_sums"].numpy())
    if case == "square":
        np.testing.assert_array_equal(ours, numbers["square.rgb"].numpy())


@pytest.mark.slow  # 100 seconds each on two cores; the chains above are the same in small
@pytest.mark.parametrize("model", ["p", "u"])
def test_the_released_script_end_to_end(shared_dir, tiny_folder, tiny_u_folder, model):
    """21 frames of 576 x 576 pixels, 3 steps, seed 23."""
    pipeline = load(tiny_folder if model == "p" else tiny_u_folder)
    pipeline.unet.register_to_config(sample_size=72)
    expected = load_file(shared_dir / "sv3d" / f"golden_script_{model}.safetensors")
    photo = load_file(shared_dir / "sv3d" / "golden_preprocess.safetensors")["square.rgba"].numpy()
    kept = []
    frames = pipeline(
        Image.fromarray(placed(photo, -1.0)),
        elevation_deg=expected["elevations_deg"].numpy(),
        num_inference_steps=3,
        generator=torch.Generator().manual_seed(23),
        callback_on_step_end=lambda pipe, i, t, tensors: kept.append(tensors["latents"]) or {},
    ).frames
    reached(f"script {model}, latents", (kept[-1] - expected["latents"]).abs().max().item(), LATENTS)
    script = ((frames * 2 - 1) + 1) / 2 * np.float32(255)  # its own road to bytes, which are cut, not rounded
    levels = script.astype(np.uint8).astype(np.int32)
    crop = np.abs(levels[:, 256:320, 256:320] - expected["video_centre_crop"].numpy().astype(np.int32))
    sums = levels.reshape(21, 36, 16, 36, 16, 3).sum((2, 4))
    block = np.abs(sums - expected["video_block_sums"].numpy())
    print(
        f"\nscript {model}, frames: {(crop > 0).mean():.2%} of values off by {crop.max()}, sums by {block.max()}"
    )
    assert (crop <= 1).mean() >= 0.99
    assert block.max() <= 16 * 16 * 0.05
