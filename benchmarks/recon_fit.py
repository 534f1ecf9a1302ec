"""The whole nerf stage with our kernels and in plain torch, until the PSNR is equal."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any
from unittest import mock

from recon_rounds import Comparison, Contender, timed

from sv3d_pipe.artifacts import Views
from sv3d_pipe.config import NerfConfig
from sv3d_pipe.nerf import field, field_render, fit_field
from sv3d_pipe.nerf.composite import composite_reference
from sv3d_pipe.nerf.hashgrid import encode_reference
from sv3d_pipe.nerf.march import march_reference
from sv3d_pipe.nerf.rays import Pictures
from sv3d_pipe.road.context import Checkpoint, Context

TORCH_TWINS = (  # module, name in it, what stands in on devices and number formats without kernels
    (field, "encode", encode_reference),
    (fit_field, "march", march_reference),
    (field_render, "march", march_reference),
    (fit_field, "composite", composite_reference),
    (field_render, "composite", composite_reference),
)
EQUAL_DB = 0.05  # two fits whose PSNR differs by less count as equal
AGAIN = 0.05  # share of the steps that is added until the PSNR is equal
MOST = 3  # times as many steps at most


class _Memory(Checkpoint):
    """Keeps the newest state in memory."""

    def __init__(self):
        super().__init__()
        self._state: Callable[[], dict] | None = None

    def load(self) -> dict[str, Any] | None:
        return self._state and self._state()

    def save(self, state: Callable[[], dict[str, Any]]) -> None:
        self._state = state


@contextlib.contextmanager
def torch_backend() -> Iterator[None]:
    """The fit without our kernels: hash grid, ray marching and compositing in plain torch and nerfacc."""
    with contextlib.ExitStack() as stack:
        for module, name, twin in TORCH_TWINS:
            stack.enter_context(mock.patch.object(module, name, twin))
        yield


def whole_fit(config: NerfConfig, views: Views, seed: int) -> Comparison:
    """The whole nerf stage, ours for the steps of the settings, torch until its PSNR is equal."""
    target = {}

    def ours(number: int) -> dict[str, Any]:
        metrics = fit_field.fit_field(config, views, Context(seed=seed + number))[1]
        target[number] = metrics["psnr_db"]
        return metrics | {"steps": config.steps}

    def torch_fit(number: int) -> tuple[float, dict[str, Any]]:
        with torch_backend():
            return fit_until(target[number], config, views, Context(seed=seed + number))

    def agree(results: dict[str, Any]) -> str:
        said = [f"{n} {r['psnr_db']:.2f} dB in {r['steps']} steps" for n, r in results.items()]
        return ", ".join(said)

    title = f"the whole nerf stage to equal PSNR: {len(views.cameras)} views of {views.size} px"
    contenders = (Contender("ours", timed(ours)), Contender("torch backend", torch_fit))
    return Comparison(title, contenders, agree, {})


def fit_until(
    psnr_db: float, config: NerfConfig, views: Views, context: Context
) -> tuple[float, dict[str, Any]]:
    """The nerf stage with more and more steps until it reaches a PSNR.

    Returns:
        seconds, without the looks at the PSNR in between, and the metrics with the number of steps, which
        ends at MOST times those of the settings.
    """
    context.checkpoint = _Memory()
    plain, pictures = fit_field.optimize, Pictures(views.rgba, views.cameras, context.device, views.seen)
    looked, steps, most = 0.0, config.steps, MOST * config.steps

    def optimize(config, model, grid, sets, context):
        nonlocal looked, steps
        while True:
            plain(config, model, grid, sets, context)
            start = time.perf_counter()
            enough = field_render.psnr(model, grid, pictures) >= psnr_db - EQUAL_DB
            looked += time.perf_counter() - start
            if enough or steps >= most:
                return
            steps += max(1, round(AGAIN * steps))
            config = replace(config, steps=steps)

    start = time.perf_counter()
    with mock.patch.object(fit_field, "optimize", optimize):
        metrics = fit_field.fit_field(config, views, context)[1]
    return time.perf_counter() - start - looked, metrics | {"steps": steps}
