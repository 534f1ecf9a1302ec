import subprocess
import sys

import numpy as np
import pytest
import torch
from orbit_fakes import formula_pipeline, half_disc, vae_pipeline
from PIL import Image

from sv3d_pipe.artifacts import resize_rgba
from sv3d_pipe.orbit.pipeline import StableVideo3DPipeline, euler_scheduler
from sv3d_pipe.orbit.pixels import PixelCodec
from sv3d_pipe.orbit.volume import VolumeDenoiser


def seeded(n: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(n)


def tiny_volume_pipeline() -> StableVideo3DPipeline:
    torch.manual_seed(0)
    denoiser = VolumeDenoiser(
        size=16, grid=16, channels=(8, 16), width=32, depth=1, heads=2, ray_samples=8
    ).eval()
    pipeline = StableVideo3DPipeline(PixelCodec(16), denoiser, euler_scheduler())
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def test_last_frame_is_the_photo_and_the_models_own_is_kept():
    pipeline = formula_pipeline()
    output = pipeline(half_disc(), num_inference_steps=3, generator=seeded())
    assert output.frames.shape == (21, 8, 8, 4)
    np.testing.assert_allclose(output.frames[-1], resize_rgba(half_disc(), 8), atol=1e-6)
    latents = pipeline(half_disc(), num_inference_steps=3, generator=seeded(), output_type="latent").frames
    own = pipeline.decode_frames(latents)[-1].numpy()
    np.testing.assert_allclose(output.own_last_frame, own, atol=1e-6)
    assert np.abs(own - output.frames[-1]).max() > 0.05


def test_output_types_agree():
    pipeline = formula_pipeline()
    call = {"num_inference_steps": 2, "azimuth_deg": np.array([180.0, 0.0])}
    arrays = pipeline(half_disc(), generator=seeded(), **call).frames
    tensors = pipeline(half_disc(), generator=seeded(), output_type="pt", **call).frames
    pictures, own = pipeline(half_disc(), generator=seeded(), output_type="pil", return_dict=False, **call)
    np.testing.assert_array_equal(arrays, tensors.numpy())
    assert [p.mode for p in pictures] == ["RGBA", "RGBA"] and own.size == (8, 8)
    assert np.abs(np.asarray(pictures[0]) / 255 - arrays[0]).max() <= 0.5 / 255 + 1e-6


def test_pil_bytes_and_floats_are_the_same_photo():
    pipeline = formula_pipeline()
    data = (half_disc() * 255).astype(np.uint8)
    results = [
        pipeline(image, num_inference_steps=2, generator=seeded()).frames
        for image in (data, Image.fromarray(data), half_disc())
    ]
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_allclose(results[0], results[2], atol=1e-6)


def test_same_generator_same_frames_and_no_global_randomness():
    pipeline = formula_pipeline()
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first, again, other = (
        pipeline(half_disc(), num_inference_steps=2, generator=seeded(n)).frames for n in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other)[:-1].max() > 1e-3
    assert torch.equal(before, torch.random.get_rng_state())


def test_callback_sees_every_step_and_may_change_the_latents():
    pipeline = formula_pipeline()
    seen = []

    def replace(pipe, i, t, tensors):
        seen.append((i, float(t), sorted(tensors)))
        return {"latents": torch.zeros_like(tensors["latents"])}

    output = pipeline(
        half_disc(),
        num_inference_steps=4,
        output_type="latent",
        callback_on_step_end=replace,
        callback_on_step_end_tensor_inputs=("latents", "denoised"),
    )
    assert [s[0] for s in seen] == [0, 1, 2, 3]
    assert seen[0][1] == pytest.approx(np.log(700) / 4, rel=1e-5)
    assert seen[0][2] == ["denoised", "latents"]
    assert not output.frames.any()


def test_denoised_of_the_last_step_is_the_result():
    pipeline = formula_pipeline()
    denoised = []
    output = pipeline(
        half_disc(),
        num_inference_steps=3,
        output_type="latent",
        callback_on_step_end=lambda pipe, i, t, tensors: denoised.append(tensors["denoised"]) or {},
        callback_on_step_end_tensor_inputs=("denoised",),
    )
    torch.testing.assert_close(denoised[-1], output.frames, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"num_inference_steps": 0}, "num_inference_steps"),
        ({"max_guidance_scale": 0.5}, "max_guidance_scale"),
        ({"output_type": "gif"}, "output_type"),
        ({"callback_on_step_end_tensor_inputs": ("secrets",)}, "secrets"),
        ({"elevation_deg": [1.0, 2.0]}, "broadcast"),
    ],
)
def test_bad_arguments_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        formula_pipeline()(half_disc(), **change)


@pytest.mark.parametrize("build", [formula_pipeline, tiny_volume_pipeline])
def test_save_and_load(tmp_path, build):
    pipeline = build()
    pipeline.save_pretrained(tmp_path)
    loaded = StableVideo3DPipeline.from_pretrained(tmp_path, use_safetensors=True, low_cpu_mem_usage=False)
    loaded.set_progress_bar_config(disable=True)
    assert loaded.image_encoder is None and loaded.size == pipeline.size
    assert dict(loaded.scheduler.config)["sigma_max"] == 700.0
    call = {"num_inference_steps": 2, "azimuth_deg": np.array([90.0, 0.0])}
    before, after = (p(half_disc(), generator=seeded(), **call).frames for p in (pipeline, loaded))
    np.testing.assert_array_equal(before, after)
    assert not list(tmp_path.rglob("*.bin"))


def test_loading_needs_neither_transformers_nor_accelerate(tmp_path):
    tiny_volume_pipeline().save_pretrained(tmp_path)
    program = (
        "import sys\n"
        "sys.modules['transformers'] = sys.modules['accelerate'] = None\n"
        "from sv3d_pipe.orbit.models import load_pipeline\n"
        f"print(load_pipeline({str(tmp_path)!r}, 'cpu').size)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "16", done.stderr
    assert done.stderr == ""


def test_stock_unet_and_vae_paint_rgb_without_pose():
    pipeline = vae_pipeline()
    calls = []
    pipeline.unet.register_forward_pre_hook(
        lambda module, args, kwargs: calls.append((args[0], kwargs)), with_kwargs=True
    )
    assert not pipeline.takes_pose and not pipeline.paints_alpha and pipeline.size == 64
    output = pipeline(
        half_disc(), azimuth_deg=np.array([120.0, 240.0, 0.0]), num_inference_steps=2, generator=seeded()
    )
    assert output.frames.shape == (3, 64, 64, 3)
    sample, named = calls[0]
    assert sample.shape == (2, 3, 8, 8, 8)
    assert named["added_time_ids"].tolist() == [[pytest.approx(1e-5)]] * 2
    tokens = named["encoder_hidden_states"]
    assert tokens.shape == (2, 1, 32) and not tokens[0].any() and tokens[1].any()


def test_photo_latent_of_a_vae_is_the_mode_and_unscaled():
    pipeline = vae_pipeline()
    photo = pipeline.encode_photo(half_disc(64))
    rgba = torch.from_numpy(half_disc(64))
    white = (rgba[..., :3] * rgba[..., 3:] + 1 - rgba[..., 3:]).permute(2, 0, 1)[None] * 2 - 1
    mean = pipeline.vae.encode(white).latent_dist.mean
    torch.testing.assert_close(photo.latents, mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(pipeline.encode_frames(rgba[None]), mean * 0.18215, rtol=1e-3, atol=1e-4)


def test_stock_unet_of_the_posed_layout_is_refused():
    with pytest.raises(ValueError, match="pose per frame"):
        vae_pipeline(pose=True)


def test_noise_goes_on_the_picture_between_minus_one_and_one():
    pipeline = formula_pipeline(16)
    clean = pipeline.encode_photo(half_disc()).latents
    noisy = pipeline.encode_photo(half_disc(), 0.25, seeded(3)).latents
    torch.testing.assert_close(noisy - clean, 0.25 * torch.randn((1, 4, 16, 16), generator=seeded(3)))


def test_noise_on_the_photo_does_not_reach_the_token():
    pipeline = vae_pipeline()
    clean, noisy = (pipeline.encode_photo(half_disc(64), noise, seeded(3)) for noise in (0.0, 0.5))
    assert torch.equal(clean.token, noisy.token)
    assert (clean.latents - noisy.latents).abs().max() > 1e-3
