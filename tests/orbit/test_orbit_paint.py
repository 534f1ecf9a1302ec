import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from orbit_fakes import formula_pipeline, half_disc, vae_pipeline

from sv3d_pipe.artifacts import Photo
from sv3d_pipe.cameras import orbit, orbit_angles
from sv3d_pipe.config import OrbitConfig
from sv3d_pipe.evaluate.picture_scores import psnr
from sv3d_pipe.orbit.denoising_pipeline import OrbitPipeline
from sv3d_pipe.orbit.masks import crisp, cut_out
from sv3d_pipe.orbit.mini.denoiser import VolumeDenoiser
from sv3d_pipe.orbit.mini.pixel_codec import PixelCodec
from sv3d_pipe.orbit.mini.pixel_pipeline import MiniPipeline
from sv3d_pipe.orbit.paint import paint
from sv3d_pipe.orbit.schedulers import euler_scheduler
from sv3d_pipe.pictures import resize_rgba
from sv3d_pipe.road.context import Context


class CountingBar:
    def __init__(self):
        self.metrics = []

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def update(self, advance=1, metric=None):
        self.metrics.append(metric)


@pytest.fixture
def model(tmp_path):
    formula_pipeline().save_pretrained(tmp_path / "model")
    return str(tmp_path / "model")


def test_views_carry_the_orbits_cameras_and_the_photo(model):
    config = OrbitConfig(model=model, steps=3, elevation_deg=20.0)
    photo = Photo(half_disc(32))
    views, metrics = paint(config, photo, Context())
    assert views.rgba.shape == (21, 8, 8, 4) and views.rgba.dtype == np.float32
    np.testing.assert_array_equal(views.photo, photo.rgba)
    np.testing.assert_allclose(views.rgba[-1], resize_rgba(photo.rgba, 8), atol=1e-6)
    expected = orbit(*orbit_angles("sine", 20.0, 30.0))
    np.testing.assert_allclose(views.cameras.c2w, expected.c2w, atol=1e-6)
    assert next(iter(metrics)) == "photo_psnr_db"
    assert metrics["frames"] == 21 and metrics["size"] == 8 and metrics["kind"] == "sine"


def test_metric_is_the_models_own_last_frame(model):
    config, photo = OrbitConfig(model=model, steps=3), Photo(half_disc(32))
    _, metrics = paint(config, photo, Context(seed=7))
    own = formula_pipeline()(
        photo.rgba,
        *orbit_angles("sine", 10.0, 30.0),
        num_inference_steps=3,
        generator=torch.Generator().manual_seed(7),  # the seed itself, as in the released code
    ).own_last_frame
    expected = psnr(own[None], resize_rgba(photo.rgba, 8)[None])[0]
    assert metrics["photo_psnr_db"] == pytest.approx(expected, abs=0.006)


def test_seed_decides_the_frames(model):
    config, photo = OrbitConfig(model=model, steps=2), Photo(half_disc())
    a, b, c = (paint(config, photo, Context(seed=s))[0].rgba for s in (1, 1, 2))
    np.testing.assert_array_equal(a, b)
    assert np.abs(a - c).max() > 1e-3


def test_threads_that_share_a_model_paint_what_each_alone_would(model):
    """The sampler counts its steps, so each call must have one of its own."""
    jobs = [
        (seed, steps, solver) for seed in (1, 2) for steps, solver in ((7, "euler"), (9, "dpm"), (5, "euler"))
    ]

    def work(job):
        seed, steps, solver = job
        config = OrbitConfig(model=model, steps=steps, solver=solver)
        return paint(config, Photo(half_disc()), Context(seed=seed))[0].rgba

    alone = [work(job) for job in jobs]
    with ThreadPoolExecutor(len(jobs)) as pool:
        together = list(pool.map(work, jobs))
    for one, other in zip(alone, together):
        np.testing.assert_array_equal(one, other)


def test_a_pipeline_called_by_threads_counts_steps_for_each():
    pipeline, start = formula_pipeline(), threading.Barrier(3)

    def work(seed):
        start.wait()
        return pipeline(
            half_disc(), num_inference_steps=12, generator=torch.Generator().manual_seed(seed)
        ).frames

    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(work, range(3)))
    for seed, frames in enumerate(together):
        alone = pipeline(
            half_disc(), num_inference_steps=12, generator=torch.Generator().manual_seed(seed)
        ).frames
        np.testing.assert_array_equal(frames, alone)


def test_bar_moves_once_per_step(model):
    bar = CountingBar()
    paint(OrbitConfig(model=model, steps=4), Photo(half_disc()), Context(open_bar=lambda title, total: bar))
    assert len(bar.metrics) == 4
    assert all(metric.endswith(" dB") for metric in bar.metrics)


def test_models_without_pose_get_a_static_orbit_and_say_so(model, monkeypatch):
    monkeypatch.setattr(MiniPipeline, "takes_pose", False)
    monkeypatch.setattr(OrbitPipeline, "predict_velocity", lambda self, scaled, *rest: scaled)
    context = Context()
    views, metrics = paint(OrbitConfig(model=model, steps=2), Photo(half_disc()), context)
    assert metrics["kind"] == "static" and "static" in context.warnings[0]
    np.testing.assert_allclose(views.cameras.c2w, orbit(*orbit_angles("static", 10.0)).c2w, atol=1e-6)
    quiet = Context()
    paint(OrbitConfig(model=model, steps=2, kind="static"), Photo(half_disc()), quiet)
    assert not quiet.warnings


def test_too_few_steps_are_told_for_models_with_a_vae(model, monkeypatch):
    quiet, told = Context(), Context()
    paint(OrbitConfig(model=model, steps=1), Photo(half_disc()), quiet)
    monkeypatch.setattr(
        "sv3d_pipe.orbit.store.load.load_pipeline", lambda name, device, dtype: vae_pipeline(pose=True)
    )
    paint(OrbitConfig(model="tiny", steps=1, guidance=1.0), Photo(half_disc()), told)
    assert not quiet.warnings
    assert len(told.warnings) == 1 and "orbit.steps=50" in told.warnings[0]


def test_the_bar_of_a_model_with_a_vae_shows_the_noise_and_decodes_nothing(monkeypatch):
    bar, pipeline, decoded = CountingBar(), vae_pipeline(), []
    monkeypatch.setattr("sv3d_pipe.orbit.store.load.load_pipeline", lambda name, device, dtype: pipeline)
    pipeline.vae.decoder.register_forward_pre_hook(lambda module, args: decoded.append(len(args[0])))
    config = OrbitConfig(model="tiny", steps=3, guidance=1.0)
    paint(config, Photo(half_disc()), Context(open_bar=lambda title, total: bar))
    assert bar.metrics[0] == "noise 700" and bar.metrics[-1] == "noise 0.002"
    assert sum(decoded) == 21  # the frames, once


def test_angles_of_the_settings_reach_cameras_and_model(model, monkeypatch):
    told = []
    ask = OrbitPipeline.predict_velocity

    def listen(self, scaled, timestep, photo, ids, scales):
        told.append(ids)
        return ask(self, scaled, timestep, photo, ids, scales)

    monkeypatch.setattr(OrbitPipeline, "predict_velocity", listen)
    config = OrbitConfig(model=model, steps=1, azimuths="30,150,270", elevations="0,20,-10")
    views, metrics = paint(config, Photo(half_disc()), Context())
    np.testing.assert_allclose(views.cameras.c2w, orbit([120, 240, 0], [0, 20, -10]).c2w, atol=1e-6)
    np.testing.assert_allclose(told[0][:, 1].rad2deg(), [90, 70, 100], rtol=1e-5)
    np.testing.assert_allclose(told[0][:, 2].rad2deg(), [120, 240, 0], rtol=1e-5)
    assert metrics["frames"] == 3 and metrics["kind"] == "given"
    a, b = (
        paint(OrbitConfig(model=model, kind="dynamic"), Photo(half_disc()), Context(seed=s))[0]
        for s in (1, 2)
    )
    assert np.abs(a.cameras.c2w - b.cameras.c2w).max() > 0.01


@pytest.mark.parametrize("solver", ["euler", "dpm"])
def test_solver_of_the_settings_is_used(model, solver):
    views, _ = paint(OrbitConfig(model=model, steps=9, solver=solver), Photo(half_disc()), Context(seed=3))
    expected = formula_pipeline()(
        half_disc(),
        *orbit_angles("sine", 10.0),
        num_inference_steps=9,
        solver=solver,
        generator=torch.Generator().manual_seed(3),
    ).frames
    np.testing.assert_allclose(views.rgba, crisp(expected), atol=1e-5)


def test_frames_painted_on_white_get_an_alpha_and_the_photo_keeps_its_own(monkeypatch):
    monkeypatch.setattr(
        "sv3d_pipe.orbit.store.load.load_pipeline", lambda name, device, dtype: vae_pipeline()
    )
    photo = Photo(half_disc(32))
    views, metrics = paint(OrbitConfig(model="tiny", steps=1, guidance=1.0), photo, Context())
    assert views.rgba.shape == (21, 64, 64, 4) and metrics["kind"] == "static"
    np.testing.assert_allclose(views.rgba[-1], resize_rgba(photo.rgba, 64), atol=1e-6)
    assert 0 <= views.rgba.min() and views.rgba.max() <= 1


def test_soft_masks_become_crisp_and_crisp_ones_stay():
    disc = np.stack([half_disc(64)])
    assert np.abs(crisp(disc)[..., 3] - disc[..., 3]).mean() < 2e-3
    x = np.arange(64) + 0.5
    ramp = np.clip((x - 32) / 12 + 0.5, 0, 1)  # twelve pixels wide, its middle at pixel 32
    rgba = np.broadcast_to(ramp[:, None], (8, 64, 64, 4)).astype(np.float32)
    alpha = crisp(rgba)[0, 5, :, 3]
    assert ((alpha > 0.01) & (alpha < 0.99)).sum() <= 2
    np.testing.assert_allclose(alpha[[30, 33]], [0, 1])


def test_a_faint_thin_part_keeps_its_area_when_made_crisp():
    x = np.arange(64) + 0.5
    ridge = 0.4 * np.exp(-0.5 * ((x - 32) / 6) ** 2)  # never above 1/2, expected width about 6 pixels
    rgba = np.broadcast_to(ridge[:, None], (1, 64, 64, 4)).astype(np.float32)
    sharp = crisp(rgba)[0, 20, :, 3]
    assert sharp.sum() == pytest.approx(ridge.sum(), abs=1.0)  # columns come in pairs
    assert sharp[31] == sharp[32] == 1 and sharp[[20, 43]].max() == 0


def test_what_is_made_crisp_veils_no_background():
    rgba = np.zeros((1, 64, 64, 4), np.float32)
    rgba[0, 20:24, 10:54, 3] = 0.3  # so faint and small that its area alone would put the edge below zero
    rgba[0, 30:40, 10:54, 3] = np.linspace(0, 0.6, 10)[:, None]
    assert not crisp(rgba)[..., 3][rgba[..., 3] == 0].any()


def test_cut_out_gives_new_places_the_nearest_color():
    rgba = np.zeros((1, 4, 4, 4), np.float32)
    rgba[0, :, 0] = [1, 0, 0, 1]
    rgba[0, :, 1] = [0, 1, 0, 0.2]  # hardly there: its color is not trusted
    rgba[0, :, 3] = [0, 0, 1, 0.9]
    mask = np.ones((1, 4, 4), np.float32)
    mask[0, 0] = 0
    result = cut_out(rgba, mask)
    np.testing.assert_array_equal(result[..., 3], mask)
    np.testing.assert_array_equal(result[0, 1, :, :3], [[1, 0, 0], [1, 0, 0], [0, 0, 1], [0, 0, 1]])


def test_one_step_of_a_volume_model_is_cut_out_of_one_solid(tmp_path, monkeypatch):
    asked = []

    def silhouettes(self, photo, pose, tokens):
        assert tokens is None
        asked.append((photo.shape, pose))
        return torch.full((len(pose), 16, 16), 0.25)

    monkeypatch.setattr(VolumeDenoiser, "silhouettes", silhouettes)
    unet = VolumeDenoiser(size=16, grid=16, channels=(8, 16), width=32, depth=1, heads=2, ray_samples=8)
    MiniPipeline(PixelCodec(16), unet, euler_scheduler()).save_pretrained(tmp_path / "model")
    config = OrbitConfig(model=str(tmp_path / "model"), steps=1, guidance=1.0, elevation_deg=20.0)
    views, _ = paint(config, Photo(half_disc(32)), Context())
    assert (views.rgba[:-1, ..., 3] == 0.25).all()
    np.testing.assert_allclose(views.rgba[-1], resize_rgba(half_disc(32), 16), atol=1e-6)
    (shape, pose), radians = asked[0], np.radians(orbit_angles("sine", 20.0, 30.0))
    assert shape == (1, 4, 16, 16)
    np.testing.assert_allclose(pose[:, 0].numpy(), np.pi / 2 - radians[1], atol=1e-5)
    np.testing.assert_allclose(pose[:, 1].cos().numpy(), np.cos(radians[0]), atol=1e-5)
    several, _ = paint(dataclasses.replace(config, steps=2), Photo(half_disc(32)), Context())
    assert len(asked) == 1 and several.rgba[0, ..., 3].max() != 0.25
