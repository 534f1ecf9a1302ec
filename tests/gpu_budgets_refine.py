"""What refinement costs on a GPU, counted on the make-believe one. Run by test_make_believe_gpu.py."""

import numpy as np
import torch
import trimesh
from make_believe import make_believe_cuda

from sv3d_pipe.cameras import orbit
from sv3d_pipe.geometry.raster import rasterize


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
