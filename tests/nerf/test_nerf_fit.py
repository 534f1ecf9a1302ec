import dataclasses

import numpy as np
import pytest
import torch

from sv3d_pipe.artifacts import Field, Views
from sv3d_pipe.cameras import Cameras, orbit, orbit_angles
from sv3d_pipe.config import NerfConfig
from sv3d_pipe.errors import UserError
from sv3d_pipe.nerf.field import RadianceField
from sv3d_pipe.nerf.fit_field import fit_field
from sv3d_pipe.nerf.rays import Pictures, draw, pictures
from sv3d_pipe.road.context import Checkpoint, Context

TINY = NerfConfig(steps=300, samples=4096, levels=8, table_log2=13, finest=64, surface=40)
HALF = np.array([0.3, 0.2, 0.25])  # half sides of the box


def box_pictures(cameras: Cameras, size: int) -> np.ndarray:
    """An exact box whose faces have six flat colors; pixels are averages of 4 x 4 rays."""
    origins, directions = cameras.rays(4 * size)
    o = origins[:, None, None].astype(np.float64)
    with np.errstate(divide="ignore"):
        a, b = (-HALF - o) / directions, (HALF - o) / directions
    near, far = np.minimum(a, b), np.maximum(a, b).min(-1)
    axis, entry = near.argmax(-1), near.max(-1)
    side = np.take_along_axis(directions, axis[..., None], -1)[..., 0] < 0  # entered through the + face
    palette = np.array(
        [
            [[0.9, 0.2, 0.2], [0.2, 0.8, 0.8]],
            [[0.2, 0.8, 0.2], [0.8, 0.2, 0.8]],
            [[0.2, 0.3, 0.9], [0.9, 0.8, 0.2]],
        ]
    )
    hit = (entry < far)[..., None]
    sheet = np.concatenate([np.where(hit, palette[axis, side.astype(int)], 0), hit], -1)
    rgba = sheet.reshape(len(cameras), size, 4, size, 4, 4).mean((2, 4))
    rgba[..., :3] /= np.maximum(rgba[..., 3:], 1e-6)
    return rgba.astype(np.float32)


@pytest.fixture(scope="module")
def views() -> Views:
    cameras = orbit(*orbit_angles("sine", 10.0))
    return Views(box_pictures(cameras, 64), cameras, box_pictures(cameras[-1], 128))


@pytest.fixture(scope="module")
def fitted(views) -> tuple[Field, dict]:
    return fit_field(TINY, views, Context())


def test_a_box_is_fitted(fitted):
    field, metrics = fitted
    assert next(iter(metrics)) == "psnr_db"
    assert metrics["psnr_db"] > 26
    assert metrics["photo_psnr_db"] > 22  # of twice the views' size, and one picture among them
    assert metrics["surface"] == "fused" and metrics["components"] == 1
    mesh = field.mesh.to_trimesh()
    assert mesh.is_watertight
    assert mesh.volume == pytest.approx(8 * HALF.prod(), rel=0.2)
    outside = np.abs(mesh.vertices) - HALF  # [V, 3]
    distance = np.where(
        (outside > 0).any(-1), np.linalg.norm(np.maximum(outside, 0), axis=-1), -outside.max(-1)
    )
    assert distance.mean() < 2 * 0.6 / 64  # one cell of the finest level


def test_the_boxs_faces_have_their_colors(fitted):
    model = RadianceField.from_field(fitted[0])
    with torch.no_grad():
        front, right = model.rgb(torch.tensor([[0.0, 0.0, 0.25], [0.3, 0.0, 0.0]]))
    np.testing.assert_allclose(front, [0.9, 0.8, 0.2], atol=0.15)
    np.testing.assert_allclose(right, [0.2, 0.8, 0.8], atol=0.15)


def test_the_field_survives_saving(fitted, tmp_path):
    field, _ = fitted
    field.save(tmp_path)
    again = RadianceField.from_field(Field.load(tmp_path))
    x = torch.linspace(-0.5, 0.5, 60).reshape(20, 3)
    with torch.no_grad():
        assert torch.equal(again.sigma(x), RadianceField.from_field(field).sigma(x))


def test_one_seed_gives_one_field(views):
    short = dataclasses.replace(TINY, steps=12)
    first, second, other = (fit_field(short, views, Context(seed=seed))[0] for seed in (1, 1, 2))
    assert torch.equal(first.weights["table"], second.weights["table"])
    assert np.array_equal(first.mesh.vertices, second.mesh.vertices)
    assert not torch.equal(first.weights["table"], other.weights["table"])


class _Killed(Exception):
    pass


class _KillingBar:
    def __init__(self, after: int):
        self.left = after

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        return False

    def update(self, advance: int = 1, metric: str | None = None) -> None:
        self.left -= 1
        if self.left == 0:
            raise _Killed


def test_a_killed_fit_goes_on_and_ends_like_an_unbroken_one(views, tmp_path):
    config = dataclasses.replace(TINY, steps=90)  # long enough to pass two looks at the density
    whole, _ = fit_field(config, views, Context())

    def only_nerf(bar):  # the bars before the first step and after the last do not count
        return lambda title, total: bar if title == "nerf" else _KillingBar(-1)

    broken = Context(open_bar=only_nerf(_KillingBar(61)), checkpoint=Checkpoint(tmp_path / "state", 0))
    with pytest.raises(_Killed):
        fit_field(config, views, broken)
    advances = []
    bar = _KillingBar(-1)
    bar.update = lambda advance=1, metric=None: advances.append(advance)
    resumed = Context(open_bar=only_nerf(bar), checkpoint=Checkpoint(tmp_path / "state", 0))
    again, _ = fit_field(config, views, resumed)
    assert advances[0] == 60 and sum(advances) == 90
    assert torch.equal(again.weights["table"], whole.weights["table"])


def test_nothing_to_see_is_the_users_error(views):
    with pytest.raises(UserError, match="no object"):
        fit_field(TINY, Views(np.zeros_like(views.rgba), views.cameras), Context())


def test_rays_through_pixel_centers_are_the_cameras_rays():
    cameras = orbit(*orbit_angles("sine", 10.0))
    rgba = np.random.default_rng(0).random((21, 6, 6, 4), np.float32)
    drawn = Pictures(rgba, cameras, "cpu")
    batch = drawn.at_centers(drawn.chosen)
    origins, directions = cameras.rays(6)
    np.testing.assert_allclose(batch.directions.reshape(21, 6, 6, 3), directions, atol=1e-6)
    np.testing.assert_allclose(batch.origins.reshape(21, 6, 6, 3)[:, 2, 3], origins, atol=1e-6)
    np.testing.assert_allclose(batch.rgba[:, :3], (rgba[..., :3] * rgba[..., 3:]).reshape(-1, 3), atol=1e-6)


def test_targets_between_pixels_are_interpolated():
    ramp = np.tile((np.arange(8, dtype=np.float32) + 0.5)[None, None, :, None] / 8, (1, 8, 1, 4))
    ramp[..., 3] = 1
    camera = orbit(np.array([0.0]), 0.0)
    batch = draw([(Pictures(ramp, camera, "cpu"), 1.0)], 200, torch.Generator().manual_seed(0))
    x = 4 - batch.directions[:, 0] / batch.directions[:, 2] * camera.focal(8)  # looks along -z
    expected = (x / 8).clamp(0.5 / 8, 7.5 / 8)
    torch.testing.assert_close(batch.rgba[:, 0], expected, atol=1e-5, rtol=0)


def test_rays_are_drawn_only_where_the_frames_know_something():
    seen = np.zeros((2, 4, 4), bool)
    seen[0, :2] = True
    rgba = np.zeros((2, 4, 4, 4), np.float32)
    rgba[0, :2, :, 3] = 1
    views = Views(rgba, orbit(np.array([0.0, 90.0]), 0.0), seen=seen)
    [(drawn, _)] = pictures(views, 3.0, "cpu")
    np.testing.assert_array_equal(drawn.chosen, np.arange(8))
    batch = draw([(drawn, 1.0)], 50, torch.Generator().manual_seed(0))
    assert (batch.directions[:, 1] > 0).all()  # the upper half of the first frame


def test_the_photo_takes_the_last_frames_place_and_its_share(views):
    (frames, rest), (photo, share) = pictures(views, 3.0, "cpu")
    assert len(frames.rgba) == 20 and photo.size == 128
    assert share == pytest.approx(3 / 23) and rest == pytest.approx(20 / 23)
