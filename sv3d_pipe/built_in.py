"""Where the models that come with img2mesh lie."""

from __future__ import annotations

from pathlib import Path

import sv3d_pipe
from sv3d_pipe.errors import UserError


def built_in_folder(name: str) -> Path:
    """``checkpoints/NAME`` of the installed package, else the one beside it in the source tree.

    Raises:
        UserError: there is none.
    """
    package = Path(sv3d_pipe.__file__).parent
    for root in (package, package.parent):
        if (folder := root / "checkpoints" / name).is_dir():
            return folder
    raise UserError(f"The built-in model {name} is missing from this installation; install img2mesh again.")
