"""A third painter of orbits and a second reconstructor, made of nothing but the protocols that they follow."""

import contextlib
import dataclasses
import json

import numpy as np
import torch
import trimesh

from sv3d_pipe.artifacts import Mesh
from sv3d_pipe.cameras import orbit
from sv3d_pipe.errors import UserError
from sv3d_pipe.geometry.raster import rasterize
from sv3d_pipe.orbit.memory_plan import Plan
from sv3d_pipe.orbit.model import Painted


class Billiards:
    """An orbit model that paints a ball of the photo's mean color, whatever is asked, in eight frames a side of 48."""

    identity = "billiards 1"
    takes_pose = True

    def __init__(self, size: int = 48):
        self.size, self.told = size, []

    def in_use(self):
        return contextlib.nullcontext()

    def settled(self, config):
        if config.size not in (0, self.size):
            raise UserError(f"Billiards are {self.size} pixels wide, not {config.size}.")
        return dataclasses.replace(config, steps=1, guidance=1.0, size=self.size)

    def plans(self, config, device, frames, with_gradient=False):
        return (Plan(),)

    def brief(self, config, plan, context):
        context.say("Billiards need no plan.")

    def paint(self, photo, angles, config, plan, context):
        ball = trimesh.creation.icosphere(subdivisions=3, radius=0.4)
        vertices = torch.from_numpy(np.asarray(ball.vertices, np.float32))
        raster = rasterize(vertices, torch.from_numpy(np.asarray(ball.faces)), orbit(*angles), 4 * self.size)
        alpha = raster.covered.float().view(-1, self.size, 4, self.size, 4).mean((2, 4))[..., None]
        with context.bar("orbit", 1) as bar:
            bar.update(1)
        rgba = torch.cat([torch.from_numpy(mean_color(photo)).expand(*alpha.shape[:3], 3), alpha], -1)
        return Painted(rgba.numpy(), 20.0, {"balls": 1})

    def solid(self, rgba, photo, angles, config):
        return rgba

    def prior(self, photo, elevation_deg, frames, config, plan, device):
        self.told.append((elevation_deg, frames))
        return WantsColor(mean_color(photo), self.size, frames)


class WantsColor:
    """A judge that wants every pixel in one color."""

    def __init__(self, color: np.ndarray, size: int, frames: int):
        self.color, self.size, self.frames = torch.from_numpy(color), size, frames

    def encode(self, rgba):
        return (rgba[..., :3] * rgba[..., 3:] + self.color * (1 - rgba[..., 3:])).permute(0, 3, 1, 2)

    def denoise(self, noisy, sigma, azimuth_deg, elevation_deg, guidance):
        assert len(azimuth_deg) == len(elevation_deg) == len(noisy) == self.frames
        return self.color[:, None, None].expand_as(noisy)


def mean_color(photo) -> np.ndarray:
    solid = photo.rgba[..., 3] > 0.5
    return photo.rgba[solid][:, :3].mean(0).astype(np.float32)


class Clay(torch.nn.Module):
    """A reconstruction of one color, with nothing in it to fit."""

    def __init__(self, mesh: Mesh, color: list[float]):
        super().__init__()
        self.mesh, self.color = mesh, color

    def rgb(self, points):
        return torch.tensor(self.color).expand(len(points), 3) + 0 * points

    def save(self, folder):
        self.mesh.save(folder)
        (folder / "color.json").write_text(json.dumps(self.color))


class Potter:
    """A reconstructor that answers all views with a ball of their mean color."""

    identity = "potter 1"

    def fit(self, config, views, context):
        ball = trimesh.creation.icosphere(subdivisions=3, radius=0.42)
        color = views.rgba[views.rgba[..., 3] > 0.5][:, :3].mean(0)
        vertices, faces = np.asarray(ball.vertices, np.float32), np.asarray(ball.faces, np.int64)
        mesh = Mesh(vertices, faces, np.repeat(color[None], len(vertices), 0).astype(np.float32))
        return Clay(mesh, color.tolist()), {"faces": len(faces)}

    def load(self, folder):
        return Clay(Mesh.load(folder), json.loads((folder / "color.json").read_text()))
