"""Orbits, cameras and rays: the one page of conventions.

World: glTF axes, right-handed, +y up, +z towards the viewer of the photo, object at the origin.
Azimuth 0 puts the camera on +z; growing azimuth moves it towards +x, counter-clockwise seen from
above. Elevation is positive when the camera is above the object.
``c2w`` is 4x4 with OpenGL camera axes: x right, y up, z back (the camera looks along -z).
Images are square; row 0 is the top; pixel centers lie at +0.5.
An orbit has 21 frames and the photo is its LAST frame (azimuth 360 = 0).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

N_FRAMES = 21
FOV_DEG = 33.8  # SV3D paper, section 3
RADIUS = 2.0  # SV3D's own units: the visible sphere then has radius RADIUS * sin(FOV / 2) = 0.581


@dataclass(frozen=True)
class Cameras:
    """N pinhole cameras with one field of view.

    Attributes:
        c2w: [N, 4, 4] float32 camera-to-world matrices.
        fov_deg: full field of view of the square image, in degrees.
    """

    c2w: np.ndarray
    fov_deg: float = FOV_DEG

    def __post_init__(self):
        if self.c2w.ndim != 3 or self.c2w.shape[1:] != (4, 4):
            raise ValueError(f"c2w must have shape [N, 4, 4], got {self.c2w.shape}")

    def __len__(self) -> int:
        return len(self.c2w)

    def __iter__(self) -> Iterator[Cameras]:
        """The cameras one by one."""
        return (self[n] for n in range(len(self)))

    def __getitem__(self, index) -> Cameras:
        """The cameras chosen by a slice, a list or a boolean mask (an int gives one camera, N = 1)."""
        chosen = [index] if isinstance(index, (int, np.integer)) else index
        cameras = Cameras(self.c2w[chosen], self.fov_deg)
        if "w2c" in self.__dict__:  # inverted before
            cameras.__dict__["w2c"] = self.w2c[chosen]
        return cameras

    def equals(self, other: Cameras) -> bool:
        """Whether these are the same cameras, to the last digit."""
        return self.fov_deg == other.fov_deg and np.array_equal(self.c2w, other.c2w)

    @property
    def origins(self) -> np.ndarray:
        """[N, 3] camera centers in world space."""
        return self.c2w[:, :3, 3]

    @cached_property
    def w2c(self) -> np.ndarray:
        """[N, 4, 4] world-to-camera matrices."""
        return np.linalg.inv(self.c2w).astype(np.float32)

    def focal(self, size: int) -> float:
        """Focal length in pixels of a size x size image."""
        return 0.5 * size / np.tan(np.radians(self.fov_deg) / 2)

    def rays(self, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Rays through all pixel centers.

        Returns:
            origins [N, 3] and unit directions [N, size, size, 3], float32, world space.
        """
        u = (np.arange(size) + 0.5 - size / 2) / self.focal(size)
        x, y = np.meshgrid(u, -u)  # [size, size]
        camera = np.stack([x, y, -np.ones_like(x)], -1)
        camera /= np.linalg.norm(camera, axis=-1, keepdims=True)
        world = np.einsum("nij,hwj->nhwi", self.c2w[:, :3, :3], camera)
        return self.origins, world.astype(np.float32)

    def project(self, points: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
        """World points to pixels.

        Args:
            points: [P, 3] world coordinates.
            size: image side in pixels.
        Returns:
            xy [N, P, 2] pixel coordinates (pixel centers at +0.5, y down) and depth [N, P] along
            the viewing axis (positive in front of the camera).
        """
        w2c = self.w2c
        camera = points @ w2c[:, :3, :3].transpose(0, 2, 1) + w2c[:, None, :3, 3]
        depth = -camera[..., 2]
        scale = self.focal(size) / depth
        xy = np.stack([camera[..., 0] * scale, -camera[..., 1] * scale], -1) + size / 2
        return xy, depth

    def on(self, device: str | torch.device) -> CameraTensors:
        """The same cameras for work in torch on a device; copied there once."""
        import torch

        there = self.__dict__.setdefault("there", {})  # device -> CameraTensors
        if str(device) not in there:
            matrices = (
                torch.from_numpy(matrix).to(device, non_blocking=True) for matrix in (self.c2w, self.w2c)
            )
            there[str(device)] = CameraTensors(*matrices, self.fov_deg)
        return there[str(device)]

    def followed_by(self, other: Cameras) -> Cameras:
        """These cameras and then the others, of the same field of view."""
        if other.fov_deg != self.fov_deg:
            raise ValueError(f"fields of view differ: {self.fov_deg} and {other.fov_deg} degrees")
        joined = Cameras(np.concatenate([self.c2w, other.c2w]), self.fov_deg)
        joined.__dict__["w2c"] = np.concatenate([self.w2c, other.w2c])
        return joined

    @property
    def visible_radius(self) -> float:
        """Radius of the largest sphere around the origin that every camera sees whole."""
        distance = np.linalg.norm(self.origins, axis=-1)
        return float(distance.min() * np.sin(np.radians(self.fov_deg) / 2))


@dataclass(frozen=True)
class CameraTensors:
    """The torch twin of :class:`Cameras`: rays through single points of pictures, and projection with a gradient.

    Attributes:
        c2w, w2c: [N, 4, 4]. fov_deg: as in :class:`Cameras`.
    """

    c2w: torch.Tensor
    w2c: torch.Tensor
    fov_deg: float

    @property
    def origins(self) -> torch.Tensor:
        """[N, 3] camera centers in world space."""
        return self.c2w[:, :3, 3]

    def focal(self, size: int) -> float:
        """Focal length in pixels of a size x size image."""
        return float(0.5 * size / np.tan(np.radians(self.fov_deg) / 2))

    def rays(
        self, view: torch.Tensor, x: torch.Tensor, y: torch.Tensor, size: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Origins and unit directions [R, 3] of rays through pixel coordinates x, y of views [R].

        Args:
            x, y: [R] with pixel centers at +0.5, y down. size: image side in pixels.
        """
        import torch

        focal = self.focal(size)
        local = torch.stack([x - size / 2, size / 2 - y, torch.full_like(x, -focal)], -1)
        c2w = self.c2w[view]  # [R, 4, 4]
        directions = torch.einsum("rij,rj->ri", c2w[:, :3, :3], local)
        return c2w[:, :3, 3], directions / directions.norm(dim=-1, keepdim=True)

    def project(self, points: torch.Tensor, size: int) -> tuple[torch.Tensor, torch.Tensor]:
        """World points [P, 3] to pixels [N, P, 2] and depths [N, P], see :meth:`Cameras.project`; differentiable."""
        import torch

        local = points @ self.w2c[:, :3, :3].mT + self.w2c[:, None, :3, 3]  # [N, P, 3]
        depth = -local[..., 2:]
        xy = torch.cat([local[..., :1], -local[..., 1:2]], -1) * (self.focal(size) / depth) + size / 2
        return xy, depth[..., 0]


def orbit(
    azimuth_deg: np.ndarray, elevation_deg: np.ndarray, radius: float = RADIUS, fov_deg: float = FOV_DEG
) -> Cameras:
    """Cameras on a sphere around the origin, looking at it, +y up.

    Args:
        azimuth_deg: [N] degrees; 0 is +z, 90 is +x.
        elevation_deg: [N] or scalar degrees in (-90, 90).
        radius: distance to the origin.
    """
    azimuth = np.radians(np.asarray(azimuth_deg, np.float64))
    elevation = np.radians(np.broadcast_to(np.asarray(elevation_deg, np.float64), azimuth.shape))
    back = np.stack(
        [np.cos(elevation) * np.sin(azimuth), np.sin(elevation), np.cos(elevation) * np.cos(azimuth)], -1
    )  # [N, 3] from the origin to the camera
    right = np.stack([np.cos(azimuth), np.zeros_like(azimuth), -np.sin(azimuth)], -1)
    c2w = np.tile(np.eye(4), (len(azimuth), 1, 1))
    c2w[:, :3, :3] = np.stack([right, np.cross(back, right), back], -1)
    c2w[:, :3, 3] = radius * back
    return Cameras(c2w.astype(np.float32), fov_deg)


def orbit_azimuths(n_frames: int = N_FRAMES) -> np.ndarray:
    """[n_frames] degrees, evenly spaced, ending at 0 (the photo): 360/21, 720/21, ..., 0 for 21."""
    return np.arange(1, n_frames + 1) * (360.0 / n_frames) % 360.0


def orbit_angles(
    kind: str,
    elevation_deg: float,
    amplitude_deg: float = 30.0,
    n_frames: int = N_FRAMES,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Azimuths and elevations of an orbit whose last frame is the photo.

    Args:
        kind: "static" keeps the photo's elevation; "sine" adds amplitude * sin(azimuth)
            (SV3D paper, section 4: amplitude 30 reconstructs best); "dynamic" is a random one.
        elevation_deg: elevation of the photo.
        amplitude_deg: of the sine. seed: of the dynamic orbit.
    Returns:
        azimuth_deg [n_frames] in [0, 360) and elevation_deg [n_frames], clamped to +-89.
    """
    if kind == "dynamic":
        return dynamic_angles(elevation_deg, n_frames, seed)
    azimuth_deg = orbit_azimuths(n_frames)
    swing = {"static": 0.0, "sine": amplitude_deg}[kind]
    return azimuth_deg, sine_elevations(azimuth_deg, elevation_deg, swing)


def sine_elevations(azimuth_deg: np.ndarray, elevation_deg: float, amplitude_deg: float) -> np.ndarray:
    """[N] elevation + amplitude * sin(azimuth) in degrees, clamped to +-89."""
    return np.clip(elevation_deg + amplitude_deg * np.sin(np.radians(azimuth_deg)), -89.0, 89.0)


def dynamic_angles(elevation_deg: float, n_frames: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A random orbit as SV3D was trained on: uneven steps, elevations that rise and fall smoothly.

    Four points per frame are drawn. Their elevations are the photo's plus 84 sines (1 to 4 whole periods,
    amplitude 0.5 to 10 degrees, either sign), smoothed over five points, drawn again until the camera
    stays within 90 degrees; their azimuths grow by random steps and stop just short of 360. Every fourth
    point is a frame. With the same seed of NumPy's legacy generator, these are the released demo's angles.

    Returns:
        azimuth_deg [n_frames] in [0, 360) and elevation_deg [n_frames], clamped to +-89; the last
        frame is the photo: azimuth 0 and the elevation given.
    """
    rng = np.random.RandomState(seed)
    count = 4 * n_frames
    turn = 2 * np.pi * np.arange(count) / count
    for _ in range(1000):  # near the poles no draw stays below 90 degrees; then the clamp decides
        waves = np.zeros(count)
        for _ in range(84):
            periods, amplitude, phase = rng.randint(1, 5), rng.uniform(0.5, 10), rng.choice([0, np.pi])
            waves += amplitude * np.sin(periods * turn + phase)
        elevation = elevation_deg + np.convolve(np.pad(waves, 2, mode="wrap"), np.full(5, 0.2), "valid")
        steps = rng.uniform(0, 2, count - 1)
        steps *= (360 - 360 / count * rng.uniform(0, 2)) / steps.sum()
        if np.abs(elevation).max() < 90:
            break
    azimuth = np.concatenate([[0.0], np.cumsum(steps)])
    return np.roll(azimuth[::4], -1), np.clip(np.roll(elevation[::4], -1), -89.0, 89.0)


def save_transforms(
    path: Path,
    cameras: Cameras,
    size: int,
    names: list[str],
    masks: list[str] | None = None,
    to_world: np.ndarray | None = None,
) -> None:
    """Write cameras as a nerfstudio / instant-ngp ``transforms.json``.

    Args:
        masks: of each frame, the file that is white where its pixels are known (nerfstudio's mask_path).
        to_world: [4, 4] similarity that brought a capture here, kept as nerfstudio's applied_transform
            (without the scale) and applied_scale.
    """
    document = {
        "camera_model": "OPENCV",
        "camera_angle_x": float(np.radians(cameras.fov_deg)),
        "fl_x": cameras.focal(size),
        "fl_y": cameras.focal(size),
        "cx": size / 2,
        "cy": size / 2,
        "w": size,
        "h": size,
        "frames": [
            {"file_path": name, "transform_matrix": c2w.tolist()} for name, c2w in zip(names, cameras.c2w)
        ],
    }
    for frame, mask in zip(document["frames"], masks or ()):
        frame["mask_path"] = mask
    if to_world is not None:
        scale = float(np.cbrt(np.linalg.det(to_world[:3, :3])))
        document |= {"applied_transform": (to_world[:3] / scale).tolist(), "applied_scale": scale}
    path.write_text(json.dumps(document, indent=1))


def load_transforms(path: Path) -> tuple[Cameras, list[str]]:
    """Read what :func:`save_transforms` wrote: the cameras and each frame's file name.

    Foreign files go through :func:`sv3d_pipe.capture.transforms.read_frames`.
    """
    document = json.loads(path.read_text())
    c2w = np.array([frame["transform_matrix"] for frame in document["frames"]], np.float32)
    fov_deg = float(np.degrees(document["camera_angle_x"]))
    return Cameras(c2w, fov_deg), [frame["file_path"] for frame in document["frames"]]


def load_to_world(path: Path) -> np.ndarray | None:
    """The ``to_world`` [4, 4] that :func:`save_transforms` kept; None if there was none."""
    document = json.loads(path.read_text())
    if "applied_transform" not in document:
        return None
    return np.vstack([document["applied_scale"] * np.array(document["applied_transform"]), [0, 0, 0, 1]])
