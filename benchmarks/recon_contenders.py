"""The kernels that benchmarks/recon.py compares: ours, and the same work done in other ways.

Work that a contender can do beforehand (rays, lists of tetrahedra) is done before the clock starts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import torch
from recon_rounds import Comparison, Contender, timed

from sv3d_pipe.artifacts import Mesh, Views
from sv3d_pipe.cameras import Cameras
from sv3d_pipe.config import NerfConfig
from sv3d_pipe.geometry.hull import carve
from sv3d_pipe.geometry.raster import rasterize
from sv3d_pipe.geometry.tets import (
    _COUNTS,
    _TABLE,
    TET_EDGES,
    TetGrid,
    marching_tetrahedra,
    marching_tetrahedra_reference,
)
from sv3d_pipe.nerf.fit_field import MARGIN, STEPS_ACROSS
from sv3d_pipe.nerf.fusion import hull_sdf, triangulate
from sv3d_pipe.nerf.hashgrid import Layout, encode, encode_reference
from sv3d_pipe.nerf.march import march
from sv3d_pipe.nerf.rays import Pictures
from sv3d_pipe.refine.dmtet import DeformableSolid

FIRST_SEED = 1000
JITTER = 0.2  # cells by which the nodes of a changed mesh move


def hash_grid(config: NerfConfig, views: Views, with_points: bool) -> Comparison:
    """One encoding and its gradient at the samples of a fit's first step.

    Args:
        with_points: the gradient of the positions too, as refine's colors need it.
    """
    layout = Layout.geometric(config.levels, config.table_log2, min(16, config.finest), config.finest)
    generator = torch.Generator().manual_seed(0)
    points = _samples(config, views, generator)
    table = torch.randn(layout.rows, 2, generator=generator).requires_grad_()
    upstream = torch.randn(len(points), layout.width, generator=generator)
    leaves = [table, points.requires_grad_()] if with_points else [table]

    def step(function: Callable) -> Callable[[int], tuple[torch.Tensor, ...]]:
        def work(_: int) -> tuple[torch.Tensor, ...]:
            out = function(points, table, layout)
            return (out.detach(), *torch.autograd.grad(out, leaves, upstream))

        return work

    def agree(results: dict[str, Any]) -> str:
        pairs = zip(results["ours"], results["plain torch"])
        error = max(float((a - b).norm() / b.norm()) for a, b in pairs)
        return f"Relative difference {error:.1e}"

    ways = {"ours": encode, "plain torch": encode_reference}
    title = f"hash grid, forward and backward{' to the points too' * with_points}: {len(points)} points, "
    title += f"{config.levels} levels of 2^{config.table_log2}"
    return Comparison(title, tuple(Contender(n, timed(step(f))) for n, f in ways.items()), agree, {})


def _samples(config: NerfConfig, views: Views, generator: torch.Generator) -> torch.Tensor:
    """About ``config.samples`` points [S, 3] in [0, 1] along random rays through the visual hull."""
    radius = views.cameras.visible_radius * MARGIN
    hull = torch.from_numpy(carve(views, radius).occupied)
    step, found, count = 2 * radius / STEPS_ACROSS, [], 0
    drawn = Pictures(views.rgba, views.cameras, "cpu")
    while count < config.samples:
        origins, directions, *_ = drawn.draw(256, generator)
        jitter = torch.rand(256, generator=generator)
        samples = march(origins, directions, hull, radius, step, jitter)
        found.append(samples.points(origins, directions) * (0.5 / radius) + 0.5)
        count += len(samples)
    return torch.cat(found)[: config.samples].clamp(0, 1)


def hull_solid(views: Views, cells: int) -> DeformableSolid:
    """The visual hull of the views as refine would start from it."""
    radius = views.cameras.visible_radius * MARGIN
    vertices, faces = triangulate(*hull_sdf(carve(views, radius).occupied, radius))
    return DeformableSolid(Mesh(vertices, faces, np.full_like(vertices, 0.5)), cells)


def rasterizer(solid: DeformableSolid, cameras: Cameras, size: int) -> Comparison:
    """Which triangle does each pixel see, of a mesh whose vertices are others in every round."""
    vertices, faces = (tensor.detach() for tensor in solid.surface())
    origins, directions = cameras.rays(size)
    rays = np.broadcast_to(origins[:, None, None], directions.shape).reshape(-1, 3), directions.reshape(-1, 3)
    rays = tuple(np.ascontiguousarray(a, np.float32) for a in rays)

    def changed(number: int) -> torch.Tensor:
        noise = torch.rand(vertices.shape, generator=torch.Generator().manual_seed(FIRST_SEED + number))
        return vertices + JITTER * solid.grid.cell * (noise - 0.5)

    def ours(vertices: torch.Tensor) -> np.ndarray:
        return rasterize(vertices, faces, cameras, size).face_ids.numpy().reshape(-1)

    def single(vertices: torch.Tensor) -> np.ndarray:
        threads = numba.get_num_threads()
        numba.set_num_threads(1)
        try:
            return ours(vertices)
        finally:
            numba.set_num_threads(threads)

    ways, missing = {"ours": ours, "ours, 1 thread": single}, {}
    try:
        ways |= _embree(rays, faces.numpy())
    except ImportError as error:
        missing["embree"] = f"{error}; install it with `pip install embreex`"

    def agree(results: dict[str, Any]) -> str:
        others = [name for name in results if name.startswith("embree")]
        same = [f"{np.mean(results[name] == results['ours']):.2%} as {name}" for name in others]
        return f"The same triangle in {', '.join(same)} of the pixels" if same else "Nothing to compare with"

    title = f"rasterizer: {len(cameras)} pictures of {size} px, {len(faces)} triangles, new in every round"
    return Comparison(title, tuple(Contender(n, timed(f, changed)) for n, f in ways.items()), agree, missing)


def _embree(rays: tuple[np.ndarray, np.ndarray], faces: np.ndarray) -> dict[str, Callable]:
    """Ways from vertices to face ids, the scene built anew. Embree's Python wrapper uses one thread.

    Trimesh's gives nothing else; the bare one distances and barycentrics too, as ours.
    """
    import trimesh
    from embreex import rtcore_scene
    from embreex.mesh_construction import TriangleMesh
    from trimesh.ray.ray_pyembree import RayMeshIntersector

    def through_trimesh(vertices: torch.Tensor) -> np.ndarray:
        mesh = trimesh.Trimesh(vertices.numpy(), faces, process=False)
        return RayMeshIntersector(mesh).intersects_first(*rays)

    def bare(vertices: torch.Tensor) -> np.ndarray:
        scene = rtcore_scene.EmbreeScene()
        TriangleMesh(scene, vertices.numpy(), faces.astype(np.int32))
        return scene.run(*rays, output=True)["primID"]

    return {"embree by trimesh": through_trimesh, "embree bare": bare}


def marching(solid: DeformableSolid) -> Comparison:
    """The surface of a distance that is another in every round, and its gradient in nodes and distances."""
    grid = solid.grid
    tets = grid.tetrahedra()

    def changed(number: int) -> tuple[torch.Tensor, torch.Tensor]:
        noise = torch.randn(len(solid.sdf), generator=torch.Generator().manual_seed(FIRST_SEED + number))
        sdf = solid.values().detach() + 0.05 * noise
        return solid.nodes.clone().requires_grad_(), sdf.requires_grad_()

    def step(function: Callable) -> Callable[[tuple], tuple[torch.Tensor, ...]]:
        def work(leaves: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, ...]:
            vertices, faces = function(*leaves)
            return (vertices.detach(), faces, *torch.autograd.grad(vertices.square().sum(), leaves))

        return work

    ways = {
        "ours": lambda nodes, sdf: marching_tetrahedra(grid, nodes, sdf),
        "dense": lambda nodes, sdf: march_dense(tets, nodes, sdf),
        "dense, sorts all": lambda nodes, sdf: marching_tetrahedra_reference(grid, nodes, sdf),
    }

    def agree(results: dict[str, Any]) -> str:
        ours, faces = results["ours"][:2]
        if any((len(r[0]), len(r[1])) != (len(ours), len(faces)) for r in results.values()):
            return "DIFFERENT SURFACES"
        error = max(float((r[0] - ours).abs().max()) for r in results.values())
        return f"{len(ours)} vertices, largest difference {error:.1e}; {len(faces)} triangles each"

    title = f"marching tetrahedra, forward and backward: {len(tets)} tetrahedra, {_cells(grid)} cubes"
    return Comparison(title, tuple(Contender(n, timed(step(f), changed)) for n, f in ways.items()), agree, {})


def _cells(grid: TetGrid) -> str:
    return " x ".join(str(count) for count in grid.cells)


def march_dense(
    tets: torch.Tensor, nodes: torch.Tensor, sdf: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The zero surface for any list of tetrahedra: all are looked at, crossed edges found by sorting.

    Args:
        tets: [T, 4] nodes of tetrahedra of positive volume.
        nodes: [P, 3]; sdf: [P], negative inside.
    Returns:
        vertices [V, 3] in the order of :func:`marching_tetrahedra` on a grid's nodes, and faces [F, 3];
        quadrilaterals may be cut along their other diagonal.
    """
    case = ((sdf.detach() < 0)[tets].long() << torch.arange(4)).sum(-1)  # [T]
    counts = torch.from_numpy(_COUNTS)[case]
    active = counts.nonzero()[:, 0]
    tets, case, counts = tets[active], case[active], counts[active]
    edges = tets[:, torch.tensor(TET_EDGES)].sort(-1).values  # [A, 6, 2]
    keys = edges[..., 0] * len(sdf) + edges[..., 1]
    tet, which = (counts[:, None] > torch.arange(2)).nonzero(as_tuple=True)  # [F]
    local = torch.from_numpy(_TABLE)[case[tet], which]  # [F, 3] edges of the tetrahedron
    used, faces = torch.unique(keys[tet[:, None], local], return_inverse=True)
    a, b = used // len(sdf), used % len(sdf)
    share = (sdf[a] / (sdf[a] - sdf[b]))[:, None]
    return nodes[a] + share * (nodes[b] - nodes[a]), faces
