"""Print the oldest versions that pyproject.toml allows, one ``name==version`` a line, for ``make lowest``.

PyTorch is left out: its old wheels bring gigabytes of CUDA. The one that is installed stays.
"""

from __future__ import annotations

import re
from pathlib import Path

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

LEFT_OUT = {"torch"}


def lowest(requirements: list[str]) -> list[str]:
    """``name==version`` for every ``name>=version``, extras and markers kept."""
    found = (re.match(r"([\w.-]+(?:\[[\w,]+\])?)>=([\w.]+)(.*)", line) for line in requirements)
    return [f"{m[1]}=={m[2]}{m[3]}" for m in found if m and m[1] not in LEFT_OUT]


if __name__ == "__main__":
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    print(
        "\n".join(
            lowest(
                project["dependencies"]
                + [x for y in ("eval", "usd", "remesh", "train") for x in project["optional-dependencies"][y]]
            )
        )
    )
