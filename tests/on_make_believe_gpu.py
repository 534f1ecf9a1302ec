"""Everything that works on a GPU works on a make-believe one, CUDA's or Apple's: right devices, right generators.

Run by test_make_believe_gpu.py in processes of their own: PyTorch knows the device for good once it is imported.
"""

from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from make_believe import make_believe_cuda, make_believe_mps
from orbit_fakes import half_disc, vae_pipeline
from toy_capture import Optics, cameras_around, poses, shoot, write

from sv3d_pipe import Image2Mesh
from sv3d_pipe.artifacts import Photo, Views
from sv3d_pipe.cameras import orbit, orbit_angles
from sv3d_pipe.config import NerfConfig, OrbitConfig
from sv3d_pipe.dataset.invented.toys import procedural
from sv3d_pipe.device import PeakMemory, resolve_device
from sv3d_pipe.errors import UserError
from sv3d_pipe.nerf.fit_field import fit_field
from sv3d_pipe.orbit.paint import paint, prior_loader
from sv3d_pipe.pictures import save_png
from sv3d_pipe.render.draw import Light, render_views
from sv3d_pipe.road.context import Checkpoint, Context
from sv3d_pipe.road.report import make_reporter

SMALL = {
    "prep.size": 128,
    "orbit.azimuths": "60,120,180,240,300,360",
    "nerf.steps": 30,
    "nerf.samples": 2048,
    "nerf.surface": 32,
    "nerf.levels": 2,
    "refine.steps": 5,
    "refine.grid": 16,
    "refine.render": 48,
    "refine.sds": "on",
    "refine.sds_every": 1,
    "export.faces": 500,
    "export.texture": 64,
    "export.turntable": False,
}


@pytest.fixture
def cuda():
    """A make-believe CUDA device; what is counted on it."""
    with make_believe_cuda() as card:
        yield card


def on(device: str, settings=None) -> Image2Mesh:
    return Image2Mesh.from_preset(
        "draft", SMALL | (settings or {}), device=device, reporter=make_reporter(quiet=True)
    )


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    path = tmp_path_factory.mktemp("photo") / "disc.png"
    save_png(path, half_disc(96))
    return path


def test_the_device_is_as_strict_as_cuda(cuda):
    here, there = torch.ones(3), torch.ones(3, device="cuda:0")
    assert there.device == torch.device("cuda:0") and there.is_cuda
    assert sum(cuda.launches.values()) == 1
    for wrong in (lambda: here + there, lambda: there + there.to("cuda:1"), lambda: torch.cat([here, there])):
        with pytest.raises(RuntimeError, match="same device"):
            wrong()
    with pytest.raises(TypeError, match="numpy"):
        there.numpy()
    with pytest.raises(RuntimeError, match="generator"):
        torch.rand(3, device="cuda:0", generator=torch.Generator())
    cuda.reset()
    assert float(there.sum()) == 3.0 and there[there > 0].cpu().tolist() == [1, 1, 1]
    assert cuda.waits == {"_local_scalar_dense": 1, "indexing by a mask": 1, "to the host": 1}
    assert cuda.copied == {"to the host": 12}


def test_gradients_flow_on_it(cuda):
    x = torch.arange(4.0, device="cuda:1").requires_grad_()
    (x * x).sum().backward()
    assert x.grad.device == torch.device("cuda:1") and x.grad.cpu().tolist() == [0, 2, 4, 6]


def test_mps_has_its_own_name_and_no_float64():
    with make_believe_mps() as card:
        there = torch.ones(3, device="mps")
        assert there.device == torch.device("mps:0") and there.is_mps and not there.is_cuda
        assert resolve_device("mps") == "mps" and card.launches.total() == 1
        with pytest.raises(TypeError, match="float64"):
            there.double()
        with pytest.raises(RuntimeError, match="same device"):
            there + torch.ones(3)


def test_a_numbered_device_is_begun_before_its_memory_is_measured(cuda):
    assert resolve_device("cuda:1") == "cuda:1"
    with PeakMemory("cuda:1") as peak:
        pass
    assert peak.peak_mb == 0


def test_the_whole_road_with_mini_and_distillation(cuda, photo, tmp_path):
    result = on("cuda:1")(photo, tmp_path / "there")
    records = {run.record.stage: run.record for run in result.stages}
    assert {record.device for record in records.values()} == {"cuda:1"}
    assert records["refine"].metrics["sds_steps"] == 1 and records["refine"].metrics["mask_iou"] > 0.9
    assert result.mesh.exists() and cuda.copied["to the card"] > 0


def test_the_whole_road_on_mps(photo, tmp_path):
    with make_believe_mps() as card:
        result = on("mps", {"refine.lighting": True})(photo, tmp_path)
    records = {run.record.stage: run.record for run in result.stages}
    assert {record.device for record in records.values()} == {"mps"}
    assert records["refine"].metrics["sds_steps"] == 1 and records["refine"].metrics["mask_iou"] > 0.9
    assert result.mesh.exists() and card.copied["to the card"] > 0


def test_a_capture(cuda, tmp_path):
    obj, cameras, optics = procedural(125), cameras_around(12), Optics(100, 80, 210.0, 56.0, 35.0)
    write(tmp_path / "toy", shoot(obj, cameras, optics), poses(cameras), optics.fields())
    result = on("cuda:1").capture(tmp_path / "toy", tmp_path / "work")
    records = {run.record.stage: run.record for run in result.stages}
    assert list(records) == ["capture", "nerf", "refine", "export"]
    assert {record.device for record in records.values()} == {"cuda:1"}
    assert records["refine"].metrics["mask_iou"] > 0.8 and sum(cuda.launches.values()) > 1000


@pytest.mark.parametrize("low_vram", [False, True])
@pytest.mark.parametrize("solver", ["euler", "dpm"])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_sv3d_paints_as_on_the_cpu_and_leaves_the_device(cuda, monkeypatch, dtype, solver, low_vram):
    monkeypatch.setattr("sv3d_pipe.orbit.memory_plan.give_back", lambda device: None)
    there, here = (painted(monkeypatch, device, dtype, solver, low_vram)[0] for device in ("cuda:1", "cpu"))
    np.testing.assert_allclose(there, here, atol=2e-2 if dtype == "float16" else 1e-4)


def test_sv3d_paints_on_mps_as_on_the_cpu_its_halves_apart(monkeypatch):
    here, together = painted(monkeypatch, "cpu")
    with make_believe_mps():
        there, apart = painted(monkeypatch, "mps")
    assert (together, apart) == (2, 1)
    np.testing.assert_allclose(there, here, atol=1e-4)


def painted(
    monkeypatch, device: str, dtype="float32", solver="euler", low_vram=False
) -> tuple[np.ndarray, int]:
    """The orbit of a tiny SV3D on a device, and how many halves of guidance its network was given at once."""
    config = OrbitConfig(
        model="tiny", steps=2, guidance=2.5, dtype=dtype, solver=solver, size=32, low_vram=low_vram,
        azimuths="90,180,360",
    )  # fmt: skip
    pipeline = vae_pipeline(pose=True)
    pipeline.unet.to(getattr(torch, dtype))
    halves = []
    pipeline.unet.register_forward_pre_hook(
        lambda _, args, kwargs: halves.append(len((args or [*kwargs.values()])[0])), with_kwargs=True
    )
    with monkeypatch.context() as patch:
        patch.setattr("sv3d_pipe.orbit.store.load.load_pipeline", lambda name, device, dtype: pipeline)
        views, _ = paint(config, Photo(half_disc(32)), Context(device))
    assert {p.device.type for m in (pipeline.unet, pipeline.vae) for p in m.parameters()} == {"cpu"}
    return views.rgba, max(halves)


def test_a_prior_under_each_plan_asks_for_the_same(cuda, monkeypatch):
    pipeline = vae_pipeline(pose=True)
    monkeypatch.setattr("sv3d_pipe.orbit.store.load.load_pipeline", lambda name, device, dtype: pipeline)
    config = OrbitConfig(model="tiny", size=32, dtype="float32", azimuths="120,240,360")
    azimuth_deg, elevation_deg = np.array([120.0, 240, 360]), np.full(3, 10.0)
    frames = torch.from_numpy(np.stack([half_disc(32)] * 3)).to("cuda")
    found = []
    with prior_loader(config, Photo(half_disc(32)), Context("cuda")) as load_prior:
        for _ in range(3):
            prior = load_prior()
            leaf = frames.clone().requires_grad_()
            latents = prior.encode(leaf)
            clean = prior.denoise(latents.detach(), 1.0, azimuth_deg, elevation_deg, 1.5)
            (pull,) = torch.autograd.grad(latents, leaf, latents.detach() - clean)
            found.append(pull.cpu())
        with pytest.raises(UserError, match="not enough"):
            load_prior()
    assert pipeline.unet.device.type == pipeline.vae.device.type == "cpu"
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("began, goes_on", [("cpu", "cuda:1"), ("cuda:1", "cpu")])
def test_a_fit_goes_on_where_another_device_left_it(cuda, tmp_path, began, goes_on):
    class Stop(Exception):
        pass

    class Stopping(Checkpoint):
        def save(self, state):
            super().save(state)
            if state()["progress"]["step"] == 6:
                raise Stop

    cameras = orbit(*orbit_angles("sine", 10.0))
    views = Views(render_views(procedural(125), cameras, 32, Light((0.3, 0.8, 0.5), 0.6)), cameras)
    config = NerfConfig(steps=12, samples=1024, levels=3, table_log2=10, finest=24, surface=16)
    path = tmp_path / "state"
    with pytest.raises(Stop):
        fit_field(config, views, Context(began, checkpoint=Stopping(path, 0)))
    steps = {}

    @contextmanager
    def counting(title, total):
        seen = steps.setdefault(title, [])
        yield SimpleNamespace(update=lambda advance=1, metric=None: seen.append(advance))

    context = Context(goes_on, open_bar=counting, checkpoint=Checkpoint(path, 0))
    _, resumed = fit_field(config, views, context)
    assert steps["nerf"] == [6] + 6 * [1]  # it did not start over
    _, whole = fit_field(config, views, Context())
    assert resumed["psnr_db"] == pytest.approx(whole["psnr_db"], abs=0.5)
