"""Every setting of the pipeline: one frozen dataclass per stage, three presets, overrides.

A field states its default, its type and its help once; ``--help``, the cache key, ``img2mesh
config`` and the run's record are all made from it.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sv3d_pipe.errors import UserError
from sv3d_pipe.further_photos import absolute_views
from sv3d_pipe.mesh_formats import WRITTEN
from sv3d_pipe.settings import option, read_value

ASSUMED_ELEVATION_DEG = 10.0  # of a photo that nobody said more of


@dataclass(frozen=True)
class PrepConfig:
    """Cut the object out of the photo and center it."""

    matte: Literal["auto", "alpha", "net", "offline", "rembg"] = option(
        "auto",
        "Where the cut-out comes from: the file's alpha, the built-in network, the offline matte for plain backgrounds,"
        " or rembg if installed; auto: alpha if there is any, else the network and the offline matte.",
    )
    box: str = option(
        "",
        "Which object is meant: a box around it, left,top,right,bottom in pixels of the upright photo.",
        at_least=0,
        numbers=True,
    )
    point: str = option(
        "",
        "Which object is meant: a point on it, x,y in pixels of the upright photo.",
        at_least=0,
        numbers=True,
    )
    views: str = option(
        "",
        "More photos of the same object, PHOTO@AZIMUTH or PHOTO@AZIMUTH,ELEVATION separated by semicolons, in degrees:"
        " 90 is taken from the right of the first photo, 180 from behind; the elevation is the first photo's if not"
        " given.",
        files=absolute_views,
    )
    fill: float = option(
        0.8, "Share of the picture's side that the object's longer side fills.", at_least=0.2, at_most=1.0
    )
    size: int = option(576, "Side of the prepared picture in pixels.", at_least=64, at_most=2048)


@dataclass(frozen=True)
class OrbitConfig:
    """Paint frames all around the object, 21 by default, with the orbit model."""

    model: str = option(
        "mini",
        "Orbit model: mini (built in), sv3d-u or sv3d-p (once downloaded), or the path of a diffusers folder or"
        " of an SV3D .safetensors file.",
    )
    kind: Literal["sine", "static", "dynamic"] = option(
        "sine",
        "Camera path. sine: the elevation swings up and down; static: it stays; dynamic: a random path.",
    )
    elevation_deg: float | None = option(
        None,
        "Elevation from which the photo was taken, in degrees. Not given: 10, or with a model that takes no camera"
        " poses (sv3d-u) the one that its frames show.",
        at_least=-80,
        at_most=80,
    )
    amplitude_deg: float = option(
        30.0, "How far the sine orbit swings up and down, in degrees.", at_least=0, at_most=80
    )
    azimuths: str = option(
        "",
        "Azimuths of the frames in degrees, separated by commas; the last is the photo's. Empty: even steps.",
        at_least=-360,
        at_most=720,
        numbers=True,
    )
    elevations: str = option(
        "",
        "Elevations of the frames in degrees, separated by commas; the last is the photo's. Empty: as orbit.kind"
        " says.",
        at_least=-89,
        at_most=89,
        numbers=True,
    )
    steps: int = option(
        0, "Sampling steps; 0 is the model's own: 50 for SV3D, 1 for mini.", at_least=0, at_most=200
    )
    guidance: float = option(
        0.0,
        "Largest guidance scale, reached at the back view; 0 is the model's own: 2.5 for SV3D, 1 for mini.",
        at_least=0,
        at_most=20,
    )
    solver: Literal["euler", "dpm"] = option(
        "euler", "euler is SV3D's own; dpm (DPM-Solver++ 2M) needs fewer steps."
    )
    size: int = option(
        0,
        "Side of the frames in pixels: a multiple of 64 for SV3D, only 64 for mini; 0 is the model's own.",
        at_least=0,
        at_most=1024,
    )
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = option(
        "auto",
        "Number format of the UNet; auto: float16 on CUDA, bfloat16 on CPUs made for it, else float32.",
    )
    low_vram: bool = option(
        False, "Use as little GPU memory as possible: models wait on the CPU, and guidance takes two passes."
    )
    compile: bool = option(
        False, "Compile the UNet with torch.compile: a slow first step, faster ones after it."
    )

    @property
    def photo_elevation_deg(self) -> float:
        """The elevation given, or the one that is assumed."""
        return ASSUMED_ELEVATION_DEG if self.elevation_deg is None else self.elevation_deg


@dataclass(frozen=True)
class NerfConfig:
    """Fit a hash-grid radiance field to the views and extract its surface."""

    steps: int = option(600, "Training steps.", at_least=1, at_most=100_000)
    samples: int = option(16_384, "Samples along rays per step.", at_least=256, at_most=2**22)
    levels: int = option(12, "Levels of the hash grid.", at_least=1, at_most=24)
    table_log2: int = option(16, "Log2 of the hash table's size per level.", at_least=8, at_most=24)
    finest: int = option(256, "Resolution of the finest level.", at_least=16, at_most=4096)
    photo_weight: float = option(
        1.0, "Weight of the photo's rays relative to the other views' rays.", at_least=0
    )
    mask_weight: float = option(2.0, "Weight of the mask loss.", at_least=0)
    surface: int = option(128, "Voxels per side of the fused surface.", at_least=16, at_most=512)


@dataclass(frozen=True)
class RefineConfig:
    """Refine the surface as a deformable tetrahedral grid (DMTet), at the end with score distillation (SDS)."""

    shape: str = option(
        "field",
        "What to start from: field (the nerf stage's surface), or a mesh file.",
        files=lambda path: str(Path(path).absolute()),
    )
    correct_views: bool = option(
        True,
        "Correct small errors in the cameras and colors of painted frames, where the frames agree clearly better then.",
    )
    steps: int = option(100, "Optimization steps.", at_least=1, at_most=100_000)
    grid: int = option(64, "Cells per side of the tetrahedral grid.", at_least=8, at_most=256)
    views_per_step: int = option(4, "Views rendered in each step.", at_least=1, at_most=21)
    learning_rate: float = option(0.03, "Adam's learning rate, in grid cells for the geometry.", at_least=0)
    photo_weight: float = option(
        3.0, "Weight of the photo relative to each other view of a step.", at_least=0.01
    )
    view_falloff: float = option(
        0.0,
        "How much less often views far from the photo are used. 0: all equally often; 1: the one behind, hardly ever.",
        at_least=0,
        at_most=1,
    )
    mask_weight: float = option(
        0.25, "Weight of the silhouette loss: squared differences per pixel of the object.", at_least=0
    )
    color_weight: float = option(1.0, "Weight of the color loss.", at_least=0)
    lighting: bool = option(
        False, "Explain shading by 24 soft lights around the object instead of by surface color."
    )
    light_weight: float = option(
        0.05,
        "With lighting: weight of the agreement between the light and the views' brightness.",
        at_least=0,
    )
    normal_weight: float = option(0.1, "Weight of the agreement of neighboring face normals.", at_least=0)
    smooth_weight: float = option(0.05, "Weight of the SDF's smoothness.", at_least=0)
    render: int = option(
        256, "Largest side, in pixels, of the pictures compared with the views.", at_least=16, at_most=2048
    )
    sds: Literal["auto", "on", "off"] = option(
        "off",
        "Soft-masked score distillation by the orbit model in the last fifth of the steps, each time as long as a"
        " sampling step of that model. auto: with SV3D's models only.",
    )
    sds_weight: float = option(0.1, "Weight of the distillation gradient.", at_least=0)
    sds_every: int = option(5, "Steps from one distillation to the next.", at_least=1, at_most=1000)

    @property
    def distilled_steps(self) -> range:
        """The steps that distill, if any do: only in the last fifth (SV3D paper)."""
        return range(self.steps - self.steps // 5, self.steps, self.sds_every)


@dataclass(frozen=True)
class ExportConfig:
    """Clean, unwrap and texture the mesh; write the files."""

    format: str = option(
        "glb",
        f"Formats to write, separated by commas: {', '.join(WRITTEN)}.",
        words=tuple(WRITTEN),
    )
    faces: int = option(20_000, "Simplify to at most this many faces.", at_least=100, at_most=1_000_000)
    watertight: bool = option(
        False, "Close all holes, so that the mesh is a closed manifold, fit for 3D printing."
    )
    remesh: bool = option(
        False,
        "Rebuild the mesh from triangles of equal size, about as many as export.faces (needs the extra remesh).",
    )
    depth: float = option(
        0.0,
        "How deep the object is from front to back, as a share of the larger of its width and height in the photo: 0.1"
        " for a book seen from the front, 1 for a ball. The mesh is stretched to it. 0: as deep as the views show it.",
        at_least=0,
        at_most=20,
    )
    up: Literal["y", "z"] = option("y", "The axis that points up; a glb always has y up, as glTF requires.")
    scale: float = option(1.0, "Length of the mesh's longest side.", at_least=1e-3, at_most=1e6)
    texture: int = option(1024, "Side of the texture in pixels.", at_least=64, at_most=8192)
    turntable: bool = option(True, "Also write a turntable video and contact sheet.")


@dataclass(frozen=True)
class Config:
    """All stages' settings. Build one with :meth:`preset` and :meth:`replace`."""

    prep: PrepConfig = PrepConfig()
    orbit: OrbitConfig = OrbitConfig()
    nerf: NerfConfig = NerfConfig()
    refine: RefineConfig = RefineConfig()
    export: ExportConfig = ExportConfig()

    @classmethod
    def preset(cls, name: str) -> Config:
        """The settings named draft (about a minute on two cores), standard or quality."""
        if name not in PRESETS:
            raise UserError(f"There is no preset {name!r}; choose one of {', '.join(PRESETS)}.")
        return cls().replace(PRESETS[name])

    def replace(self, values: dict[str, Any]) -> Config:
        """A copy with dotted names replaced, e.g. ``{"nerf.steps": 800}``.

        Values may be strings (they are read by the field's type). Raises UserError for an unknown
        name, a wrong type or a value out of range.
        """
        stages = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        for name, value in values.items():
            stage, _, key = name.partition(".")
            known = [f"{s}.{f.name}" for s, c in stages.items() for f in dataclasses.fields(c)]
            if name not in known:
                close = difflib.get_close_matches(name, known, 1)
                hint = f" Did you mean {close[0]}?" if close else " `img2mesh config` lists all."
                raise UserError(f"There is no option {name!r}.{hint}")
            stages[stage] = dataclasses.replace(stages[stage], **{key: read_value(stages[stage], key, value)})
        return Config(**stages)

    def flat(self) -> dict[str, Any]:
        """All settings by dotted name."""
        return {
            f"{stage.name}.{key}": value
            for stage in dataclasses.fields(self)
            for key, value in dataclasses.asdict(getattr(self, stage.name)).items()
        }


PRESETS: dict[str, dict[str, Any]] = {
    "draft": {},
    "standard": {
        "nerf.steps": 1200,
        "nerf.surface": 160,
        "refine.steps": 200,
        "refine.grid": 96,
        "refine.learning_rate": 0.02,
        "export.texture": 2048,
    },
    "quality": {
        "nerf.steps": 6000,
        "nerf.samples": 65_536,
        "nerf.levels": 16,
        "nerf.table_log2": 18,
        "nerf.finest": 512,
        "nerf.surface": 256,
        "refine.steps": 1000,
        "refine.grid": 128,
        "refine.learning_rate": 0.01,
        "refine.render": 512,
        "refine.sds": "auto",
        "export.faces": 50_000,
        "export.texture": 2048,
    },
}


def stable_hash(value: Any) -> str:
    """SHA-256 of a JSON-able value, the same on every machine and run."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
