"""The orbit on a CUDA device: the CPU's frames, and less memory without other frames. Skipped without one."""

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from orbit_fakes import half_disc, vae_pipeline

from sv3d_pipe.artifacts import Photo
from sv3d_pipe.config import OrbitConfig
from sv3d_pipe.device import give_back
from sv3d_pipe.orbit.memory_plan import Plan
from sv3d_pipe.orbit.paint import paint
from sv3d_pipe.orbit.sv3d import sv3d_painter
from sv3d_pipe.orbit.sv3d.sv3d_painter import channels_last
from sv3d_pipe.road.context import Context

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]
AZIMUTHS = np.arange(1, 8) * 360 / 7


@pytest.fixture(autouse=True)
def exact_products():
    """Without TensorFloat-32, which keeps 10 bits."""
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        before, torch.backends.cuda.matmul.allow_tf32 = torch.backends.cuda.matmul.allow_tf32, False
        yield
        torch.backends.cuda.matmul.allow_tf32 = before


@dataclass
class Talking(Context):
    said: list[str] = field(default_factory=list)

    def say(self, sentence: str) -> None:
        self.said.append(sentence)


def latents(pipeline, **settings) -> torch.Tensor:
    """Of three steps; the random numbers are drawn on the CPU."""
    call = {"num_inference_steps": 3, "output_type": "latent", "generator": torch.Generator().manual_seed(1)}
    return pipeline(half_disc(64), AZIMUTHS, **call | settings).frames.cpu()


@pytest.mark.parametrize("pose", [False, True])
def test_the_same_latents_as_on_the_cpu(pose):
    pipeline = vae_pipeline(pose)
    here = latents(pipeline)
    pipeline.adopt(Plan(), "cuda")
    torch.testing.assert_close(latents(pipeline), here, rtol=1e-3, atol=2e-3)
    channels_last(pipeline.unet)
    torch.testing.assert_close(latents(pipeline), here, rtol=1e-3, atol=2e-3)


def test_the_thriftiest_way_is_the_same_and_holds_one_model_at_a_time():
    pytest.importorskip("accelerate")
    pipeline = vae_pipeline(pose=True)
    pipeline.adopt(Plan(), "cuda")
    fast = latents(pipeline)
    pipeline.adopt(Plan(together=False, offload=True, chunk=1), "cuda")
    devices = []
    pipeline.vae.decoder.register_forward_pre_hook(lambda *_: devices.append(pipeline.unet.device.type))
    thrifty = latents(pipeline)
    frames = latents(pipeline, output_type="pt")
    torch.testing.assert_close(thrifty, fast, rtol=1e-3, atol=2e-3)
    assert frames.shape == (7, 64, 64, 3)
    assert set(devices) == {"cpu"}  # the UNet leaves before the VAE decodes
    assert pipeline.unet.device.type == pipeline.vae.device.type == "cpu"


def test_a_seed_gives_one_result_on_a_device(monkeypatch):
    monkeypatch.setattr(
        "sv3d_pipe.orbit.store.load.load_pipeline",
        lambda name, device, dtype: vae_pipeline(pose=True).to(device),
    )
    config = OrbitConfig(model="tiny", steps=2, guidance=2.5, dtype="float32")
    a, b = (paint(config, Photo(half_disc(64)), Context("cuda"))[0].rgba for _ in range(2))
    np.testing.assert_array_equal(a, b)


def reserved(config: OrbitConfig) -> int:
    give_back("cuda")
    torch.cuda.reset_peak_memory_stats()
    paint(config, Photo(half_disc(64)), Context("cuda"))
    return torch.cuda.max_memory_reserved()


def test_where_memory_is_capped_the_next_plan_is_taken(monkeypatch):
    """The cap lies between what the two ways of guidance reserve; the plan's estimate does not see it."""
    pipeline = vae_pipeline(pose=True).to("cuda")
    monkeypatch.setattr("sv3d_pipe.orbit.store.load.load_pipeline", lambda name, device, dtype: pipeline)
    settings = {"model": "tiny", "steps": 1, "guidance": 2.5, "dtype": "float32", "size": 512}
    # Guidance alone shall differ between the plans, so the VAE decodes one frame at a time in all.
    known = (Plan(chunk=1), Plan(together=False, chunk=1))
    monkeypatch.setattr(
        sv3d_painter, "candidates", lambda offload, low_vram=False: known[1:] if low_vram else known
    )
    fast, thrifty = (reserved(OrbitConfig(**settings, low_vram=low)) for low in (False, True))
    assert thrifty < 0.8 * fast
    expected = paint(OrbitConfig(**settings, low_vram=True), Photo(half_disc(64)), Context("cuda"))[0].rgba
    give_back("cuda")
    context = Talking("cuda")
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((fast + thrifty) / 2 / total)
    try:
        capped = paint(OrbitConfig(**settings), Photo(half_disc(64)), context)[0].rgba
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert any("trying again with one half of guidance after the other" in said for said in context.said)
    np.testing.assert_allclose(capped, expected, atol=1e-4)
