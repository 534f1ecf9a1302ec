"""From a photo of several objects to a scene: each object goes the ordinary road in a workspace of its own.

    photo.png ─ find ─► boxes ─ the road, for each ─► object-1/, object-2/, ... ─ place ─► scene.glb

The scene is kept like a stage: ``scene.json`` is its record, under a key that hashes all that it was made from.
"""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from sv3d_pipe.config import Config, stable_hash
from sv3d_pipe.device import PeakMemory
from sv3d_pipe.errors import UserError, one_line
from sv3d_pipe.files import file_sha256, plain, write_atomically
from sv3d_pipe.mesh_formats import parse_formats
from sv3d_pipe.pictures import read_focal_35mm, read_image
from sv3d_pipe.pipeline import Image2Mesh
from sv3d_pipe.placing.build import build
from sv3d_pipe.placing.photo_camera import PhotoCamera
from sv3d_pipe.road.context import Context
from sv3d_pipe.road.records import StageRecord, Unusable, sealed, unsealed, versions
from sv3d_pipe.road.run import Result, StageRun
from sv3d_pipe.road.sources import PHOTO, content_sha256, is_same_source, word_of, workspace_for
from sv3d_pipe.road.workspace import STAGES, Workspace

VERSION = 2  # raise it when scenes change that are made from the same meshes
FINDING = 1  # raise it when other objects are found in the same photo
SCENE, RECORD, OBJECTS = "scene.glb", "scene.json", "objects.json"


@dataclass(frozen=True)
class ObjectRun:
    """What became of one object: a result, or the sentence that says why not.

    Attributes:
        name: of its node and its workspace. box: left,top,right,bottom in pixels of the photo.
    """

    name: str
    box: str
    result: Result | None
    error: str | None = None

    def summary(self) -> dict[str, Any]:
        result = {} if self.result is None else self.result.summary()
        return {"name": self.name, "box": self.box, "error": self.error} | result


@dataclass(frozen=True)
class SceneResult(Result):
    """What a run leaves behind; ``mesh`` is the scene, and ``stages`` are those of all objects and then the scene.

    Attributes:
        objects: in their order.
    """

    objects: tuple[ObjectRun, ...] = ()

    @property
    def failures(self) -> tuple[str, ...]:
        """A sentence for every object that did not become a mesh."""
        return tuple(f"{run.name}: {run.error}" for run in self.objects if run.error is not None)

    def summary(self) -> dict[str, Any]:
        """Plain JSON values: workspace, mesh, seconds, the objects' summaries and the scene's metrics."""
        values = super().summary()
        scene = [stage for stage in values.pop("stages") if stage["stage"] == "scene"]
        return values | {
            "objects": [run.summary() for run in self.objects],
            "scene": scene[0] if scene else None,
        }


class Image2Scene(Image2Mesh):
    """:class:`sv3d_pipe.pipeline.Image2Mesh` for a photo of several objects: ``Image2Scene.from_preset("draft")("desk.jpg")``."""

    def __call__(
        self,
        photo: str | Path,
        out: str | Path | None = None,
        boxes: Sequence[str] = (),
        until: str = "export",
        force_from: str | None = None,
    ) -> SceneResult:
        """Make a mesh of every object in a photo, and a scene of them.

        Args:
            out: folder of the scene and of the objects' workspaces; by default ``out/<the photo's name>``.
            boxes: of the objects, as ``prep.box`` takes them; by default all objects that are found.
            until: stop after this stage of each object; only after export there is a scene.
            force_from: run this and later stages of each object even if finished.
        Returns:
            also where some objects failed, see :attr:`SceneResult.failures`.
        Raises:
            UserError: what is wrong with the photo, the settings or the folder; or no object became a mesh.
        """
        if self.config.prep.views or not isinstance(photo, (str, Path)):
            raise UserError(
                "Further views belong to one object; leave them out, or make one object alone with --box."
            )
        began, photo = time.monotonic(), Path(photo)
        self.check(until=until)
        root = Path(out) if out is not None else workspace_for(photo, Path("out"))
        workspace, identity = Workspace(root), PHOTO.identity(photo)
        owner = workspace.source() or workspace.reserve(identity)
        if not is_same_source(identity, owner):
            word = word_of(owner)
            raise UserError(
                f"{root} is the workspace of another {word} ({owner[word]}); choose another folder with -o."
            )
        with workspace.lock(self.reporter.say):
            try:
                camera = self._camera(photo)
                runs = self._each(photo, workspace, camera, boxes, until, force_from)
            except UserError:
                workspace.remove_if_empty()
                raise
            made = [run for run in runs if run.result is not None]
            if not made:
                raise UserError(" ".join(f"{run.name}: {run.error}" for run in runs))
            stages = tuple(stage for run in made for stage in run.result.stages)
            mesh = None
            if until == STAGES[-1]:
                stages += (self._scene(workspace, made, camera),)
                mesh = root / SCENE
        return SceneResult(root, mesh, stages, time.monotonic() - began, tuple(runs))

    def _camera(self, photo: Path) -> PhotoCamera:
        _, size = read_image(photo, 64)
        return PhotoCamera.of(*size, self.config.orbit.photo_elevation_deg, read_focal_35mm(photo))

    def _each(
        self,
        photo: Path,
        workspace: Workspace,
        camera: PhotoCamera,
        boxes: Sequence[str],
        until: str,
        force_from: str | None,
    ) -> list[ObjectRun]:
        """The road of every object, one after the other; what is wrong with one does not stop the next."""
        from sv3d_pipe.prep.meant import read_box

        if self.config.prep.point:
            raise UserError("A point means one object; to make each, give boxes instead, or nothing.")
        boxes = boxes or ([self.config.prep.box] if self.config.prep.box else self._found(photo, workspace))
        places = [read_box(box, camera.width, camera.height, photo.name) for box in boxes]
        runs = []
        for number, (box, (left, top, right, bottom)) in enumerate(zip(boxes, places), 1):
            name = f"object-{number}"
            self.reporter.say(f"[{number}/{len(boxes)}] {name}, box {box}")
            elevation = camera.elevation_of((left + right) / 2, (top + bottom) / 2)
            config = self._config_of(box, elevation)
            rest = self.seed, self.device, self.reporter, self.model, self.reconstructor, self.cancelled
            try:
                result = Image2Mesh(config, *rest)(photo, workspace.root / name, "prep", until, force_from)
                runs.append(ObjectRun(name, box, result))
            except UserError as error:
                self.reporter.say(f"{name} failed: {error}")
                runs.append(ObjectRun(name, box, None, one_line(str(error))))
        return runs

    def _config_of(self, box: str, elevation_deg: float) -> Config:
        """The settings for one object: its box, and the elevation from which the photo's camera saw it."""
        formats = parse_formats(self.config.export.format)
        values: dict[str, Any] = {
            "prep.box": box,
            "export.format": ",".join(dict.fromkeys(("glb", *formats))),
        }
        if self.config.orbit.elevation_deg is not None or not self._frames_tell_elevation:
            values["orbit.elevation_deg"] = round(max(-80.0, min(80.0, elevation_deg)), 1)
        return self.config.replace(values)

    @cached_property
    def _frames_tell_elevation(self) -> bool:
        """Whether the orbit model may be one that takes no camera poses, whose frames then show the elevation."""
        name = self.config.orbit.model
        if self.model is not None or name == Config().orbit.model:
            return False
        from sv3d_pipe.orbit.store.load import is_sv3d  # slow

        return is_sv3d(name)

    def _found(self, photo: Path, workspace: Workspace) -> list[str]:
        """The boxes of the objects in the photo, which are looked for only once."""
        from sv3d_pipe.prep.finding import find_boxes
        from sv3d_pipe.prep.meant import box_text

        prep = self.config.prep
        key, path = (
            stable_hash([FINDING, content_sha256(photo), prep.matte, prep.size]),
            workspace.root / OBJECTS,
        )
        try:
            kept = unsealed(path)
        except Unusable:
            kept = {}
        if kept.get("key") != key:
            context = Context(say=self.reporter.say, cancelled=self.cancelled)
            kept = {"key": key, "boxes": [box_text(box) for box in find_boxes(prep, photo, context)]}
            for sentence in context.warnings:
                self.reporter.warn("objects", sentence)
            workspace.make_room()
            write_atomically(path, sealed(kept))
        return kept["boxes"]

    def _scene(self, workspace: Workspace, made: list[ObjectRun], camera: PhotoCamera) -> StageRun:
        """The scene of the objects, or the one that is there if it was made from the same."""
        upstream = {
            run.name: stable_hash([stage.record.fingerprint for stage in run.result.stages]) for run in made
        }
        length = self.config.export.scale
        key = stable_hash(["scene", VERSION, dataclasses.astuple(camera), length, upstream])
        record = finished_scene(workspace.root)
        if record is not None and record.key == key:
            with self.reporter:
                self.reporter.skip(record)
            return StageRun(record, skipped=True)
        workspace.make_room()
        with self.reporter:
            self.reporter.start("scene")
            began = time.monotonic()
            with PeakMemory("cpu") as memory:
                scene = build({run.name: run.result.workspace for run in made}, camera, length)
            for sentence in scene.warnings:
                self.reporter.warn("scene", sentence)
            record = StageRecord(
                stage="scene",
                version=VERSION,
                key=key,
                upstream=upstream,
                config={"elevation_deg": camera.elevation_deg, "scale": length},
                seed=self.seed,
                device="cpu",
                versions=versions(),
                seconds=round(time.monotonic() - began, 3),
                peak_memory_mb=round(memory.peak_mb, 1),
                metrics=plain(scene.metrics),
                warnings=scene.warnings,
            )
            record = commit_scene(workspace.root, record, scene.glb)
            self.reporter.finish(record)
        return StageRun(record, skipped=False)


def commit_scene(root: Path, record: StageRecord, glb: bytes) -> StageRecord:
    """Write a scene and then its record, each whole or not at all; a scene without its own record is none."""
    entry = {"size": len(glb), "sha256": hashlib.sha256(glb).hexdigest()}
    record = dataclasses.replace(record, files={SCENE: entry})
    write_atomically(root / SCENE, glb)
    write_atomically(root / RECORD, record.text())
    return record


def finished_scene(root: Path) -> StageRecord | None:
    """The record of the scene in a folder; None if there is none or its file is not as it was written."""
    try:
        record = StageRecord.read(root / RECORD)
    except Unusable:
        return None
    path = root / SCENE
    whole = path.is_file() and file_sha256(path) == record.files[SCENE]["sha256"]
    return record if whole else None
