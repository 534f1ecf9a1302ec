"""What the scripts here share: options that choose objects, and error handling."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sv3d_pipe.errors import UserError

STARTED = time.monotonic()  # of the script, in a script that imports this first


def object_options(description: str, out: str) -> argparse.ArgumentParser:
    """A parser with --objects, --ids, --limit and --out; the first line of the description is shown."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--objects", type=Path, required=True, help="folder of textured meshes")
    parser.add_argument("--ids", nargs="*", default=[], help="only objects whose names match, such as gso_*")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--out", type=Path, default=Path(out))
    return parser


def run(main: Callable[[], Any]) -> None:
    """Call main; a UserError becomes one line and exit code 2, Ctrl-C exit code 130."""
    try:
        main()
    except UserError as error:
        print(f"Error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
