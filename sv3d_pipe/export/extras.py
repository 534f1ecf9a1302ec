"""Libraries that only some settings of export need: asked for before any work. Imports nothing heavy."""

from __future__ import annotations

from importlib.util import find_spec

from sv3d_pipe.config import ExportConfig
from sv3d_pipe.errors import UserError


def require_libraries(config: ExportConfig) -> None:
    """Raise UserError if a library that the settings need is not installed."""
    if config.remesh:
        require_remesher()
    if "usdz" in config.format.lower():
        require_usd()


def require_remesher() -> None:
    """Raise UserError if Instant Meshes (the extra ``remesh``) is not installed."""
    if find_spec("pynanoinstantmeshes") is None:
        raise UserError("Remeshing needs Instant Meshes; install it with `pip install pynanoinstantmeshes`.")


def require_usd() -> None:
    """Raise UserError if OpenUSD (the extra ``usd``) is not installed."""
    if find_spec("pxr") is None:
        raise UserError("Writing usdz needs OpenUSD; install it with `pip install usd-core`.")
