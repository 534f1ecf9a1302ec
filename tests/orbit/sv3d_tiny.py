"""A miniature sv3d-p in the original layout, with the numbers the released code made from it."""

import functools
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

import sv3d_pipe.orbit.denoising_pipeline as pipeline_module
import sv3d_pipe.orbit.sv3d.diffusion_pipeline as sv3d_module
from sv3d_pipe.orbit.denoising_pipeline import PhotoCondition
from sv3d_pipe.orbit.sv3d.convert import to_folder
from sv3d_pipe.orbit.sv3d.convert.conversion import to_ours
from sv3d_pipe.orbit.sv3d.convert.layout import HeadWidths, unet_config
from sv3d_pipe.orbit.sv3d.convert.names import unet_tensors
from sv3d_pipe.orbit.sv3d.diffusion_pipeline import StableVideo3DPipeline
from sv3d_pipe.orbit.sv3d.unet import StableVideo3DUNet

HEADS = HeadWidths(unet=16, clip=16)
WEIGHTS = ("model.", "conditioner.", "first_stage_model.")
FRAMES = 5


@functools.cache
def numbers() -> dict[str, torch.Tensor]:
    """``unet.a.*``, ``unet.b.*``, ``vae.*``, ``clip.*``, ``loop.*``, ``chain.*`` and all weights."""
    return load_file(Path(__file__).parents[1] / "data" / "sv3d_tiny.safetensors")


def weights(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key: value for key, value in tensors.items() if key.startswith(WEIGHTS)}


def write(path: Path, state: dict[str, torch.Tensor]) -> Path:
    save_file(state, path)
    return path


def part(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """The tensors under a prefix, in float32 unless they are angles."""
    found = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    return {k: v if v.dtype == torch.float64 else v.float() for k, v in found.items()}


def load(folder) -> StableVideo3DPipeline:
    """A converted miniature, painting 64 x 64 pixels."""
    pipeline = StableVideo3DPipeline.from_pretrained(folder, local_files_only=True)
    pipeline.unet.register_to_config(sample_size=8)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def build_unet(tensors: dict[str, torch.Tensor]) -> StableVideo3DUNet:
    """The UNet among official tensors."""
    config = unet_config({key: tuple(value.shape) for key, value in tensors.items()}, HEADS.unet)
    unet = StableVideo3DUNet(**config).eval()
    state = {
        t.name: to_ours(tensors[t.key].float(), t.change) for t in unet_tensors(config, unet.state_dict())
    }
    unet.load_state_dict(state)
    return unet


@torch.no_grad()
def unet_error(unet: StableVideo3DUNet, case: dict[str, torch.Tensor]) -> float:
    """Largest difference from the released code; rows are (video, frame)."""
    videos = {
        name: value.unflatten(0, (2, FRAMES)) for name, value in case.items() if len(value) == 2 * FRAMES
    }
    ids = [videos[name] for name in ("cond_aug", "polars_rad", "azimuths_rad") if name in videos]
    velocity = unet(
        torch.cat([videos["x"], videos["concat"]], 2),
        case["c_noise"][0],
        videos["context"][:, 0],
        torch.stack(ids, -1),
    )[0]
    return (velocity - videos["output"]).abs().max().item()


@torch.no_grad()
def loop_error(pipeline: StableVideo3DPipeline, loop: dict[str, torch.Tensor]) -> float:
    """Largest difference of the latents after five sampling steps from given conditions."""
    photo = PhotoCondition(loop["concat"][:1], loop["crossattn"][:1])
    ids = torch.stack(
        [
            torch.full((FRAMES,), 1e-5),
            loop.get("polars_rad", torch.zeros(FRAMES)).float(),
            loop.get("azimuths_rad", torch.zeros(FRAMES)).float(),
        ],
        -1,
    )
    scheduler = pipeline.scheduler
    scheduler.set_timesteps(5)
    scales = pipeline_module.triangle_scales(FRAMES, 2.5)
    x = loop["noise"] * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        velocity = pipeline.predict_velocity(scheduler.scale_model_input(x, t), t, photo, ids, scales)
        x = scheduler.step(velocity, t, x).prev_sample
    return (x - loop["latents"]).abs().max().item()


def run_chain(pipeline: StableVideo3DPipeline, chain: dict[str, torch.Tensor], monkeypatch, **options):
    """The pipeline on the chain's picture and with its random draws: latents [5, 4, 8, 8] or frames."""
    draws = iter([chain["image_noise"], chain["noise"]])

    def drawn(shape, **_):
        noise = next(draws)
        assert tuple(shape) == tuple(noise.shape)
        return noise

    picture = (chain["image"][0].permute(1, 2, 0).numpy() + 1) / 2
    monkeypatch.setattr(pipeline_module, "randn_tensor", drawn)
    monkeypatch.setattr(sv3d_module, "photo_on_white", lambda rgba, size: picture)
    return pipeline(
        np.ones((64, 64, 4), np.float32),
        chain["azimuths_rad"].rad2deg().numpy(),
        90 - chain["polars_rad"].rad2deg().numpy(),
        num_inference_steps=5,
        **options,
    ).frames


def converted(state: dict[str, torch.Tensor], folder: Path, **options) -> str:
    """Convert an original checkpoint of these tensors to ``folder / "out"``, in float32."""
    path = write(folder / "model.safetensors", state)
    return to_folder(path, folder / "out", "fp32", heads=HEADS, **options)
