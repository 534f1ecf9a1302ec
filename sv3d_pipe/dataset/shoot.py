"""How the objects of a data set are photographed: one frozen dataclass, from which the command's options are made."""

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
        "Views per object: 21 as SV3D paints, or more, such as 84, from which training picks.",
        at_least=2,
        at_most=360,
    )
    orbit: Literal["static", "sine", "dynamic", "random", "photos"] = option(
        "static",
        "static: one elevation from -5 to 30 degrees; sine: 30 up and down around it; dynamic: SV3D's random path; "
        "random: each view at its own elevation from -30 to 50; photos: as people take them, for `img2mesh finetune-depth`.",
    )
    distance: Literal["content", "sphere"] = option(
        "content",
        "content: as close as possible without cutting the object; sphere: its bounding sphere fills "
        "the picture.",
    )
    lighting: Literal["random", "none"] = option(
        "random", "random: lamps, sky and gloss drawn per object; none: bare colors."
    )
    textures: Literal["random", "keep"] = option(
        "random", "random: flat-colored meshes get new hues and procedural textures; keep: as in the file."
    )
    background: Literal["random", "white"] = option(
        "random",
        "Background color for training. random: a random color for half of the objects, white for the others; "
        "white: always white. The views themselves stay transparent.",
    )
    renderer: Literal["builtin", "blender"] = option(
        "builtin", "builtin: the built-in renderer; blender: your own Blender, run in the background."
    )
    photos: int = option(
        0,
        "Also render this many large photos per object, two of three as people take them; training a model like mini "
        "needs them.",
        at_least=0,
        at_most=100,
    )
    stretch: float = option(
        1.0,
        "Stretch every object along its axes at random, up to this factor between two of them; 1: as it is. More shapes "
        "for training, whose proportions are no longer those of real things.",
        at_least=1,
        at_most=3,
    )
