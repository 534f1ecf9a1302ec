"""What refinement costs on a GPU, counted on the make-believe one. Run by test_make_believe_gpu.py."""

import dataclasses

import numpy as np
import pytest
import torch
import trimesh
from make_believe import make_believe_cuda

from sv3d_pipe.artifacts import Mesh, Views
from sv3d_pipe.cameras import orbit, orbit_angles
from sv3d_pipe.config import Config
from sv3d_pipe.dataset.invented.toys import procedural
from sv3d_pipe.geometry.raster import rasterize
from sv3d_pipe.nerf.field import RadianceField
from sv3d_pipe.refine.fit_mesh import _Fit
from sv3d_pipe.refine.silhouette import Topology
from sv3d_pipe.render.draw import Light, render_views
from sv3d_pipe.road.context import Checkpoint, Context

STEPS = 3  # counted


def ball(subdivisions: int) -> tuple[torch.Tensor, torch.Tensor]:
    mesh = trimesh.creation.icosphere(subdivisions=subdivisions, radius=0.5)
    noise = np.random.default_rng(0).normal(0, 0.003, mesh.vertices.shape)
    return torch.tensor(mesh.vertices + noise, dtype=torch.float32), torch.tensor(mesh.faces)


def test_pictures_are_rasterized_there_with_one_wait():
    (vertices, faces), cameras = ball(4), orbit([0.0, 100.0, 250.0], [0.0, 30.0, -40.0])
    here = rasterize(vertices, faces, cameras, 128)
    with make_believe_cuda() as card:
        on_card = vertices.to("cuda:1"), faces.to("cuda:1")
        card.reset()
        there = rasterize(*on_card, cameras, 128)
        waits, launches, copied = sum(card.waits.values()), sum(card.launches.values()), dict(card.copied)
        ids, barycentrics, depth = (
            getattr(there, field).cpu() for field in ("face_ids", "barycentrics", "depth")
        )
    assert waits == 1 and launches < 200 and copied == {"to the card": cameras.c2w.nbytes * 2}
    same = ids == here.face_ids
    assert same.float().mean() > 0.9999 and ((ids >= 0) == here.covered).float().mean() > 0.9999
    # numpy and torch round the projected corners differently, and a side is five pixels long.
    torch.testing.assert_close(depth[same], here.depth[same], atol=1e-5, rtol=0)
    torch.testing.assert_close(barycentrics[same], here.barycentrics[same], atol=1e-3, rtol=0)


def begun(device: str, checkpoint: Checkpoint | None = None, **settings) -> _Fit:
    """A refinement of a ball towards a toy, with a field for colors."""
    cameras = orbit(*orbit_angles("sine", 10.0))
    rgba = render_views(procedural(125), cameras, 64, Light((0.3, 0.8, 0.5), 0.6))
    views = Views(rgba, cameras, rgba[-1:])
    config = dataclasses.replace(Config.preset("draft").refine, sds="off", **settings)
    start = trimesh.creation.icosphere(subdivisions=3, radius=0.45)
    start = Mesh(
        start.vertices.astype(np.float32), start.faces.astype(np.int64), np.full((642, 3), 0.5, "f4")
    )
    field = RadianceField(0.581).initialize(torch.Generator().manual_seed(0)).to(device).train()
    return _Fit(config, start, field, views, Context(device, checkpoint=checkpoint or Checkpoint()), None)


def test_a_step_of_refinement():
    with make_believe_cuda() as card:
        fit = begun("cuda")
        fit._one_step()  # tables are copied there once
        card.reset()
        for _ in range(STEPS):
            fit.step += 1
            fit._one_step()
    assert sum(card.launches.values()) <= 900 * STEPS
    assert sum(card.waits.values()) <= 4 * STEPS
    assert sum(card.copied.values()) <= 1024 * STEPS  # which views, and their cameras


@pytest.mark.parametrize("lighting", [False, True])
def test_photo_and_views_at_once_pull_as_one_after_the_other(lighting):
    pulls = []
    with make_believe_cuda():
        for device in ("cpu", "cuda:1"):
            fit = begun(device, lighting=lighting, grid=24)
            vertices, faces = fit.solid.surface()
            loss, iou = fit._picture_loss(vertices, faces, Topology.of(faces, closed=True))
            loss.backward()
            leaves = fit.solid.sdf, fit.solid.offsets, fit.albedo.table
            pulls.append([t.detach().cpu() for t in (loss, iou, *(leaf.grad for leaf in leaves))])
    for here, there in zip(*pulls):
        torch.testing.assert_close(there, here, rtol=1e-4, atol=1e-5 * here.abs().max().item())


@pytest.mark.parametrize("goes_on", ["cuda:1", "cpu"])
def test_a_resumed_refinement_looks_at_the_views_it_would_have(goes_on):
    def chosen(fit: _Fit) -> list:
        return [fit.targets.choose(step)[-1][-1].cameras.c2w[-3:].tolist() for step in range(4)]

    class Kept(Checkpoint):
        def load(self):
            return state

    with make_believe_cuda():
        fit = begun("cuda:1", grid=16)
        fit.targets.choose(0)
        state = fit._state()
        resumed = begun(goes_on, Kept(), grid=16)
        resumed._resume()
        assert chosen(resumed) == chosen(fit)
