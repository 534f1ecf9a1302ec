"""Whether what the export needs is installed, asked before anything heavy is imported."""

from __future__ import annotations

from sv3d_pipe.config import ExportConfig
from sv3d_pipe.mesh_formats import WRITTEN, parse_formats


def require_libraries(config: ExportConfig) -> None:
    """Raise UserError if a library that the settings need is not installed."""
    for name in parse_formats(config.format):
        WRITTEN[name].require_library()
    if config.remesh:
        from sv3d_pipe.export.remesh import require_remesher

        require_remesher()
