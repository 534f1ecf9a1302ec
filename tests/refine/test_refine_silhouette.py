"""The mask's gradient and the surface points against finite differences and geometry."""

import numpy as np
import pytest
import torch
import trimesh

from sv3d_pipe.cameras import orbit
from sv3d_pipe.geometry.raster import rasterize
from sv3d_pipe.refine.losses import mask_loss
from sv3d_pipe.refine.silhouette import Topology, coverage
from sv3d_pipe.refine.surface_hits import surface_hits

SIZE, FACTOR = 64, 8
CAMERAS = orbit(np.array([0.0, 130.0]), np.array([10.0, -25.0]))


def sphere(subdivisions: int) -> tuple[torch.Tensor, torch.Tensor]:
    mesh = trimesh.creation.icosphere(subdivisions=subdivisions)
    return torch.tensor(mesh.vertices).float(), torch.tensor(mesh.faces).long()


def mask_of(vertices, faces, factor=FACTOR):
    covered = rasterize(vertices, faces, CAMERAS, SIZE * factor).covered.float()
    return torch.nn.functional.avg_pool2d(covered[:, None], factor)[:, 0]


def soft_mask_of(vertices, faces):
    raster = rasterize(vertices, faces, CAMERAS, SIZE * FACTOR)
    return coverage(vertices, faces, Topology.of(faces), CAMERAS, raster.face_ids, SIZE)


@pytest.mark.parametrize("subdivisions", [1, 3, 6])  # 80, 1280 and 81920 faces: from 15 pixels down to 0.3
def test_area_gradient_in_the_radius(subdivisions):
    """A sphere of radius r at distance 2 has a picture of area pi (f tan(asin(r / 2)))^2."""
    directions, faces = sphere(subdivisions)
    radius = torch.tensor(0.4, requires_grad=True)
    soft_mask_of(directions * radius, faces).sum().backward()
    focal = CAMERAS.focal(SIZE)
    # d/dr of pi f^2 r^2 / (4 - r^2) is 8 pi f^2 r / (4 - r^2)^2; two cameras.
    exact = 2 * 8 * np.pi * focal**2 * 0.4 / (4 - 0.16) ** 2
    facets = 0.1 if subdivisions == 1 else 0.02  # 80 flat faces make a smaller disc
    assert radius.grad.item() == pytest.approx(exact, rel=facets)


@pytest.mark.parametrize("subdivisions", [1, 3, 6])
def test_mask_loss_gradient_equals_finite_difference(subdivisions):
    directions, faces = sphere(subdivisions)
    target = mask_of(directions * 0.38 + torch.tensor([0.05, -0.04, 0.03]), faces)
    parameters = torch.tensor([0.42, 0.0, 0.0, 0.0], requires_grad=True)  # radius, x, y, z
    mask_loss(soft_mask_of(directions * parameters[0] + parameters[1:], faces), target).backward()
    step, slopes = 0.002, []  # a fifth of a pixel
    for i in range(4):
        values = []
        for sign in (1, -1):
            moved = parameters.detach().clone()
            moved[i] += sign * step
            values.append(mask_loss(mask_of(directions * moved[0] + moved[1:], faces, 32), target).item())
        slopes.append((values[0] - values[1]) / (2 * step))
    assert np.abs(parameters.grad.numpy() - slopes).max() < 0.03 * np.abs(slopes).max()


def test_value_is_the_pooled_mask():
    directions, faces = sphere(3)
    torch.testing.assert_close(soft_mask_of(directions * 0.4, faces), mask_of(directions * 0.4, faces))


def test_hidden_outline_has_no_gradient():
    """A small sphere behind and in front of a large one: its outline is not the picture's outline."""
    directions, faces = sphere(2)
    for z in (0.45, -0.45):  # camera 0 looks along -z
        offset = torch.tensor([0.0, 0.0, z], requires_grad=True)
        small, large = directions * 0.08 + offset, directions * 0.35
        both, both_faces = torch.cat([large, small]), torch.cat([faces, faces + len(directions)])
        raster = rasterize(both, both_faces, CAMERAS[0], SIZE * FACTOR)
        mask = coverage(both, both_faces, Topology.of(both_faces), CAMERAS[0], raster.face_ids, SIZE)
        (mask.sum() + 0 * offset.sum()).backward()
        assert offset.grad.abs().max() == 0


def test_surface_points_lie_on_their_rays_and_follow_the_surface():
    directions, faces = sphere(4)
    radius = torch.tensor(0.4, requires_grad=True)
    vertices = directions * radius
    raster = rasterize(vertices, faces, CAMERAS, SIZE * FACTOR)
    hits = surface_hits(vertices, faces, CAMERAS, raster.face_ids, SIZE)
    assert hits.points.norm(dim=-1).sub(0.4).abs().max() < 2e-3
    xy, depth = CAMERAS.project(hits.points.detach().numpy(), SIZE)
    view, row, column = hits.index // SIZE**2, hits.index // SIZE % SIZE, hits.index % SIZE
    pixel = xy[view, np.arange(len(view))]
    assert np.abs(pixel - np.stack([column + 0.5, row + 0.5], -1)).max() < 0.51  # a sub-pixel of that pixel
    # A point slides along the unit ray d as the radius grows: dt/dr = r / (p . d), with p . d < 0.
    origins = torch.from_numpy(CAMERAS.origins)[view]
    ray = torch.nn.functional.normalize(hits.points.detach() - origins, dim=-1)
    facing = -(hits.points.detach() * ray).sum(-1)
    chosen = facing > 0.2  # away from the outline, where the slope is infinite
    (hits.points * ray)[chosen].sum().backward()
    expected = (-0.4 / facing[chosen]).sum().item()
    assert radius.grad.item() == pytest.approx(expected, rel=0.01)


def test_barycentrics_equal_those_of_the_rasterizer():
    directions, faces = sphere(3)
    vertices = directions * 0.4
    raster = rasterize(vertices, faces, CAMERAS, SIZE)
    hits = surface_hits(vertices, faces, CAMERAS, raster.face_ids, SIZE)
    assert torch.equal(hits.face_ids, raster.face_ids.reshape(-1)[hits.index])
    torch.testing.assert_close(
        hits.barycentrics, raster.barycentrics.reshape(-1, 3)[hits.index], atol=2e-3, rtol=0
    )
