"""How the objects of a data set are photographed: one frozen dataclass, of which the command's options are made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sv3d_pipe.settings import option


@dataclass(frozen=True)
class Shoot:
    """Cameras, light and looks of every object of a data set."""

    size: int = option(64, "Side of the pictures in pixels.", at_least=16, at_most=1024)
    views: int = option(
        21,
        "Pictures per object: 21 as SV3D makes them, or 84 to take every fourth of.",
        at_least=2,
        at_most=360,
    )
    orbit: Literal["static", "sine", "dynamic", "random", "photos"] = option(
        "static",
        "static: one elevation from -5 to 30 degrees; sine: up and down by 30 around it; dynamic: SV3D's random one; "
        "random: every view its own elevation from -30 to 50; photos: as people take them, for `img2mesh finetune-depth`.",
    )
    distance: Literal["content", "sphere"] = option(
        "content",
        "content: as near as the object's outline allows without cutting anything; sphere: its bounding sphere fills "
        "the frame.",
    )
    lighting: Literal["random", "none"] = option(
        "random", "random: lamps, sky and gloss drawn per object; none: bare colors."
    )
    textures: Literal["random", "keep"] = option(
        "random", "random: flat-colored meshes get other hues and procedural textures; keep: as in the file."
    )
    background: Literal["random", "white"] = option(
        "random",
        "Color noted for training, the views stay transparent: random for half of the objects, or white.",
    )
    renderer: Literal["builtin", "blender"] = option(
        "builtin", "builtin, or blender: your own Blender, in the background."
    )
    photos: int = option(
        0,
        "Also this many large photos per object, two of three as people take them: what a model like mini is trained "
        "to be shown.",
        at_least=0,
        at_most=100,
    )
