"""The kinds of mesh files: those that export writes, each with the library it needs, and those that can be read."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec

from sv3d_pipe.errors import UserError

CAMERAS = "cameras.json"
READ = (".glb", ".gltf", ".obj", ".ply", ".stl", ".off")


@dataclass(frozen=True)
class MeshFormat:
    """A format that export writes.

    Attributes:
        name: in the settings, and the suffix of its file, ``mesh.<name>``.
        any_up: whether its upward axis may be z.
        cameras_beside: whether its file has no room for cameras, so that they are written to ``cameras.json``.
        library, module, package: what it needs, as people call it, Python imports it and pip installs it; empty if
            nothing.
    """

    name: str
    any_up: bool = True
    cameras_beside: bool = False
    library: str = ""
    module: str = ""
    package: str = ""

    @property
    def file(self) -> str:
        return f"mesh.{self.name}"

    def require_library(self) -> None:
        """Raise UserError if the library that the format needs is not installed."""
        if self.module and find_spec(self.module) is None:
            raise UserError(
                f"Writing {self.name} needs {self.library}; install it with `pip install {self.package}`."
            )


WRITTEN = {
    form.name: form
    for form in (
        MeshFormat("glb", any_up=False),  # glTF 2.0, section 3.4
        MeshFormat("obj", cameras_beside=True),
        MeshFormat("ply", cameras_beside=True),
        MeshFormat("stl", cameras_beside=True),
        MeshFormat("usdz", library="OpenUSD", module="pxr", package="usd-core"),
    )
}


def parse_formats(text: str) -> tuple[str, ...]:
    """``"glb, OBJ"`` as ``("glb", "obj")``: lower case, in order, no duplicates. Raises UserError for an unknown one."""
    names = [part.strip().lower().removeprefix(".") for part in text.split(",")]
    names = list(dict.fromkeys(name for name in names if name))
    wrong = [name for name in names if name not in WRITTEN]
    if wrong or not names:
        what = f"There is no mesh format {wrong[0]!r}" if wrong else "No mesh format is given"
        raise UserError(f"{what}; choose from {', '.join(WRITTEN)}, separated by commas.")
    return tuple(names)
