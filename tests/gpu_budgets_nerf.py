"""How often one step of nerf's fit launches work on a GPU, and waits for it, counted on a make-believe one.

Run by test_make_believe_gpu.py in a process of its own.
"""

import pytest
import torch
from make_believe import make_believe_cuda

from sv3d_pipe.artifacts import Views
from sv3d_pipe.cameras import orbit, orbit_angles
from sv3d_pipe.config import NerfConfig
from sv3d_pipe.dataset.invented.toys import procedural
from sv3d_pipe.nerf import fit_field
from sv3d_pipe.nerf.field import RadianceField
from sv3d_pipe.nerf.occupancy import OccupancyGrid
from sv3d_pipe.render.draw import Light, render_views
from sv3d_pipe.road.context import Context

LAUNCHES, WAITS = 200, 2  # at most, in one step
WARM_UP, STEPS = 2, 11  # the error is read in every tenth


@pytest.fixture(scope="module")
def frames():
    cameras = orbit(*orbit_angles("sine", 10.0))[::3]
    rgba, photo = (
        render_views(procedural(125), poses, size, Light((0.3, 0.8, 0.5), 0.6))
        for poses, size in ((cameras, 64), (cameras[-1:], 96))
    )
    return Views(rgba, cameras), Views(rgba, cameras, photo)


@pytest.mark.parametrize("with_photo", [False, True])
def test_a_step_of_nerf(frames, with_photo):
    steps = []

    class Counting:
        def update(self, advance=1, metric=None):
            steps.append((card.launches.total(), card.waits.total(), card.copied.total()))
            card.reset()

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

    views = frames[with_photo]
    radius = views.cameras.visible_radius
    config = NerfConfig(steps=WARM_UP + STEPS, samples=4096)
    with make_believe_cuda() as card:
        context = Context("cuda", open_bar=lambda title, total: Counting())
        occupied = fit_field.carve(views, radius).occupied
        fit_field._fit(config, views, occupied, radius, context)
    launches, waits, copied = zip(*steps[-STEPS:])
    assert 0 < max(launches) <= LAUNCHES
    assert 0 < max(waits) <= WAITS
    assert max(copied) == 0


def test_a_look_at_the_density_does_not_wait():
    with make_believe_cuda() as card:
        grid = OccupancyGrid(torch.ones(8, 8, 8, dtype=torch.bool, device="cuda"), 0.6, 0.01)
        field = RadianceField(0.6, levels=2, table_log2=8, finest=8).to("cuda")
        grid.update(field, torch.Generator("cuda").manual_seed(0))
        card.reset()
        grid.update(field, torch.Generator("cuda").manual_seed(1))
    assert 0 < card.launches.total() <= 60
    assert not card.waits and not card.copied
