"""The same numbers on a CUDA device as on the CPU. Run with ``pytest -m gpu``; skipped without a device."""

import numpy as np
import pytest
import torch
import trimesh

from sv3d_pipe import Image2Mesh
from sv3d_pipe.artifacts import Views
from sv3d_pipe.backend import pick
from sv3d_pipe.cameras import orbit, orbit_angles
from sv3d_pipe.config import NerfConfig
from sv3d_pipe.dataset.invented.toys import procedural
from sv3d_pipe.geometry._raster_boxes import zbuffer
from sv3d_pipe.geometry.raster import Raster, rasterize
from sv3d_pipe.nerf.composite import composite
from sv3d_pipe.nerf.fit_field import fit_field
from sv3d_pipe.nerf.hashgrid import Layout, encode
from sv3d_pipe.nerf.march import Samples
from sv3d_pipe.orbit.mini.denoiser import VolumeDenoiser
from sv3d_pipe.pictures import save_png
from sv3d_pipe.render.draw import Light, render_views
from sv3d_pipe.road.context import Context
from sv3d_pipe.road.report import make_reporter

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]


def test_hash_grid():
    layout = Layout.geometric(12, 16, 16, 256)
    generator = torch.Generator().manual_seed(1)
    points, table = (
        torch.rand(16384, 3, generator=generator),
        torch.randn(layout.rows, 2, generator=generator),
    )
    upstream = torch.randn(16384, layout.width, generator=generator)
    results = []
    for device in ("cpu", "cuda"):
        inputs = points.to(device).requires_grad_(), table.to(device).requires_grad_()
        assert pick("hash grid", device, torch.float32) == {"cpu": "numba", "cuda": "gather"}[device]
        out = encode(*inputs, layout)
        results.append(
            [t.cpu() for t in (out.detach(), *torch.autograd.grad(out, inputs, upstream.to(device)))]
        )
    for here, there in zip(*results):
        torch.testing.assert_close(there, here, rtol=1e-5, atol=1e-5 * here.abs().max().item())


def test_compositing():
    generator = torch.Generator().manual_seed(2)
    counts = torch.randint(0, 40, (500,), generator=generator)
    ray_indices = torch.arange(500).repeat_interleave(counts)
    starts = torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])
    t_starts = 0.01 * torch.arange(len(ray_indices))
    sigma, rgb = (
        60 * torch.rand(len(t_starts), generator=generator),
        torch.rand(len(t_starts), 3, generator=generator),
    )
    results = []
    for device in ("cpu", "cuda"):
        samples = Samples(*(t.to(device) for t in (ray_indices, t_starts, t_starts + 0.01, starts)))
        inputs = sigma.to(device).requires_grad_(), rgb.to(device).requires_grad_()
        color, alpha = composite(*inputs, samples)
        loss = (color**2).sum() + (alpha**3).sum()
        results.append([t.detach().cpu() for t in (color, alpha, *torch.autograd.grad(loss, inputs))])
    for here, there in zip(*results):
        torch.testing.assert_close(there, here, rtol=1e-4, atol=1e-5)


def test_a_fit_is_as_good_as_on_the_cpu():
    cameras = orbit(*orbit_angles("sine", 10.0))
    views = Views(render_views(procedural(125), cameras, 64, Light((0.3, 0.8, 0.5), 0.6)), cameras)
    config = NerfConfig(steps=200, samples=8192, levels=6, table_log2=12, finest=64, surface=32)
    here, there = (fit_field(config, views, Context(device))[1] for device in ("cpu", "cuda"))
    assert here["psnr_db"] > 20
    assert there["psnr_db"] == pytest.approx(here["psnr_db"], abs=0.5)


@pytest.mark.parametrize("subdivisions, size", [(2, 40), (5, 576), (6, 1152)])
def test_rasterization(subdivisions, size):
    """Boxes there, numba here: of the same projected corners, and each of its own."""
    ball = trimesh.creation.icosphere(subdivisions=subdivisions, radius=0.5)
    noise = np.random.default_rng(0).normal(0, 0.02 / 2**subdivisions, ball.vertices.shape)
    vertices, faces = torch.tensor(ball.vertices + noise, dtype=torch.float32), torch.tensor(ball.faces)
    cameras = orbit([0.0, 100.0, 250.0], [0.0, 30.0, -40.0])
    here = rasterize(vertices, faces, cameras, size)
    corners = (torch.from_numpy(a.astype(np.float32)).cuda() for a in cameras.project(vertices.numpy(), size))
    there = Raster(*(t.cpu() for t in zbuffer(*corners, faces.cuda(), size)))
    assert (there.covered != here.covered).sum() == 0
    same = there.face_ids == here.face_ids
    assert (~same).sum() <= 1e-5 * same.numel()  # depths that tie in float32
    torch.testing.assert_close(there.barycentrics[same], here.barycentrics[same], atol=1e-5, rtol=0)
    torch.testing.assert_close(there.depth[same], here.depth[same], atol=1e-5, rtol=0)
    whole = rasterize(vertices.cuda(), faces.cuda(), cameras, size)
    assert (whole.face_ids.cpu() != here.face_ids).float().mean() < 1e-4
    close = whole.face_ids.cpu() == here.face_ids
    torch.testing.assert_close(whole.depth.cpu()[close], here.depth[close], atol=1e-4, rtol=0)


def test_denoiser():
    torch.manual_seed(0)
    model = VolumeDenoiser(size=32, grid=8, channels=(8, 16), width=32, depth=1).eval()
    arguments = (
        torch.randn(1, 3, 4, 32, 32),
        torch.tensor([3.0]),
        torch.rand(1, 4, 32, 32),
        torch.rand(1, 3, 2),
    )
    with torch.no_grad():
        here = model(*_call(arguments))[0]
        there = model.cuda()(*(t if t is None else t.cuda() for t in _call(arguments)))[0].cpu()
    torch.testing.assert_close(there, here, rtol=1e-3, atol=1e-3)


def _call(arguments):
    noisy, sigma, photo, pose = arguments
    sample = torch.cat([noisy, photo[:, None].expand_as(noisy)], 2)
    return sample, sigma.log() / 4, None, torch.cat([torch.zeros_like(pose[..., :1]), pose], -1)


def test_the_whole_road(tmp_path, colored_cube):
    save_png(tmp_path / "cube.png", render_views(colored_cube, orbit([30.0], 20.0, 3.2), 256)[0])
    settings = {
        "nerf.steps": 100,
        "nerf.surface": 48,
        "refine.steps": 10,
        "refine.grid": 24,
        "export.faces": 2000,
    }
    quiet = make_reporter(quiet=True)
    result = Image2Mesh.from_preset("draft", settings, device="cuda", reporter=quiet)(
        tmp_path / "cube.png", tmp_path / "out"
    )
    assert result.mesh.stat().st_size > 10_000
    assert all(stage.record.device == "cuda" for stage in result.stages)
