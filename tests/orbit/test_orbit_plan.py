"""Memory plans: arithmetic by hand, the choice, and what happens when memory runs out all the same."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from orbit_fakes import FormulaDenoiser, formula_pipeline, half_disc, vae_pipeline

from sv3d_pipe.artifacts import Photo
from sv3d_pipe.config import OrbitConfig
from sv3d_pipe.errors import UserError
from sv3d_pipe.orbit import memory_plan as plan_module
from sv3d_pipe.orbit.memory_plan import Load, Plan, candidates, first_that_fits, that_fit
from sv3d_pipe.orbit.mini.mini_painter import MiniPainter
from sv3d_pipe.orbit.paint import paint, prior_loader
from sv3d_pipe.orbit.store.load import load_model
from sv3d_pipe.orbit.sv3d import sv3d_painter
from sv3d_pipe.orbit.sv3d.sv3d_painter import SV3DPainter, load_of, released_load
from sv3d_pipe.road.context import Context

GB = 10**9


@pytest.fixture(autouse=True)
def no_collection(monkeypatch):
    """What a failed attempt held must be gone without a garbage collection, which takes its time."""
    monkeypatch.setattr(plan_module, "give_back", lambda device: None)


# sv3d-p: parameters of FACTS, UNet and CLIP in two bytes, VAE in four; maps of 320 and 128 channels.
FULL = Load(
    unet=2 * 1_525_278_442,
    vae=4 * 83_653_843,
    encoder=2 * 632_076_800,
    half=28 * 21 * 72**2 * 320 * 2,
    decode=6 * 576**2 * 128 * 4,
    tile=6 * 256**2 * 128 * 4,
    encode=25 * 576**2 * 128 * 4,
)


def out_of_memory(*_, **__):
    raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def test_load_of_a_small_model_by_hand():
    pipeline = vae_pipeline()
    load = load_of(pipeline, frames=5, size=96)
    assert load.unet == 4 * sum(p.numel() for p in pipeline.unet.parameters())
    assert load.half == 28 * 5 * 12 * 12 * 64 * 4  # latents of 12 x 12, 64 channels of four bytes
    assert load.decode == load.tile == 6 * 96 * 96 * 8 * 4  # smaller than a tile


def test_the_released_load_needs_no_weights():
    assert released_load(frames=21, size=576, itemsize=2) == FULL


def test_peak_by_hand():
    load = Load(unet=1000, vae=100, encoder=300, half=200, decode=500, tile=50)
    assert Plan().peak(load) == 1400 + 1.3 * 2000  # four frames in the VAE
    assert Plan(chunk=1).peak(load) == 1400 + 1.3 * 500
    assert Plan(chunk=1, together=False, tiled=True).peak(load) == 1400 + 1.3 * 200
    assert Plan(chunk=1, together=False, offload=True).peak(load) == 1100 + 1.3 * 200
    assert Plan(chunk=4, together=False, offload=True).peak(load) == 100 + 1.3 * 2000


def test_full_size_fits_24_gb_by_default_and_12_gb_with_low_vram():
    assert candidates(offload=True)[0].peak(FULL) < 24 * GB
    assert candidates(offload=True, low_vram=True)[0].peak(FULL) < 12 * GB


@pytest.mark.parametrize("offload", [True, False])
def test_each_plan_is_thriftier_than_the_one_before(offload):
    known = candidates(offload)
    peaks = [plan.peak(FULL) for plan in known]
    assert peaks == sorted(peaks, reverse=True) and len(set(known)) == len(known)
    assert [plan.tiled for plan in known] == [False] * (len(known) - 1) + [True]
    assert any(plan.offload for plan in known) == offload


def test_the_fastest_plan_that_fits_comes_first_and_the_thriftiest_is_always_left():
    known = candidates(offload=True)
    peaks = [plan.peak(FULL) for plan in known]
    assert that_fit(known, FULL, 80 * GB) == known
    assert that_fit(known, FULL, peaks[2]) == known[2:]
    assert that_fit(known, FULL, peaks[2] - 1) == known[3:]
    assert that_fit(known, FULL, 1) == known[-1:]


def test_plans_follow_the_free_memory(monkeypatch):
    pipeline = vae_pipeline()
    painter = SV3DPainter(pipeline)
    plans = painter.plans
    config, thrifty = (
        painter.settled(OrbitConfig(model="tiny", low_vram=low_vram)) for low_vram in (False, True)
    )
    free = {}
    monkeypatch.setattr(sv3d_painter, "free_bytes", lambda device: free["bytes"])
    load = load_of(pipeline, 21, 64)
    free["bytes"] = 10 * GB
    assert plans(config, "cpu", 21) == candidates(offload=False)
    free["bytes"] = int(1.3 * 2 * load.half) + 1  # the weights are in memory already
    assert plans(config, "cpu", 21)[0].together
    free["bytes"] = int(1.3 * 2 * load.half) - 1
    assert not plans(config, "cpu", 21)[0].together
    assert not plans(thrifty, "cpu", 21)[0].together
    free["bytes"] = int(1.3 * max(2 * load.half, load.encode)) - 1  # one after the other, not at once
    assert not plans(config, "cpu", 21, with_gradient=True)[0].together
    free["bytes"] += 2
    assert plans(config, "cpu", 21, with_gradient=True)[0].together


def test_low_vram_without_accelerate_says_what_to_install(monkeypatch):
    monkeypatch.setattr(sv3d_painter, "is_accelerate_available", lambda: False)
    monkeypatch.setattr(sv3d_painter, "free_bytes", lambda device: 10 * GB)
    painter = SV3DPainter(vae_pipeline())
    assert not any(p.offload for p in painter.plans(OrbitConfig(size=64), "cuda", 21))
    with pytest.raises(UserError, match="pip install accelerate"):
        painter.plans(OrbitConfig(size=64, low_vram=True), "cuda", 21)


def test_mini_has_but_half_of_guidance_to_win():
    plans = MiniPainter(formula_pipeline()).plans
    assert plans(OrbitConfig(), "cpu", 21) == (Plan(), Plan(together=False))
    assert plans(OrbitConfig(low_vram=True), "cpu", 21) == (Plan(together=False),)


def test_adopt_sets_up_and_takes_back():
    pipeline = vae_pipeline()
    pipeline.adopt(Plan(together=False, chunk=1, tiled=True), "cpu")
    assert not pipeline.guidance_together and pipeline.frames_per_decode == 1
    latents = torch.randn((1, 4, 64, 64), generator=torch.Generator().manual_seed(0))
    calls = []
    hook = pipeline.vae.decoder.register_forward_pre_hook(
        lambda module, args: calls.append(args[0].shape[-1])
    )
    with torch.no_grad():
        tiled = pipeline.decode_frames(latents)
        assert len(calls) == 9 and max(calls) == 32
        pipeline.adopt(Plan(), "cpu")
        hook.remove()
        whole = pipeline.decode_frames(latents)
    assert pipeline.guidance_together and pipeline.frames_per_decode == 4
    assert 0 < (tiled - whole).abs().max() and tiled.shape == whole.shape


def test_offloaded_modules_wait_for_each_other_and_paint_the_same():
    pytest.importorskip("accelerate")
    pipeline = vae_pipeline()
    call = {"azimuth_deg": np.array([90.0, 0.0]), "num_inference_steps": 1}
    pipeline.adopt(Plan(offload=True), "cpu")
    hooks = {name: pipeline.components[name]._hf_hook for name in ("image_encoder", "unet", "vae")}
    assert hooks["vae"].prev_module_hook.model is pipeline.unet  # which leaves when the VAE is asked to work
    assert hooks["unet"].prev_module_hook.model is pipeline.image_encoder
    frames = pipeline(half_disc(), generator=torch.Generator().manual_seed(0), **call).frames
    pipeline.adopt(Plan(), "cpu")
    assert not hasattr(pipeline.unet, "_hf_hook")
    again = pipeline(half_disc(), generator=torch.Generator().manual_seed(0), **call).frames
    np.testing.assert_array_equal(frames, again)


def test_the_next_plan_is_tried_only_when_memory_runs_out():
    known, said, tried = candidates(offload=True), [], []

    def attempt(plan):
        tried.append(plan)
        return plan if plan.offload else out_of_memory()

    assert first_that_fits(known, attempt, "cpu", said.append) == known[3]
    assert tried == list(known[:4]) and len(said) == 3
    assert said[0] == f"The memory of cpu was not enough; trying again with {known[1]}."
    with pytest.raises(ZeroDivisionError):
        first_that_fits(known, lambda plan: 1 / 0, "cpu", said.append)


def test_when_no_plan_is_left_one_sentence_says_so():
    with pytest.raises(UserError, match="smaller orbit.size") as caught:
        first_that_fits(candidates(True), out_of_memory, "cuda", lambda sentence: None)
    assert "\n" not in str(caught.value)


def test_tensors_of_a_failed_attempt_are_gone_before_the_next():
    class Witness:
        alive = 0

        def __init__(self):
            Witness.alive += 1

        def __del__(self):
            Witness.alive -= 1

    seen = []

    def attempt(plan):
        witness = Witness()  # stands for a tensor in a frame of the traceback
        seen.append(Witness.alive)
        return out_of_memory() if plan.together else witness

    first_that_fits(candidates(True), attempt, "cpu", lambda sentence: None)
    assert seen == [1, 1, 1]


def test_paint_tries_again_with_the_same_random_numbers(tmp_path, monkeypatch):
    formula_pipeline().save_pretrained(tmp_path)
    forward = FormulaDenoiser.forward
    monkeypatch.setattr(
        FormulaDenoiser,
        "forward",
        lambda self, sample, *args, **kw: (
            out_of_memory() if len(sample) == 2 else forward(self, sample, *args, **kw)
        ),
    )
    config = {"model": str(tmp_path), "steps": 3, "guidance": 2.5}
    said = []
    context = Context(seed=4, say=said.append)
    retried = paint(OrbitConfig(**config), Photo(half_disc()), context)[0]
    thrifty = paint(OrbitConfig(**config, low_vram=True), Photo(half_disc()), Context(seed=4))[0]
    np.testing.assert_array_equal(retried.rgba, thrifty.rgba)
    assert len(said) == 1 and "one half of guidance after the other" in said[0]
    monkeypatch.setattr(FormulaDenoiser, "forward", out_of_memory)
    with pytest.raises(UserError, match="not enough"):
        paint(OrbitConfig(**config), Photo(half_disc()), Context())


def test_paint_says_its_plan_in_one_line(monkeypatch):
    monkeypatch.setattr(
        "sv3d_pipe.orbit.store.load.load_pipeline", lambda name, device, dtype: vae_pipeline()
    )
    said = []
    context = Context(say=said.append)
    views, metrics = paint(
        OrbitConfig(model="tiny", steps=1, size=96, low_vram=True), Photo(half_disc()), context
    )
    assert said[0] == f"Plan: UNet in float32 on cpu, {candidates(False, True)[0]}."
    assert sum("Plan" in sentence for sentence in said) == 1
    assert views.rgba.shape == (21, 96, 96, 4) and metrics["size"] == 96
    with pytest.raises(UserError, match="multiple of 16"):
        paint(OrbitConfig(model="tiny", size=100), Photo(half_disc()), context)


def test_prior_shares_plan_and_size(monkeypatch):
    pipeline = vae_pipeline()
    monkeypatch.setattr("sv3d_pipe.orbit.store.load.load_pipeline", lambda name, device, dtype: pipeline)
    config = OrbitConfig(model="tiny", size=32, low_vram=True)
    with prior_loader(config, Photo(half_disc()), Context()) as load_prior:
        prior = load_prior()
    assert prior.size == 32 and prior.condition.latents.shape == (1, 4, 4, 4)
    assert not pipeline.guidance_together and pipeline.frames_per_decode == 1


def test_a_prior_that_does_not_fit_gives_way_to_a_more_economical_one(monkeypatch):
    pipeline, said = vae_pipeline(), []
    monkeypatch.setattr("sv3d_pipe.orbit.store.load.load_pipeline", lambda name, device, dtype: pipeline)
    config, photo = OrbitConfig(model="tiny"), Photo(half_disc())
    with prior_loader(config, photo, Context(say=said.append)) as load_prior:
        assert load_prior().pipeline.guidance_together and not said
        assert not load_prior().pipeline.guidance_together
        assert said == [
            "The memory of cpu was not enough; distilling with " + str(candidates(False, True)[0]) + "."
        ]
        with pytest.raises(UserError, match="not enough"):
            load_prior()
    encode, calls = pipeline.encode_photo, []

    def too_large_together(*args, **options):
        calls.append(pipeline.guidance_together)
        if pipeline.guidance_together:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        return encode(*args, **options)

    monkeypatch.setattr(pipeline, "encode_photo", too_large_together)
    with prior_loader(config, photo, Context()) as load_prior:  # memory ends while it is loaded
        load_prior()
    assert calls == [True, False]


def test_a_plan_for_distillation_leaves_room_for_the_gradient_of_a_frame(monkeypatch):
    painter = sv3d_painter.SV3DPainter(vae_pipeline())
    config = painter.settled(OrbitConfig(model="tiny", size=64))
    load = sv3d_painter.load_of(painter.pipeline, 21, 64)
    room = 10**12
    monkeypatch.setattr(sv3d_painter, "room_for", lambda pipeline, device: room)
    assert painter.plans(config, "cpu", 21, with_gradient=True)[0] == Plan(chunk=1)
    room = Plan(together=False).peak(replace(load, decode=load.encode))
    assert painter.plans(config, "cpu", 21, with_gradient=True)[0] == Plan(together=False, chunk=1)
    assert all(not plan.together for plan in painter.plans(config, "mps", 21))


def test_compile_is_asked_for_once(monkeypatch):
    pipeline, compiled = vae_pipeline(), []

    def compile():
        compiled.append(True)
        pipeline.unet._compiled_call_impl = pipeline.unet._call_impl

    monkeypatch.setattr("sv3d_pipe.orbit.store.load.load_pipeline", lambda name, device, dtype: pipeline)
    monkeypatch.setattr(pipeline.unet, "compile", compile)
    load_model(OrbitConfig(), "cpu")
    assert not compiled
    for _ in range(2):
        load_model(OrbitConfig(compile=True), "cpu")
    assert compiled == [True]


def test_channels_last_is_the_same_network(monkeypatch):
    pipeline = vae_pipeline(pose=True)
    monkeypatch.setattr("sv3d_pipe.orbit.store.load.load_pipeline", lambda name, device, dtype: pipeline)
    call = {"azimuth_deg": np.array([90.0, 0.0]), "num_inference_steps": 1, "output_type": "latent"}
    before = pipeline(half_disc(), generator=torch.Generator().manual_seed(0), **call).frames
    load_model(OrbitConfig(), "cuda")
    assert pipeline.unet.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    after = pipeline(half_disc(), generator=torch.Generator().manual_seed(0), **call).frames
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-4)
