import math

import numpy as np
import pytest
import torch

from sv3d_pipe.cameras import FOV_DEG, orbit
from sv3d_pipe.orbit.mini.denoiser import SOLID, VolumeDenoiser
from sv3d_pipe.orbit.mini.pixel_codec import PixelCodec
from sv3d_pipe.orbit.mini.voxels import CAMERA_DISTANCE, FOCAL, frame_axes, project, unproject, voxel_centers


def tiny(**changes) -> VolumeDenoiser:
    torch.manual_seed(0)
    return VolumeDenoiser(
        **({"size": 32, "grid": 8, "channels": (8, 16), "width": 32, "depth": 1} | changes)
    ).eval()


def inputs(frames=3, batch=2):
    generator = torch.Generator().manual_seed(1)
    noisy = torch.randn(batch, frames, 4, 32, 32, generator=generator)
    photo = torch.rand(batch, 4, 32, 32, generator=generator) * 2 - 1
    pose = torch.rand(batch, frames, 2, generator=generator) + 0.5
    return noisy, photo, pose


def test_projection_is_that_of_the_cameras():
    azimuth, elevation = np.array([20.0, 130.0]), np.array([-15.0, 40.0])
    radians = torch.tensor(np.radians([90 - elevation, azimuth]), dtype=torch.float32)
    axes = frame_axes(radians[0], radians[1])[None]
    points = torch.rand(50, 3) - 0.5
    xy, depth = project(points, axes)
    expected_xy, expected_depth = orbit(azimuth, elevation, CAMERA_DISTANCE, FOV_DEG).project(
        points.numpy(), 2
    )
    np.testing.assert_allclose(xy[0].numpy() + 1, expected_xy, atol=1e-5)
    np.testing.assert_allclose(depth[0].numpy(), expected_depth, atol=1e-5)


def test_unproject_reads_the_pixel_a_point_falls_on():
    picture = torch.arange(16.0).view(1, 1, 1, 4, 4)
    # Centers of pixel (row 1, column 2) and (row 3, column 0) of a 4 x 4 picture.
    where = torch.tensor([[[[0.25, -0.25], [-0.75, 0.75]]]])
    torch.testing.assert_close(unproject(picture, where).flatten(), torch.tensor([6.0, 12.0]))


def test_the_velocity_is_that_of_the_denoised_frames():
    model = tiny()
    noisy, photo, pose = inputs()
    sigma = torch.tensor([3.0, 3.0])
    with torch.no_grad():
        denoised = model.denoise(noisy, sigma, photo, pose)
        sample = torch.cat([noisy / math.sqrt(10.0), photo[:, None].expand(-1, 3, -1, -1, -1)], 2)
        ids = torch.cat([torch.zeros(2, 3, 1), pose], -1)
        velocity = model(sample, torch.tensor(math.log(3.0) / 4), None, ids)[0]
    # By hand at sigma 3: c_skip = 1 / 10, c_out = -3 / sqrt(10).
    torch.testing.assert_close(noisy / 10 - 3 / math.sqrt(10.0) * velocity, denoised, atol=1e-4, rtol=1e-4)


def test_only_azimuths_relative_to_the_photo_matter():
    model = tiny()
    noisy, photo, pose = inputs()
    turned = pose + torch.tensor([0.0, 1.1])
    with torch.no_grad():
        a, b = (model.denoise(noisy, torch.tensor([5.0, 5.0]), photo, p) for p in (pose, turned))
    torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def test_frames_of_one_volume_agree():
    """Two frames with one pose get one picture at pure noise, whatever else is in the orbit."""
    model = tiny()
    noisy, photo, pose = inputs()
    pose[:, 1] = pose[:, 0]
    noisy[:, 1] = noisy[:, 0]
    with torch.no_grad():
        frames = model.denoise(noisy, torch.tensor([700.0, 700.0]), photo, pose)
    torch.testing.assert_close(frames[:, 0], frames[:, 1])


@pytest.mark.parametrize("middle", [2.5 * SOLID, 2 * SOLID, 0.1 * SOLID])
def test_the_silhouette_of_a_ball_of_haze_is_the_disc_of_what_is_dense(monkeypatch, middle):
    """Density falls outwards, to where a voxel is half as likely to be solid as in the middle, at radius 1/2."""
    model = tiny(size=64, grid=32)
    distance = voxel_centers(32, torch.device("cpu")).norm(dim=-1).view(1, 1, 32, 32, 32)
    edge = -SOLID * math.log2(0.5 + 2 ** (-middle / SOLID) / 2)
    density = edge + (middle - edge) * ((1 - 2 * distance) / 0.8).clamp(max=1)
    monkeypatch.setattr(model, "_volume", lambda *_: density.expand(-1, 8, -1, -1, -1))
    masks = model.silhouettes(-torch.ones(1, 4, 64, 64), torch.tensor([[1.2, 0.7], [1.7, 3.0]]))
    assert masks.shape == (2, 64, 64)
    sine = 0.5 / CAMERA_DISTANCE
    share = math.pi / 4 * (FOCAL * sine) ** 2 / (1 - sine**2)
    torch.testing.assert_close(masks.mean((1, 2)), torch.full((2,), share), rtol=0.04, atol=0)
    assert ((masks > 0) & (masks < 1)).float().mean() < 0.06  # sharp edges


@pytest.mark.parametrize("size", [64, 32, 256])
def test_the_pixel_codec_round_trip(size):
    codec = PixelCodec(size=32)
    rgba = torch.rand(2, 4, 1, 1).expand(2, 4, size, size)
    latents = codec.encode(rgba)
    assert latents.shape == (2, 4, 32, 32)
    torch.testing.assert_close(
        codec.decode(latents), rgba[..., :32, :32].expand(2, 4, 32, 32), atol=1e-5, rtol=1e-5
    )


def test_an_empty_background_is_minus_one():
    assert (PixelCodec(size=8).encode(torch.zeros(1, 4, 16, 16)) == -1).all()
