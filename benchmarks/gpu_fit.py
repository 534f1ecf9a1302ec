"""Sections of benchmarks/gpu.py: nerf and refine at the paper's numbers of steps, and what their steps are made of."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch
from gpu_watch import Bench, Steps, parts
from recon_contenders import hull_solid
from recon_fit import torch_backend
from recon_stages import HARMLESS

from sv3d_pipe.cameras import Cameras
from sv3d_pipe.config import Config
from sv3d_pipe.errors import Cancelled
from sv3d_pipe.geometry.raster import visible_faces
from sv3d_pipe.geometry.tets import marching_tetrahedra
from sv3d_pipe.nerf import field as field_module
from sv3d_pipe.nerf import fit_field
from sv3d_pipe.nerf.field import RadianceField
from sv3d_pipe.nerf.hashgrid import Layout, encode, encode_reference
from sv3d_pipe.refine import fit_mesh, mesh_picture
from sv3d_pipe.refine.dmtet import DeformableSolid
from sv3d_pipe.refine.fit_mesh import refine_mesh
from sv3d_pipe.refine.silhouette import Outline
from sv3d_pipe.refine.surface_hits import Touched
from sv3d_pipe.road.context import Context

NERF_PARTS = [
    (fit_field, name) for name in ("carve", "find_depths", "find_hollow", "optimize", "psnr", "extract")
]
NERF_STEP_PARTS = [(fit_field, "march"), (fit_field, "composite"), (field_module, "encode")]
REFINE_STEP_PARTS = [
    (DeformableSolid, "surface"), (fit_mesh, "draw"), (fit_mesh, "normal_loss"), (fit_mesh, "smooth_loss"),
    (mesh_picture, "visible_faces"), (Outline, "of"), (Outline, "coverage"), (Touched, "of"), (Touched, "hits"),
]  # fmt: skip
LOOKED_AT = 10  # steps whose parts are clocked
PROFILED = 3
ALLOWED_S = 70
TINY = {
    "nerf.levels": 4,
    "nerf.samples": 4096,
    "nerf.surface": 32,
    "refine.grid": 24,
    "refine.views_per_step": 2,
}


def settings(bench: Bench, nerf_steps: int = 600, refine_steps: int = 1000, **refine: Any) -> Config:
    """The draft preset at the paper's numbers of steps and size; few steps if tiny."""
    steps = {"nerf.steps": nerf_steps, "refine.steps": refine_steps}
    if bench.tiny:
        steps = {name: min(count, 30) for name, count in steps.items()} | TINY
    values = {"refine.render": bench.size, "refine.sds": "on", "refine.sds_weight": HARMLESS}
    return Config.preset("draft").replace(values | steps | {f"refine.{k}": v for k, v in refine.items()})


def road(bench: Bench) -> None:
    """One object's true views through nerf and refine with the paper's numbers of steps, without distillation."""
    config = settings(bench)
    steps = Steps(bench.device)
    with parts(bench, NERF_PARTS) as spent:
        (bench.field, metrics), row = bench.peak(
            lambda: fit_field.fit_field(config.nerf, bench.views, steps.context)
        )
    bench.found["nerf"] = row["s"]
    bench.log.say(
        "nerf", steps=config.nerf.steps, size=bench.size, **row, step_ms=steps.bars["nerf"].median_ms(),
        parts_s=rounded(spent), psnr_db=round(metrics["psnr_db"], 2),
    )  # fmt: skip
    refine(bench, config)
    seconds = bench.found["nerf"] + bench.found["refine"]
    bench.log.say("nerf and refine", s=round(seconds, 1), allowed_s=ALLOWED_S)


def refine(bench: Bench, config: Config) -> None:
    """The refine stage; cut off, and its seconds extrapolated, where it would take half of what is left."""
    steps = Steps(bench.device, seconds=bench.left_s / 2)
    start = RadianceField.from_field(bench.field)
    with parts(bench, [(fit_mesh, "score")]) as spent:
        try:
            (_, metrics), row = bench.peak(
                lambda: refine_mesh(config.refine, start, bench.views, steps.context)
            )
        except Cancelled:
            step_ms, done = steps.bars["refine"].median_ms(), steps.bars["refine"].done
            row, metrics = {"s": 1e-3 * step_ms * config.refine.steps}, f"cut off after {done} steps"
    bench.found["refine"] = row["s"]
    bench.log.say(
        "refine", steps=config.refine.steps, size=bench.size, **row, step_ms=steps.bars["refine"].median_ms(),
        parts_s=rounded(spent), metrics=metrics,
    )  # fmt: skip


def rounded(spent: dict[str, float], factor: float = 1.0) -> dict[str, float]:
    return {name: round(seconds * factor, 3) for name, seconds in spent.items()}


class Looks(contextlib.ExitStack):
    """Clocks the parts of some steps of a fit, then counts the waits of others, then profiles a few.

    Attributes:
        before: for :class:`Steps`.
        spent, counted: seconds by part and waits by line, of ``LOOKED_AT`` steps each.
        launches: kernels per step; None without a GPU.
    """

    def __init__(self, bench: Bench, stage: str, functions: list):
        super().__init__()
        self.bench, self.stage, self.functions = bench, stage, functions
        self.launches: int | None = None
        first = LOOKED_AT // 2
        self.before = {
            first: self._clock,
            first + LOOKED_AT: self._count,
            first + 2 * LOOKED_AT: self._profile,
            first + 2 * LOOKED_AT + PROFILED: self.close,
        }

    def _clock(self) -> None:
        self.spent = self.enter_context(parts(self.bench, self.functions))

    def _count(self) -> None:
        self.close()
        self.counted = self.enter_context(self.bench.waits())

    def _profile(self) -> None:
        self.close()
        if self.bench.cuda:
            self.enter_context(self._profiled())

    @contextlib.contextmanager
    def _profiled(self) -> Iterator[None]:
        from torch.profiler import ProfilerActivity, profile

        with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as found:
            yield
            self.bench.sync()
        events = found.key_averages()
        table = events.table(sort_by="self_cuda_time_total", row_limit=60)
        self.bench.log.beside(f"{self.stage}_profile.txt").write_text(table)
        launches = sum(event.count for event in events if "LaunchKernel" in event.key)
        self.launches = round(launches / PROFILED)


def steps(bench: Bench) -> None:
    """Steps of nerf and refine: parts of a step, waits by line, a profile."""
    config = settings(bench, nerf_steps=60, refine_steps=40)
    look_at_steps(bench, "nerf", NERF_STEP_PARTS, lambda c: fit_field.fit_field(config.nerf, bench.views, c))

    def refined(context: Context) -> None:
        refine_mesh(config.refine, RadianceField.from_field(bench.field), bench.views, context)

    look_at_steps(bench, "refine", REFINE_STEP_PARTS, refined)


def look_at_steps(bench: Bench, stage: str, functions: list, work: Callable[[Context], Any]) -> None:
    """Rows about some steps of a stage, each look in steps of its own."""
    looks = Looks(bench, stage, functions)
    with looks:
        work(Steps(bench.device, stage, looks.before).context)
    count = LOOKED_AT
    bench.log.say(f"{stage}, ms per step by part", **rounded(looks.spent, 1e3 / count))
    lines = {line: waits / count for line, waits in looks.counted.most_common()}
    bench.log.say(f"{stage}, waits per step", total=sum(lines.values()), lines=lines)
    if looks.launches is not None:
        bench.log.say(f"{stage}, launches per step", kernels=looks.launches)


def against_torch(bench: Bench) -> None:
    """Steps of nerf and refine, and operations, beside the plain torch path in the same run."""
    config = settings(bench, nerf_steps=120, refine_steps=40)
    rows = {}
    for name, backend in {"ours": contextlib.nullcontext, "plain": plain_path}.items():
        steps = Steps(bench.device)
        with backend():
            found = fit_field.fit_field(config.nerf, bench.views, steps.context)[0]
            refine_mesh(config.refine, RadianceField.from_field(found), bench.views, steps.context)
        rows[name] = {title: steps.bars[title].median_ms() for title in ("nerf", "refine")}
    for title in ("nerf", "refine"):
        ours, plain = rows["ours"][title], rows["plain"][title]
        bench.log.say(f"{title}, ms per step", ours=ours, plain=plain, plain_by_ours=round(plain / ours, 2))
    operations(bench)


@contextlib.contextmanager
def plain_path() -> Iterator[None]:
    """nerf and the colors by the references in plain torch, the z-buffer by numba on the CPU."""
    with torch_backend(), mock.patch.object(mesh_picture, "visible_faces", visible_on_cpu):
        yield


def visible_on_cpu(vertices: torch.Tensor, faces: torch.Tensor, cameras: Cameras, size: int) -> torch.Tensor:
    """:func:`visible_faces` by numba, whatever device the mesh is on."""
    return visible_faces(vertices.detach().cpu(), faces.cpu(), cameras, size).to(vertices.device)


def operations(bench: Bench) -> None:
    """Medians of single operations, ours beside the plain path."""
    layout = Layout.geometric(12, 16, 16, 256)
    for count in (2048, 4096) if bench.tiny else (16_384, 460_000):
        points = torch.rand(count, 3, device=bench.device, requires_grad=True)
        table = torch.randn(layout.rows, 2, device=bench.device, requires_grad=True)
        upstream = torch.randn(count, layout.width, device=bench.device)

        def both(function: Callable) -> Callable[[], Any]:
            return lambda: torch.autograd.grad(function(points, table, layout), (points, table), upstream)  # noqa: B023

        ms = {"ours_ms": bench.median_ms(both(encode)), "plain_ms": bench.median_ms(both(encode_reference))}
        bench.log.say("hash grid, forward and backward", points=count, **ms)
    cameras = bench.views.cameras[[0, 1, 2, -1]]
    for grid in (16, 24) if bench.tiny else (64, 128):
        solid = hull_solid(bench.views, grid).to(bench.device)
        leaves = solid.nodes.clone().requires_grad_(), solid.values().detach().requires_grad_()

        def march_once() -> Any:
            surface = marching_tetrahedra(solid.grid, *leaves)[0]  # noqa: B023
            return torch.autograd.grad(surface.square().sum(), leaves)  # noqa: B023

        vertices, faces = (t.detach() for t in solid.surface())
        raster = (vertices, faces, cameras, 2 * bench.size)
        bench.log.say(
            "surface",
            grid=grid,
            faces=len(faces),
            marching_both_ms=bench.median_ms(march_once),
            visible_4_ms=bench.median_ms(lambda: visible_faces(*raster)),  # noqa: B023
            visible_4_on_cpu_ms=bench.median_ms(lambda: visible_on_cpu(*raster), 3),  # noqa: B023
        )
