"""Score distillation with SV3D's soft mask: the orbit model paints only what no reference view shows.

SV3D paper (arXiv 2403.12008), section 4: the gradient of the distillation is multiplied by
M = 1 - smoothstep(max_i v_i . n; 0, 0.5), where v_i points from the surface to reference camera i.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch

from sv3d_pipe.cameras import Cameras, orbit, orbit_azimuths
from sv3d_pipe.contracts import Prior
from sv3d_pipe.refine.mesh_picture import MeshPicture

SIGMA_RANGE = (0.3, 3.0)  # noise levels, drawn evenly in the logarithm; the paper gives none
GUIDANCE = 1.5

# Numbers of frames that follow each other to pictures [K, S, S, 4] and, if asked for, soft masks [K, S, S]; called
# with and without gradient.
Render = Callable[[list[int], bool], tuple[torch.Tensor, torch.Tensor | None]]


def soft_mask(points: torch.Tensor, normals: torch.Tensor, origins: torch.Tensor) -> torch.Tensor:
    """SV3D's visibility mask: 1 where no reference camera faces the surface, 0 where one does well.

    Args:
        points: [P, 3]; normals: [P, 3] unit, outward.
        origins: [N, 3] centers of the reference cameras.
    Returns:
        [P] in [0, 1]; 0.5 where the best camera sees the surface at v . n = 0.25.
    """
    toward = torch.nn.functional.normalize(origins[None] - points[:, None], dim=-1)  # [P, N, 3]
    best = (toward * normals[:, None]).sum(-1).max(-1).values
    x = (best / 0.5).clamp(0, 1)
    return 1 - x * x * (3 - 2 * x)


def soft_mask_of(picture: MeshPicture, normals: torch.Tensor, origins: torch.Tensor) -> torch.Tensor:
    """[K, S, S] soft mask of the surface seen in each pixel, 0 beside it."""
    hits = picture.hits
    mask = torch.zeros(picture.coverage.numel(), device=origins.device)
    mask = mask.index_copy(0, hits.index, soft_mask(hits.points.detach(), normals[hits.face_ids], origins))
    return mask.view_as(picture.coverage)


def random_orbit(
    photo: Cameras, frames: int, generator: torch.Generator
) -> tuple[np.ndarray, np.ndarray, Cameras]:
    """An orbit that ends at the photo's pose and swings up and down by a random sine.

    Args:
        photo: the photo's camera, N = 1.
    Returns:
        azimuth_deg [frames] and elevation_deg [frames], world angles, and their cameras.
    """
    x, y, z = photo.origins[0].astype(float)
    radius = math.sqrt(x * x + y * y + z * z)
    azimuth, elevation = math.degrees(math.atan2(x, z)), math.degrees(math.asin(y / radius))
    turn = orbit_azimuths(frames)
    draw = torch.rand(3, generator=generator, device=generator.device).tolist()
    swing = (
        (10 + 50 * draw[0]) * np.sin(np.radians((1 + int(2 * draw[1])) * turn)) * (1 if draw[2] < 0.5 else -1)
    )
    azimuth_deg = (azimuth + turn) % 360
    elevation_deg = np.clip(elevation + swing, -89, 89)
    return azimuth_deg, elevation_deg, orbit(azimuth_deg, elevation_deg, radius, photo.fov_deg)


def random_sigma(generator: torch.Generator) -> float:
    """A noise level of SIGMA_RANGE."""
    low, high = (math.log(sigma) for sigma in SIGMA_RANGE)
    return math.exp(low + (high - low) * float(torch.rand((), generator=generator, device=generator.device)))


@torch.no_grad()
def latent_gradient(
    latents: torch.Tensor,
    prior: Prior,
    sigma: float,
    azimuth_deg: np.ndarray,
    elevation_deg: np.ndarray,
    generator: torch.Generator,
) -> torch.Tensor:
    """Derivative of half the mean squared distance from the latents [T, C, h, w] to their denoised selves.

    With the estimate D of the clean latents, noise error = (z - D) / sigma; this is the SDS gradient
    with weight sigma, and the estimate counts as a constant.
    """
    noise = torch.randn(latents.shape, generator=generator, device=generator.device).to(latents)
    clean = prior.denoise(latents + sigma * noise, sigma, azimuth_deg, elevation_deg, GUIDANCE)
    return (latents - clean) / latents.numel()


def distill(
    render: Render,
    prior: Prior,
    angles: tuple[np.ndarray, np.ndarray],
    sigma: float,
    weight: float,
    generator: torch.Generator,
) -> float:
    """Add the soft-masked SDS gradient to the leaves that `render` depends on.

    Holds the graph of one frame at a time: frames are drawn and encoded without gradient, the model
    is asked once, then every frame is drawn and encoded again and receives its part of the gradient.

    Args:
        angles: azimuth_deg [T] and elevation_deg [T] of the frames.
        weight: factor of the gradient.
    Returns:
        Root mean square of the step the model asks for, in latent units.
    """
    frames = len(angles[0])
    with torch.no_grad():
        rgba, _ = render(list(range(frames)), False)
        latents = torch.cat([prior.encode(rgba[i : i + 1]) for i in range(frames)])
    gradient = latent_gradient(latents, prior, sigma, *angles, generator)
    for i in range(frames):
        image, mask = render([i], True)
        leaf = image.detach().requires_grad_()
        (pull,) = torch.autograd.grad(prior.encode(leaf), leaf, weight * gradient[i : i + 1])
        image.backward(pull * mask.detach()[..., None])
    return float(gradient.square().mean().sqrt() * latents.numel())


def distill_reference(
    render: Render,
    prior: Prior,
    angles: tuple[np.ndarray, np.ndarray],
    sigma: float,
    weight: float,
    generator: torch.Generator,
) -> float:
    """The plain twin of :func:`distill`: all frames' graphs at once."""
    image, mask = render(list(range(len(angles[0]))), True)
    image.register_hook(lambda pull: pull * mask.detach()[..., None])
    latents = prior.encode(image)
    gradient = latent_gradient(latents.detach(), prior, sigma, *angles, generator)
    (latents * (weight * gradient)).sum().backward()
    return float(gradient.square().mean().sqrt() * latents.numel())
