"""Refinement of whole shapes: a sphere that is too large, disagreeing views, resuming, distillation."""

import dataclasses

import numpy as np
import pytest
import torch
import trimesh

from sv3d_pipe.artifacts import Mesh, Views
from sv3d_pipe.cameras import orbit, orbit_angles
from sv3d_pipe.config import RefineConfig
from sv3d_pipe.errors import UserError
from sv3d_pipe.geometry.raster import rasterize
from sv3d_pipe.nerf.field import RadianceField
from sv3d_pipe.refine.dmtet import largest_components
from sv3d_pipe.refine.fit_mesh import refine_from, refine_mesh
from sv3d_pipe.refine.losses import anchor_loss, color_loss, normal_loss, smooth_loss
from sv3d_pipe.refine.silhouette import Topology
from sv3d_pipe.refine.targets import view_trust
from sv3d_pipe.road.context import Checkpoint, Context

SMALL = RefineConfig(steps=30, grid=24, render=32, learning_rate=0.05, sds="off")


class Paint(torch.nn.Module):
    """One learned color everywhere."""

    def __init__(self):
        super().__init__()
        self.color = torch.nn.Parameter(torch.tensor([0.5, 0.5, 0.5]))

    def rgb(self, x):
        return self.color.expand(len(x), 3)


class Fade(Paint):
    """Colors that differ from place to place, so that they pull at every pixel's point of the surface."""

    def rgb(self, x):
        return torch.sigmoid(5 * x + self.color)


def ball(radius: float, center=(0.0, 0.0, 0.0)) -> Mesh:
    mesh = trimesh.creation.icosphere(subdivisions=3, radius=radius)
    vertices = (mesh.vertices + np.array(center)).astype(np.float32)
    return Mesh(vertices, np.asarray(mesh.faces, np.int64), np.full((len(vertices), 3), 0.5, np.float32))


def views_of(mesh: Mesh, size: int = 32) -> Views:
    """Red pictures of a mesh from eight sides; the last camera is the photo's."""
    cameras = orbit(*orbit_angles("sine", 10.0, n_frames=8))
    raster = rasterize(torch.from_numpy(mesh.vertices), torch.from_numpy(mesh.faces), cameras, size * 4)
    alpha = torch.nn.functional.avg_pool2d(raster.covered.float()[:, None], 4)[:, 0, ..., None].numpy()
    red = np.broadcast_to(np.array([0.8, 0.2, 0.1], np.float32), (*alpha.shape[:3], 3))
    rgba = np.concatenate([red, alpha], -1).astype(np.float32)
    return Views(rgba, cameras, rgba[-1:])


def mean_radius(mesh: Mesh) -> float:
    return float(np.linalg.norm(mesh.vertices, axis=-1).mean())


def test_a_sphere_shrinks_onto_the_outlines():
    config = dataclasses.replace(SMALL, steps=50, learning_rate=0.1)
    mesh, metrics = refine_from(config, ball(0.45), Paint(), views_of(ball(0.4)), Context())
    # A cell is 0.9 / 20 = 0.045 wide and a pixel of the views 0.038.
    assert mean_radius(mesh) == pytest.approx(0.4, abs=0.006)
    assert metrics["mask_iou_before"] < 0.82
    assert metrics["mask_iou"] > 0.96
    assert next(iter(metrics)) == "mask_iou"
    solid = mesh.to_trimesh()
    assert solid.is_watertight and solid.volume > 0 and solid.euler_number == 2


def test_the_field_gives_start_and_color():
    field = RadianceField(0.581, levels=4, table_log2=10, finest=32).initialize(
        torch.Generator().manual_seed(0)
    )
    field.mesh = ball(0.42)
    mesh, metrics = refine_mesh(SMALL, field, views_of(ball(0.4)), Context())
    assert metrics["refined"] and metrics["faces"] == len(mesh.faces)
    assert (
        np.abs(mesh.rgb.mean(0) - [0.8, 0.2, 0.1]).max() < np.abs(np.array([0.5] * 3) - [0.8, 0.2, 0.1]).max()
    )


def test_three_runs_on_several_threads_give_the_same_bytes():
    threads = torch.get_num_threads()
    torch.set_num_threads(4)  # what is summed by one thread alone is always summed in one order
    try:
        config = dataclasses.replace(SMALL, steps=2, grid=48, render=128, lighting=True)
        views = views_of(ball(0.4), 128)
        meshes = [refine_from(config, ball(0.43), Fade(), views, Context())[0] for _ in range(3)]
    finally:
        torch.set_num_threads(threads)
    hashes = {(m.vertices.tobytes(), m.faces.tobytes(), m.rgb.tobytes()) for m in meshes}
    assert len(hashes) == 1


def test_an_empty_surface_is_the_users_error():
    field = RadianceField(0.581, levels=4, table_log2=10, finest=32)
    nothing = Mesh(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int64), np.zeros((0, 3), np.float32))
    with pytest.raises(UserError, match="no surface"):
        field.mesh = nothing
        refine_mesh(SMALL, field, views_of(ball(0.4)), Context())


def test_a_worse_result_is_thrown_away():
    """Views that contradict the photo, no weight on the masks: only smoothing is left to act."""
    context = Context()
    start = ball(0.4)
    config = dataclasses.replace(SMALL, mask_weight=0.0, color_weight=0.0, normal_weight=5.0, steps=20)
    mesh, metrics = refine_from(config, start, Paint(), views_of(start), context)
    assert metrics["mask_iou"] >= metrics["mask_iou_before"]
    assert mesh is start and not metrics["refined"]
    assert len(context.warnings) == 1 and "kept" in context.warnings[0]


def test_views_that_disagree_do_not_break_it():
    views = views_of(ball(0.4))
    rgba = views.rgba.copy()
    rgba[::2] = views_of(ball(0.3, (0.05, 0.0, 0.0))).rgba[::2]
    rgba[3] = 0  # one empty frame
    mesh, metrics = refine_from(
        SMALL, ball(0.4), Paint(), Views(rgba, views.cameras, views.photos), Context()
    )
    assert np.isfinite(mesh.vertices).all()
    assert metrics["mask_iou"] >= metrics["mask_iou_before"]
    assert 0.28 < mean_radius(mesh) < 0.42


def test_resuming_equals_going_through(tmp_path):
    views, start = views_of(ball(0.4)), ball(0.43)
    config = dataclasses.replace(SMALL, steps=8)
    whole, _ = refine_from(config, start, Paint(), views, Context())

    class Stop(Exception):
        pass

    class StoppingCheckpoint(Checkpoint):
        saves = 0

        def save(self, state):
            super().save(state)
            self.saves += 1
            if self.saves == 5:
                raise Stop

    path = tmp_path / "refine.pt"
    with pytest.raises(Stop):
        refine_from(config, start, Paint(), views, Context(checkpoint=StoppingCheckpoint(path, every_s=0)))
    resumed, _ = refine_from(config, start, Paint(), views, Context(checkpoint=Checkpoint(path)))
    # Sums of float32 depend on memory alignment; Adam magnifies that where a gradient is almost zero.
    difference = np.abs(resumed.vertices - whole.vertices)
    assert np.quantile(difference, 0.99) < 1e-5
    assert difference.max() < 3e-3  # one step moves a vertex by up to 1e-3, eight steps were made
    np.testing.assert_allclose(resumed.rgb, whole.rgb, atol=1e-4)


class WhitePrior:
    """Wants white pictures."""

    size, frames = 16, 21
    sigmas: list

    def __init__(self):
        self.sigmas = []

    def encode(self, rgba):
        return rgba[..., :3].permute(0, 3, 1, 2)

    def denoise(self, noisy, sigma, azimuth_deg, elevation_deg, guidance=1.0):
        self.sigmas.append(sigma)
        return torch.ones_like(noisy)


def test_where_memory_ends_distillation_starts_again_with_the_next_prior():
    class Greedy(WhitePrior):
        asked = 0

        def encode(self, rgba):
            Greedy.asked += 1
            if Greedy.asked == 24:  # two frames have given the colors their gradient by then
                raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
            return super().encode(rgba)

    def refined(*priors):
        left = list(priors)
        config = dataclasses.replace(SMALL, steps=10, sds="on", sds_every=1, sds_weight=1.0)
        torch.manual_seed(0)
        mesh, metrics = refine_from(
            config, ball(0.41), Paint(), views_of(ball(0.4)), Context(), lambda: left.pop(0)
        )
        assert metrics["sds_steps"] == 2 and not left
        return mesh

    retried, plain = refined(Greedy(), WhitePrior()), refined(WhitePrior())
    np.testing.assert_array_equal(retried.vertices, plain.vertices)
    np.testing.assert_array_equal(retried.rgb, plain.rgb)


def test_distillation_runs_in_the_last_fifth_and_only_when_asked():
    prior, views = WhitePrior(), views_of(ball(0.4))
    config = dataclasses.replace(SMALL, steps=20, sds="on", sds_every=2)
    _, metrics = refine_from(config, ball(0.41), Paint(), views, Context(), lambda: prior)
    assert metrics["sds_steps"] == len(prior.sigmas) == 2  # steps 16 and 18 of 20
    _, without = refine_from(SMALL, ball(0.41), Paint(), views, Context(), lambda: pytest.fail("loaded"))
    assert without["sds_steps"] == 0


def test_losses_by_hand():
    # Two right triangles that share an edge and meet at 90 degrees: 1 - cos = 1.
    vertices = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    faces = torch.tensor([[0, 1, 2], [1, 0, 3]])
    topology = Topology.of(faces)
    assert topology.edges.shape == (1, 2)
    assert normal_loss(vertices, faces, topology).item() == pytest.approx(1.0)
    # A plane, even a tilted one, is smooth; one raised node is not.
    axis = torch.arange(9.0) - 4
    plane = (0.3 * axis[:, None, None] + 0.2 * axis[:, None] + axis).contiguous()
    assert smooth_loss(plane).item() == pytest.approx(0, abs=1e-10)
    bumped = plane.clone()
    bumped[4, 4, 4] += 1
    assert smooth_loss(bumped).item() > 1e-3
    assert anchor_loss(plane + 0.5, plane).item() == pytest.approx(0.25)
    # Half the pixels count; the error there is 0.2 in every channel.
    target = torch.ones(1, 2, 2, 4)
    target[0, 0, :, 3] = 0
    assert color_loss(torch.full((1, 2, 2, 3), 0.8), torch.ones(1, 2, 2), target).item() == pytest.approx(
        0.04
    )


def test_small_pieces_are_dropped():
    pieces = [ball(0.4), ball(0.05, (0.6, 0, 0)), ball(0.005, (0, 0.6, 0))]  # areas 1, 1/64 and 1/6400
    starts = np.cumsum([0, *(len(piece.vertices) for piece in pieces)])
    faces = np.concatenate([piece.faces + start for piece, start in zip(pieces, starts)])
    kept, dropped = largest_components(np.concatenate([piece.vertices for piece in pieces]), faces)
    assert dropped == 1
    assert len(kept) == len(faces) * 2 // 3


def test_views_are_trusted_less_the_farther_they_are_from_the_photo():
    cameras = orbit(np.array([180.0, 90.0, 10.0, 0.0]), 0.0)
    assert view_trust(cameras, 0.0) == pytest.approx([1, 1, 1])
    assert view_trust(cameras, 0.8) == pytest.approx(
        [0.2, 0.6, 1 - 0.4 * (1 - np.cos(np.radians(10)))], abs=1e-5
    )
    assert view_trust(cameras, 1.0)[0] == pytest.approx(0.01)
