"""Balls in the color of the photo, by the real prep, refine and export; a module of its own for worker processes."""

from dataclasses import replace
from pathlib import Path

from third_kinds import Billiards, Potter

from sv3d_pipe import Config, Image2Mesh, Views
from sv3d_pipe.cameras import orbit, orbit_angles
from sv3d_pipe.pipeline import photo_route
from sv3d_pipe.road.run import Route

SMALL = {
    "refine.steps": 4,
    "refine.grid": 16,
    "refine.render": 48,
    "refine.sds": "off",
    "export.faces": 500,
    "export.texture": 64,
    "export.turntable": False,
}


class Balls(Image2Mesh):
    """Spares every process the orbit stage's import of diffusers, ten seconds of a processor."""

    def __init__(self, device, reporter):
        config = Config.preset("draft").replace(SMALL)
        super().__init__(config, 23, device, reporter, model=Billiards(), reconstructor=Potter())

    def __call__(self, photo, out=None, start="prep", until="export", force_from=None):
        stages = photo_route(self.model, self.reconstructor).stages
        stages = tuple(replace(stage, work=paint) if stage.name == "orbit" else stage for stage in stages)
        return self.go(Route(photo_route().kind, stages), Path(photo), out, start, until, force_from)


def paint(road, context):
    photo, angles = road.artifact("prep"), orbit_angles("sine", 10.0)
    painted = Billiards().paint(photo, angles, road.config.orbit, None, context)
    return Views(painted.rgba, orbit(*angles), photo.rgba[None]), painted.facts
