import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from sv3d_pipe.cameras import orbit_angles
from sv3d_pipe.orbit.conditioning import as_rgba, edm_scalings, pose_radians, time_ids, triangle_scales
from sv3d_pipe.orbit.sv3d.photo_input import clip_pixels, photo_on_white, sinusoid


@pytest.fixture(scope="module")
def numbers(request):
    return load_file(request.path.parent.parent / "data" / "sampler.safetensors")


@pytest.mark.parametrize("name, kind, elevation_deg", [("static10", "static", 10.0), ("sine30", "sine", 0.0)])
def test_our_orbits_are_the_reference_orbits(numbers, name, kind, elevation_deg):
    polar, azimuth = pose_radians(*orbit_angles(kind, elevation_deg, 30.0))
    np.testing.assert_allclose(polar, numbers[f"orbit.{name}.polars_rad"], atol=1e-12)
    np.testing.assert_allclose(azimuth, numbers[f"orbit.{name}.azimuths_rad"], atol=1e-12)


def test_azimuths_are_relative_to_the_last_frame(numbers):
    elevation_deg = 90 - np.degrees(numbers["orbit.irregular.polars_rad"].numpy())
    polar, azimuth = pose_radians(numbers["orbit.irregular.azimuths_deg_in"].numpy(), elevation_deg)
    np.testing.assert_allclose(azimuth, numbers["orbit.irregular.azimuths_rad"], atol=1e-12)
    assert azimuth[-1] == 0
    polar, azimuth = pose_radians([30.0, 350.0, 20.0], [0.0, 90.0, -30.0])
    np.testing.assert_allclose(np.degrees(azimuth), [10, 330, 0], atol=1e-12)
    np.testing.assert_allclose(np.degrees(polar), [90, 0, 120], atol=1e-12)


def test_condition_vectors(numbers):
    rows = [0, 7, 20]
    azimuth_deg = numbers["orbit.irregular.azimuths_deg_in"].numpy()
    elevation_deg = 90 - np.degrees(numbers["orbit.irregular.polars_rad"].numpy())
    ids = time_ids(azimuth_deg, elevation_deg, cond_aug=1e-5)[rows]  # [3, 3]
    widths = (256, 512, 512)
    vector = torch.cat([sinusoid(ids[:, k], width) for k, width in enumerate(widths)], -1)
    assert (vector - numbers["orbit.irregular.vector_p"]).abs().max() < 2e-6
    assert (sinusoid(ids[:1, 0], 256) - numbers["orbit.vector_u"]).abs().max() < 2e-6


def test_sinusoid_of_noise_levels(numbers):
    ours = sinusoid(numbers["timestep.c_noise"], 320)
    assert (ours - numbers["timestep.embedding_320"]).abs().max() < 2e-6


def test_edm_scalings(numbers):
    ours = edm_scalings(numbers["scaling.sigma"])
    for value, name in zip(ours, ("c_skip", "c_out", "c_in", "c_noise")):
        torch.testing.assert_close(value, numbers[f"scaling.{name}"], rtol=1e-6, atol=1e-7)


def test_edm_scalings_of_a_plain_number():
    c_skip, c_out, c_in, c_noise = edm_scalings(torch.tensor(2.0))  # sigma^2 + 1 = 5
    assert c_skip.item() == pytest.approx(0.2)
    assert c_out.item() == pytest.approx(-2 / 5**0.5)
    assert c_in.item() == pytest.approx(1 / 5**0.5)
    assert c_noise.item() == pytest.approx(np.log(2) / 4)


@pytest.mark.parametrize("n_frames", [5, 14, 21, 25])
def test_triangle_guidance(numbers, n_frames):
    torch.testing.assert_close(triangle_scales(n_frames, 2.5), numbers[f"guidance.triangle.{n_frames}"])


def test_triangle_peaks_in_the_middle_and_starts_at_one():
    scales = triangle_scales(21, 2.5)
    assert scales.argmax() == 10
    assert scales[[0, 1, 10, 20]].tolist() == pytest.approx([1.0, 1.15, 2.5, 1.0])
    assert triangle_scales(1, 2.5).tolist() == [1.0]


def test_photo_on_white_is_cut_to_eight_bits():
    rgba = np.zeros((2, 2, 4), np.float32)
    rgba[0, 0] = (1, 0, 0, 100 / 255)  # green: 1 - 100/255 = 155/255
    white = photo_on_white(rgba, 2)
    np.testing.assert_allclose(white[0, 0] * 255, [255, 155, 155], atol=1e-3)
    np.testing.assert_array_equal(white[1, 1], 1)


def test_photo_on_white_against_the_reference(shared_dir):
    numbers = load_file(shared_dir / "sv3d" / "golden_preprocess.safetensors")
    mask = numbers["square.rgba"][..., 3].numpy() > 0
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    side, height, width = mask.shape[0], np.ptp(rows) + 1, np.ptp(columns) + 1
    canvas = np.zeros((side, side, 4), np.uint8)  # the reference centers the object before resizing
    top, left = side // 2 - height // 2, side // 2 - width // 2
    box = numbers["square.rgba"].numpy()[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    canvas[top : top + height, left : left + width] = box
    ours = np.round(photo_on_white(as_rgba(canvas), 576) * 255).astype(int)
    difference = np.abs(ours - numbers["square.rgb"].numpy())
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.01


def test_clip_pixels_against_the_reference(shared_dir):
    numbers = load_file(shared_dir / "sv3d" / "golden_clip.safetensors")
    image = numbers["io.image_u8"].float().reshape(1, 576, 576, 3).permute(0, 3, 1, 2) / 127.5 - 1
    ours = clip_pixels(image)
    assert (ours - numbers["io.preprocessed"].reshape(ours.shape)).abs().max() < 1e-5


def test_as_rgba_reads_bytes_and_rejects_other_shapes():
    assert as_rgba(np.full((2, 2, 4), 255, np.uint8)).max() == 1.0
    with pytest.raises(ValueError, match="square with four channels"):
        as_rgba(np.zeros((2, 2, 3), np.float32))
