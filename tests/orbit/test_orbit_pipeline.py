import subprocess
import sys

import numpy as np
import pytest
import torch
from orbit_fakes import formula_pipeline, half_disc, vae_pipeline
from PIL import Image

from sv3d_pipe.orbit.mini.denoiser import VolumeDenoiser
from sv3d_pipe.orbit.mini.pixel_codec import PixelCodec
from sv3d_pipe.orbit.mini.pixel_pipeline import MiniPipeline
from sv3d_pipe.orbit.schedulers import euler_scheduler
from sv3d_pipe.orbit.sv3d.diffusion_pipeline import StableVideo3DPipeline
from sv3d_pipe.orbit.sv3d.unet import StableVideo3DUNet
from sv3d_pipe.pictures import resize_rgba


def seeded(n: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(n)


def tiny_volume_pipeline() -> MiniPipeline:
    torch.manual_seed(0)
    denoiser = VolumeDenoiser(
        size=16, grid=16, channels=(8, 16), width=32, depth=1, heads=2, ray_samples=8
    ).eval()
    pipeline = MiniPipeline(PixelCodec(16), denoiser, euler_scheduler())
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
        ({"solver": "magic"}, "solver"),
        ({"callback_on_step_end_tensor_inputs": ("secrets",)}, "secrets"),
        ({"elevation_deg": [1.0, 2.0]}, "broadcast"),
    ],
)
def test_bad_arguments_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        formula_pipeline()(half_disc(), **change)


def test_a_models_own_steps_and_guidance_are_kept(tmp_path):
    pipeline = formula_pipeline()
    assert (pipeline.config.steps, pipeline.config.guidance) == (50, 2.5)
    pipeline.register_to_config(steps=3, guidance=1.0)
    pipeline.save_pretrained(tmp_path)
    loaded = MiniPipeline.from_pretrained(tmp_path, low_cpu_mem_usage=False)
    loaded.set_progress_bar_config(disable=True)
    own = loaded(half_disc(), generator=seeded()).frames
    given = pipeline(half_disc(), num_inference_steps=3, max_guidance_scale=1.0, generator=seeded()).frames
    np.testing.assert_array_equal(own, given)
    assert len(loaded.unet.calls) == 3


@pytest.mark.parametrize("build", [formula_pipeline, tiny_volume_pipeline])
def test_save_and_load(tmp_path, build):
    pipeline = build()
    pipeline.save_pretrained(tmp_path)
    loaded = MiniPipeline.from_pretrained(tmp_path, use_safetensors=True, low_cpu_mem_usage=False)
    loaded.set_progress_bar_config(disable=True)
    assert loaded.depth is None and loaded.size == pipeline.size
    assert dict(loaded.scheduler.config)["sigma_max"] == 700.0
    call = {"num_inference_steps": 2, "azimuth_deg": np.array([90.0, 0.0])}
    before, after = (p(half_disc(), generator=seeded(), **call).frames for p in (pipeline, loaded))
    np.testing.assert_array_equal(before, after)
    assert not list(tmp_path.rglob("*.bin"))


def test_loading_needs_neither_transformers_nor_accelerate(tmp_path):
    tiny_volume_pipeline().save_pretrained(tmp_path)
    program = (
        "import importlib.util, sys\n"
        "hidden, find = ('transformers', 'accelerate', 'peft'), importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *rest: None if name in hidden else find(name, *rest)\n"
        "sys.modules.update(dict.fromkeys(hidden))\n"
        "from sv3d_pipe.orbit.store.load import load_pipeline\n"
        f"print(load_pipeline({str(tmp_path)!r}, 'cpu').size)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "16", done.stderr
    assert done.stderr == ""


def test_sv3d_u_paints_rgb_without_pose():
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
    assert named["added_time_ids"].shape == (2, 3, 3)
    tokens = named["encoder_hidden_states"]
    assert tokens.shape == (2, 1, 32) and not tokens[0].any() and tokens[1].any()


def test_photo_latent_of_a_vae_is_the_mode_and_unscaled():
    pipeline = vae_pipeline()
    photo = pipeline.encode_photo(half_disc(64), 10.0)
    rgba = torch.from_numpy(half_disc(64))
    white = (rgba[..., :3] * rgba[..., 3:] + 1 - rgba[..., 3:]).permute(2, 0, 1)[None] * 2 - 1
    mean = pipeline.vae.encode(white).latent_dist.mean
    torch.testing.assert_close(photo.latents, mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(pipeline.encode_frames(rgba[None]), mean * 0.18215, rtol=1e-3, atol=1e-4)


def test_sv3d_p_depends_on_the_poses_and_sv3d_u_does_not():
    for pose in (False, True):
        pipeline = vae_pipeline(pose)
        assert pipeline.takes_pose == pose
        call = {
            "azimuth_deg": np.array([120.0, 240.0, 0.0]),
            "num_inference_steps": 1,
            "output_type": "latent",
        }
        low, high = (
            pipeline(half_disc(), elevation_deg=e, generator=seeded(), **call).frames for e in (0.0, 60.0)
        )
        assert torch.equal(low, high) != pose


def test_a_model_with_a_vae_is_saved_and_loaded_in_its_own_classes(tmp_path):
    vae_pipeline(pose=True).save_pretrained(tmp_path)
    loaded = StableVideo3DPipeline.from_pretrained(tmp_path, image_encoder=None, low_cpu_mem_usage=False)
    assert type(loaded.unet) is StableVideo3DUNet and loaded.takes_pose
    assert (
        loaded.unet.conv_norm_out.eps == loaded.unet.mid_block.resnets[0].spatial_res_block.norm1.eps == 1e-5
    )


def test_frames_of_another_size():
    pipeline = vae_pipeline()
    assert pipeline.size_step == 16
    call = {"azimuth_deg": np.array([120.0, 0.0]), "num_inference_steps": 1}
    output = pipeline(half_disc(), size=96, generator=seeded(), **call)
    assert output.frames.shape == (2, 96, 96, 3)
    shapes = []
    pipeline.unet.register_forward_pre_hook(lambda module, args: shapes.append(args[0].shape))
    pipeline(half_disc(), size=32, **call)
    assert shapes == [(2, 2, 8, 4, 4)]


@pytest.mark.parametrize(
    "build, size, message", [(vae_pipeline, 72, "multiple of 16"), (formula_pipeline, 16, "must be 8")]
)
def test_sizes_that_do_not_work_are_named(build, size, message):
    with pytest.raises(ValueError, match=message):
        build()(half_disc(), size=size)


@pytest.mark.parametrize("pose", [False, True])
def test_guidance_one_half_after_the_other_gives_the_same_frames(pose):
    results, calls = [], []
    for together in (True, False):
        pipeline = vae_pipeline(pose)
        pipeline.guidance_together = together
        pipeline.unet.register_forward_pre_hook(lambda module, args: calls.append(len(args[0])))
        azimuth_deg = np.arange(1, 6) * 72.0
        call = {"num_inference_steps": 3, "output_type": "latent", "generator": seeded()}
        results.append(pipeline(half_disc(), azimuth_deg, **call).frames)
    assert calls == [2] * 3 + [1] * 6
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-4)


def test_unet_in_bfloat16_with_the_vae_in_float32_paints_nearly_the_same():
    plain, half = vae_pipeline(pose=True), vae_pipeline(pose=True)
    half.unet.to(torch.bfloat16)
    azimuth_deg = np.arange(1, 4) * 120.0
    a, b = (
        p(half_disc(), azimuth_deg, num_inference_steps=3, generator=seeded()).frames for p in (plain, half)
    )
    assert b.dtype == np.float32 and 0 < np.abs(a - b).mean() < 0.01


def test_chunks_of_frames_are_decoded_the_same():
    pipeline, latents = vae_pipeline(), torch.randn((5, 4, 8, 8), generator=seeded())
    sizes = []
    decode = pipeline.vae.decode
    pipeline.vae.decode = lambda z: sizes.append(len(z)) or decode(z)
    with torch.no_grad():
        one, several = (
            [setattr(pipeline, "frames_per_decode", n), pipeline.decode_frames(latents)][1] for n in (1, 3)
        )
    assert sizes == [1] * 5 + [3, 2]
    torch.testing.assert_close(one, several, rtol=0, atol=1e-5)


def test_leaving_frames_out_of_the_unconditional_pass_would_change_the_others():
    """First and last frame have guidance scale 1 and need no unconditional value, but frames attend to frames."""
    unet = vae_pipeline(pose=True).unet
    sample, token = torch.randn((1, 7, 8, 8, 8), generator=seeded()), torch.zeros(1, 1, 32)
    ids = torch.rand((1, 7, 3), generator=seeded(1))
    with torch.no_grad():
        whole = unet(sample, 0.5, token, ids)[0][:, 1:-1]
        part = unet(sample[:, 1:-1], 0.5, token, ids[:, 1:-1])[0]
    assert (whole - part).abs().max() > 1e-2 * whole.std()


def test_attention_is_pytorchs_fused_kernel():
    assert {type(p).__name__ for p in vae_pipeline().unet.attn_processors.values()} == {"AttnProcessor2_0"}


def test_noise_goes_on_the_picture_between_minus_one_and_one():
    pipeline = formula_pipeline(16)
    clean = pipeline.encode_photo(half_disc(), 10.0).latents
    noisy = pipeline.encode_photo(half_disc(), 10.0, 0.25, seeded(3)).latents
    torch.testing.assert_close(noisy - clean, 0.25 * torch.randn((1, 4, 16, 16), generator=seeded(3)))


def test_noise_on_the_photo_does_not_reach_the_token():
    pipeline = vae_pipeline()
    clean, noisy = (pipeline.encode_photo(half_disc(64), 10.0, noise, seeded(3)) for noise in (0.0, 0.5))
    assert torch.equal(clean.token, noisy.token)
    assert (clean.latents - noisy.latents).abs().max() > 1e-3
