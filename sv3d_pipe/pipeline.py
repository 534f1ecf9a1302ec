"""The road from a photo to a mesh: five stages, run in order, each kept and never done twice.

    photo.png ─ prep ─► Photo ─ orbit ─► Views ─ nerf ─► Field ─ refine ─► Mesh ─ export ─► mesh.glb

A capture, that is real pictures with known cameras, takes the place of prep and orbit.
A stage is a function of its settings, the artifacts before it and a context (device, seed,
progress). Its result is committed to the workspace under a key that hashes all of these; when the
key is found there again, and the files are whole, the stage is skipped.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sv3d_pipe.config import Config
from sv3d_pipe.device import check_device_name, resolve_device
from sv3d_pipe.errors import UserError
from sv3d_pipe.road.context import Context
from sv3d_pipe.road.report import Reporter, make_reporter
from sv3d_pipe.road.run import Result, Road, Stage
from sv3d_pipe.road.sources import photo_identity, workspace_for
from sv3d_pipe.road.workspace import STAGES, Workspace


def _prep(road: Road, context: Context):
    from sv3d_pipe.prep.frame import prepare

    return prepare(road.config.prep, road.photo, context)


def _orbit(road: Road, context: Context):
    from sv3d_pipe.orbit.paint import paint

    return paint(road.config.orbit, road.artifact("prep"), context)


def _capture(road: Road, context: Context):
    from sv3d_pipe.capture.capture import import_capture

    return import_capture(road.photo, road.config.prep.matte, context)


def _nerf(road: Road, context: Context):
    from sv3d_pipe.nerf.fit_field import fit_field

    return fit_field(road.config.nerf, _views(road), context)


def _refine(road: Road, context: Context):
    from sv3d_pipe.refine.fit_mesh import refine_mesh

    views, load_prior = _views(road), _prior(road, context)
    start, placed = _start(road, views, context)
    mesh, metrics = refine_mesh(road.config.refine, start, views, context, load_prior)
    return mesh, metrics | placed


def _start(road: Road, views, context: Context) -> tuple[Any, dict[str, Any]]:
    """The field that refinement starts from, its surface replaced where a mesh file is given."""
    field = road.artifact("nerf")
    if road.config.refine.shape == "field":
        return field, {}
    from sv3d_pipe.refine.given_shape import load_shape

    mesh, metrics = load_shape(Path(road.config.refine.shape), views, context)
    return dataclasses.replace(field, mesh=mesh), metrics


def _prior(road: Road, context: Context) -> Callable | None:
    """How to load the orbit model for score distillation; a capture has no photo that it could go by."""
    if "prep" not in road.names:
        return None

    def load():
        from sv3d_pipe.orbit.prior import load_prior

        return load_prior(road.config.orbit, road.artifact("prep"), context)

    return load


def _export(road: Road, context: Context):
    from sv3d_pipe.capture.placement import capture_from_glb
    from sv3d_pipe.export.export import export_mesh

    views = _views(road)
    asset, metrics = export_mesh(road.config.export, road.artifact("refine"), views, context)
    if views.to_world is not None:
        metrics["capture_from_glb"] = capture_from_glb(views.to_world, **metrics["transform"])
    return asset, metrics


def _views(road: Road):
    return road.artifact("capture" if "capture" in road.names else "orbit")


def _load(kind: str) -> Callable[[Path], Any]:
    def load(folder: Path) -> Any:
        from sv3d_pipe import artifacts

        return getattr(artifacts, kind).load(folder)

    return load


def _photo_content(road: Road) -> dict[str, str]:
    return {"photo": photo_identity(road.photo)["sha256"]}


def _model(road: Road) -> dict[str, str]:
    from sv3d_pipe.orbit.store.find import identity

    return {"model": identity(road.config.orbit.model)}


def _capture_content(road: Road) -> dict[str, str]:
    return {"capture": road.identity["sha256"], "matte": road.config.prep.matte}


def _shape(road: Road) -> dict[str, str]:
    shape = road.config.refine.shape
    return {} if shape == "field" else {"shape": photo_identity(Path(shape))["sha256"]}


def _from_views(views: str, *before: str) -> tuple[Stage, ...]:
    """The stages after the one named ``views``; refine also follows ``before``, for its orbit model's photo."""
    return (
        Stage("nerf", 5, (views,), _nerf, _load("Field")),
        Stage("refine", 6, (*before, views, "nerf"), _refine, _load("Mesh"), _shape),
        Stage("export", 4, (views, "refine"), _export, lambda folder: folder),
    )


ROAD = (
    Stage("prep", 1, (), _prep, _load("Photo"), _photo_content),
    Stage("orbit", 5, ("prep",), _orbit, _load("Views"), _model),
    *_from_views("orbit", "prep"),
)
CAPTURE_ROAD = (
    Stage("capture", 1, (), _capture, _load("Views"), _capture_content),
    *_from_views("capture"),
)


class Image2Mesh:
    """The whole road as one object: ``Image2Mesh.from_preset("draft")("photo.png")``.

    Args:
        config: all settings. seed: of every random number.
        device: auto, cpu, cuda, cuda:N or mps.
        reporter: shows progress; by default bars on a terminal, one line per stage elsewhere.
    """

    def __init__(
        self,
        config: Config | None = None,
        seed: int = 23,
        device: str = "auto",
        reporter: Reporter | None = None,
    ):
        self.config = config or Config()
        self.seed = seed
        self.device = device
        self.reporter = reporter or make_reporter()

    @classmethod
    def from_preset(cls, name: str, settings: dict[str, Any] | None = None, **kwargs) -> Image2Mesh:
        """Preset draft, standard or quality; ``settings`` as in ``{"nerf.steps": 800}``."""
        return cls(Config.preset(name).replace(settings or {}), **kwargs)

    def __call__(
        self,
        photo: str | Path,
        out: str | Path | None = None,
        start: str = "prep",
        until: str = "export",
        force_from: str | None = None,
    ) -> Result:
        """Make a mesh of a photo.

        Args:
            out: workspace folder; by default ``out/<the photo's name>``.
            start: take the stages before this one from the workspace as they are.
            until: stop after this stage. force_from: run this and later stages even if finished.
        Raises:
            UserError: what is wrong with the photo, the settings or the folder, in one sentence.
        """
        root = Path(out) if out is not None else workspace_for(Path(photo), Path("out"))
        road = Road(ROAD, Workspace(root), Path(photo), self.config, self.seed, self.device, self.reporter)
        return self._run(road, start, until, force_from)

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
        from sv3d_pipe.capture.transforms import capture_identity

        root = Path(out) if out is not None else workspace_for(Path(folder), Path("out"), capture_identity)
        road = Road(
            CAPTURE_ROAD, Workspace(root), Path(folder), self.config, self.seed, self.device, self.reporter,
            capture_identity,
        )  # fmt: skip
        return self._run(road, start, until, force_from)

    def _run(self, road: Road, start: str, until: str, force_from: str | None) -> Result:
        try:
            self.check(start, until)
        except UserError:
            road.workspace.remove_if_empty()
            raise
        return road.run(start, until, force_from)

    def check(self, start: str = "prep", until: str = "export") -> None:
        """Raise UserError now for what would fail in the middle of the road: device, model, a library."""
        from sv3d_pipe.export.extras import require_libraries
        from sv3d_pipe.orbit.store.find import find_model

        if start in STAGES and until in STAGES:
            if "orbit" in STAGES[STAGES.index(start) : STAGES.index(until) + 1]:
                find_model(self.config.orbit.model)
        if until == "export":
            require_libraries(self.config.export)
        check_device_name(self.device)
        if self.device not in ("auto", "cpu"):  # looking for the others imports torch
            resolve_device(self.device)
