"""The road from a photo to a mesh: five stages, run in order, each kept and never done twice.

    photo.png ─ prep ─► Photo ─ orbit ─► Views ─ nerf ─► Field ─ refine ─► Mesh ─ export ─► mesh.glb

A capture, that is real pictures with known cameras, takes the place of prep and orbit.
A stage is a function of its settings, the artifacts before it and a context (device, seed,
progress). Its result is committed to the workspace under a key that hashes all of these; when the
key is found there again, and the files are whole, the stage is skipped.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sv3d_pipe.capture.transforms import CAPTURE
from sv3d_pipe.config import Config
from sv3d_pipe.contracts import Prior, Reconstructor
from sv3d_pipe.device import check_device_name, resolve_device
from sv3d_pipe.errors import UserError
from sv3d_pipe.further_photos import View, parse_views, views_text
from sv3d_pipe.road.context import Context
from sv3d_pipe.road.report import Reporter, make_reporter
from sv3d_pipe.road.run import Result, Road, Route, Stage
from sv3d_pipe.road.sources import PHOTO, content_sha256, word_of, workspace_for
from sv3d_pipe.road.workspace import STAGES, Workspace

if TYPE_CHECKING:
    from sv3d_pipe.orbit.model import OrbitModel


def _prep(road: Road, context: Context):
    from sv3d_pipe.prep.frame import prepare

    return prepare(road.config.prep, road.source, context)


def _orbit(model: OrbitModel | None, road: Road, context: Context):
    from sv3d_pipe.orbit.paint import paint

    return paint(road.config.orbit, road.artifact("prep"), context, model)


def _capture(road: Road, context: Context):
    from sv3d_pipe.capture.capture import import_capture

    return import_capture(road.source, road.config.prep.matte, context)


def _nerf(views: str, reconstructor: Reconstructor | None, road: Road, context: Context):
    return _reconstructor(reconstructor).fit(road.config.nerf, road.artifact(views), context)


def _reconstructor(given: Reconstructor | None) -> Reconstructor:
    from sv3d_pipe.nerf.fit_field import HashGrid

    return given or HashGrid()


def _refine(views: str, prior: Callable | None, road: Road, context: Context):
    from sv3d_pipe.artifacts import Refined
    from sv3d_pipe.refine.fit_mesh import refine_mesh
    from sv3d_pipe.refine.given_shape import load_shape
    from sv3d_pipe.refine.poses import corrected

    reconstruction, placed = road.artifact("nerf"), {}
    correction, pictures, found = corrected(
        road.config.refine, reconstruction.mesh, road.artifact(views), context
    )
    if road.config.refine.shape != "field":
        reconstruction.mesh, placed = load_shape(
            Path(road.config.refine.shape), reconstruction.mesh, pictures, context
        )
    distills = prior is not None and _distills(road.config)
    if distills:
        count = len(road.config.refine.distilled_steps)
        context.say(f"Distilling {count} times, each about as long as a sampling step of the orbit model.")
    with prior(road, context) if distills else nullcontext() as load_prior:
        mesh, metrics = refine_mesh(road.config.refine, reconstruction, pictures, context, load_prior)
    return Refined(mesh, correction), metrics | found | placed


def _distills(config: Config) -> bool:
    """Whether refinement asks the orbit model, too."""
    from sv3d_pipe.orbit.store.load import is_sv3d

    return config.refine.sds == "on" or (config.refine.sds == "auto" and is_sv3d(config.orbit.model))


def _prior(
    model: OrbitModel | None, road: Road, context: Context
) -> AbstractContextManager[Callable[[], Prior]]:
    """The orbit model for score distillation, by the photo that it painted."""
    from sv3d_pipe.orbit.paint import prior_loader

    return prior_loader(road.config.orbit, road.artifact("prep"), context, model)


def _export(views: str, road: Road, context: Context):
    from sv3d_pipe.capture.placement import capture_from_glb
    from sv3d_pipe.export.export import export_mesh

    refined = road.artifact("refine")
    pictures = refined.views(road.artifact(views))
    asset, metrics = export_mesh(road.config.export, refined.mesh, pictures, context)
    if pictures.to_world is not None:
        metrics["capture_from_glb"] = capture_from_glb(pictures.to_world, **metrics["transform"])
    return asset, metrics


def _load(kind: str) -> Callable[[Path], Any]:
    def load(folder: Path) -> Any:
        from sv3d_pipe import artifacts

        return getattr(artifacts, kind).load(folder)

    return load


def _photo_content(road: Road) -> dict[str, Any]:
    views = parse_views(road.config.prep.views)
    told = [[view.azimuth_deg, view.elevation_deg, content_sha256(Path(view.path))] for view in views]
    return {"photo": content_sha256(road.source)} | ({"views": told} if told else {})


def _model_content(model: OrbitModel | None, road: Road) -> dict[str, str]:
    from sv3d_pipe.orbit.store.find import identity

    return {"model": identity(road.config.orbit.model) if model is None else model.identity}


def _capture_content(road: Road) -> dict[str, str]:
    return {"capture": road.identity["sha256"], "matte": road.config.prep.matte}


def _reconstructor_content(reconstructor: Reconstructor | None, road: Road) -> dict[str, str]:
    return {} if reconstructor is None else {"reconstructor": reconstructor.identity}


def _shape_content(road: Road) -> dict[str, str]:
    shape = road.config.refine.shape
    return {} if shape == "field" else {"shape": content_sha256(Path(shape))}


def _from_views(
    views: str,
    reconstructor: Reconstructor | None,
    before: tuple[str, ...] = (),
    prior: Callable | None = None,
) -> tuple[Stage, ...]:
    """The stages after the one named ``views``; refine also follows ``before``, for its prior's photo."""
    return (
        Stage(
            "nerf", 7, (views,), partial(_nerf, views, reconstructor),
            lambda folder: _reconstructor(reconstructor).load(folder),
            partial(_reconstructor_content, reconstructor),
        ),
        Stage(
            "refine", 9, (*before, views, "nerf"), partial(_refine, views, prior), _load("Refined"), _shape_content
        ),
        Stage("export", 7, (views, "refine"), partial(_export, views), lambda folder: folder),
    )  # fmt: skip


def photo_route(model: OrbitModel | None = None, reconstructor: Reconstructor | None = None) -> Route:
    """From a photo; with the orbit model that the settings name, and the hash grid, unless others are given."""
    return Route(
        PHOTO,
        (
            Stage("prep", 4, (), _prep, _load("Photo"), _photo_content),
            Stage(
                "orbit", 9, ("prep",), partial(_orbit, model), _load("Views"), partial(_model_content, model)
            ),
            *_from_views("orbit", reconstructor, ("prep",), partial(_prior, model)),
        ),
    )


def capture_route(reconstructor: Reconstructor | None = None) -> Route:
    """From real pictures with known cameras; no orbit model, and so no distillation."""
    redo = "nerf {source} -o {root}"
    return Route(
        CAPTURE,
        (
            Stage("capture", 6, (), _capture, _load("Views"), _capture_content, redo),
            *_from_views("capture", reconstructor),
        ),
    )


PHOTO_ROUTE, CAPTURE_ROUTE = photo_route(), capture_route()


_ran_in: list[int] = []  # the process of the first run; its OpenMP threads do not survive a fork


def refuse_forks() -> None:
    """Raise UserError in a process that was forked after a run."""
    if _ran_in and _ran_in[0] != os.getpid():
        raise UserError(
            "This process was forked from one that had already run img2mesh, whose threads it lacks; start "
            'processes with multiprocessing.get_context("spawn").'
        )
    _ran_in[:] = [os.getpid()]


class Image2Mesh:
    """All stages as one object: ``Image2Mesh.from_preset("draft")("photo.png")``.

    Args:
        config: all settings. seed: of every random number.
        device: auto, cpu, cuda, cuda:N or mps.
        reporter: shows progress; by default bars on a terminal, one line per stage elsewhere.
        model: paints the orbit instead of the one that ``config.orbit.model`` names.
        reconstructor: used instead of the hash grid.
        cancelled: asked after every step; when it says yes, the run ends with
            :class:`sv3d_pipe.errors.Cancelled`, and the workspace can be continued later.
    """

    def __init__(
        self,
        config: Config | None = None,
        seed: int = 23,
        device: str = "auto",
        reporter: Reporter | None = None,
        model: OrbitModel | None = None,
        reconstructor: Reconstructor | None = None,
        cancelled: Callable[[], bool] = lambda: False,
    ):
        self.config = config or Config()
        self.seed = seed
        self.device = device
        self.reporter = reporter or make_reporter()
        self.model, self.reconstructor, self.cancelled = model, reconstructor, cancelled

    @classmethod
    def from_preset(cls, name: str, settings: dict[str, Any] | None = None, **kwargs) -> Image2Mesh:
        """Preset draft, standard or quality; ``settings`` as in ``{"nerf.steps": 800}``."""
        return cls(Config.preset(name).replace(settings or {}), **kwargs)

    def __call__(
        self,
        photo: str | Path | Sequence[str | Path | View],
        out: str | Path | None = None,
        start: str = "prep",
        until: str = "export",
        force_from: str | None = None,
    ) -> Result:
        """Make a mesh of a photo, or of several of one object.

        Args:
            photo: its path; or a list of it and further views, ``["front.png", View("back.png", 180)]``.
            out: workspace folder; by default ``out/<the photo's name>``.
            start: take the stages before this one from the workspace as they are.
            until: stop after this stage. force_from: run this and later stages even if finished.
        Raises:
            UserError: what is wrong with the photo, the settings or the folder, in one sentence.
        """
        given = self.model is not None or self.reconstructor is not None
        route = photo_route(self.model, self.reconstructor) if given else PHOTO_ROUTE
        first, config = _with_views(photo, self.config)
        return self.go(route, first, out, start, until, force_from, config)

    def capture(
        self,
        folder: str | Path,
        out: str | Path | None = None,
        start: str = "capture",
        until: str = "export",
        force_from: str | None = None,
    ) -> Result:
        """Make a mesh of a capture: a folder with the ``transforms.json`` of nerfstudio or instant-ngp.

        Its stages are capture, nerf, refine and export; the arguments are those of :meth:`__call__`.
        """
        route = CAPTURE_ROUTE if self.reconstructor is None else capture_route(self.reconstructor)
        return self.go(route, Path(folder), out, start, until, force_from)

    def go(
        self,
        route: Route,
        source: Path,
        out: str | Path | None,
        start: str,
        until: str,
        force_from: str | None,
        config: Config | None = None,
    ) -> Result:
        """Any route, from its source, with these settings or the object's own; see :meth:`__call__`."""
        refuse_forks()
        self.check(start, until)
        root = Path(out) if out is not None else workspace_for(source, Path("out"), route.kind)
        workspace, rest = Workspace(root), (self.seed, self.device, self.reporter, self.cancelled)
        return Road(route, workspace, source, config or self.config, *rest).run(start, until, force_from)

    def check(self, start: str = "prep", until: str = "export") -> None:
        """Raise UserError now for what would otherwise fail midway: device, model, a library."""
        from sv3d_pipe.export.libraries import require_libraries
        from sv3d_pipe.orbit.store.find import find_model

        if self.model is None and start in STAGES and until in STAGES:
            if "orbit" in STAGES[STAGES.index(start) : STAGES.index(until) + 1]:
                find_model(self.config.orbit.model)
        if until == "export":
            require_libraries(self.config.export)
        check_device_name(self.device)
        if self.device not in ("auto", "cpu"):  # looking for the others imports torch
            resolve_device(self.device)


def _with_views(photo: str | Path | Sequence[str | Path | View], config: Config) -> tuple[Path, Config]:
    """The first photo, and the settings with the others. Raises UserError for a list that is none of photo and views."""
    if isinstance(photo, (str, Path)):
        return Path(photo), config
    first, *others = photo or [None]
    if not isinstance(first, (str, Path)) or not all(isinstance(other, View) for other in others):
        raise UserError(
            'Several photos are given as the first one\'s path and then views, as View("back.png", 180).'
        )
    return Path(first), config.replace({"prep.views": views_text(tuple(others))}) if others else config


def route_of(run: dict[str, Any], root: Path) -> Route:
    """The route of a workspace, by what its ``run.json`` says of its source. Raises UserError for an unknown kind."""
    for route in (PHOTO_ROUTE, CAPTURE_ROUTE):
        if route.kind.word in run:
            return route
    raise UserError(f"{root} was made from a {word_of(run)}, which this version of img2mesh does not know.")
