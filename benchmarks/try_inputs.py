"""What img2mesh makes of unusual, damaged and hostile inputs: runs each in a process of its own and writes the table.

    python benchmarks/try_inputs.py --out docs/tried_inputs.md

An input must be taken, with the right result, or refused: exit code 2 and one sentence. Exit code 1 if one of them is
taken wrongly, ends in a traceback, hangs, or takes more memory than MOST_BYTES.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from inputs import captures, meshes, pictures, settings, workspaces
from inputs.case import Case

from sv3d_pipe.device import usable_cores

ROOMS = (pictures, captures, meshes, settings, workspaces)
MOST_SECONDS, MOST_BYTES = 120, 1.5e9
COMMAND = (sys.executable, "-c", "from sv3d_pipe.cli import main; main()")
GOOD = ("refused in one sentence", "taken, and right")
BAD = ("wrong", "traceback", "hang", "above 1.5 GB")


def attempt(case: Case, here: Path) -> tuple[str, int, float, float, str]:
    """Verdict, exit code, seconds, peak memory in MB and what was said, of one input in an empty folder."""
    case.make(here)
    arguments = [part.replace("{here}", str(here)) for part in case.arguments]
    env = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[1]), "HF_HUB_OFFLINE": "1"}
    started = time.monotonic()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            [*COMMAND, *arguments], cwd=here, env=env, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=output, start_new_session=True,
        )  # fmt: skip
        usage = _wait(process, started)
        output.seek(0)
        said = output.read().decode(errors="replace").strip()
    seconds = time.monotonic() - started
    lines = said.replace(str(here), "…").splitlines()
    if usage is None:
        return "hang", -1, seconds, 0.0, lines[-1] if lines else ""
    megabytes = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6
    code = process.returncode
    return _verdict(case, here, code, megabytes, said, lines), code, seconds, megabytes, _sentence(lines)


def _wait(process: subprocess.Popen, started: float):
    """The process's use of resources, or None if it had to be killed."""
    while time.monotonic() - started < MOST_SECONDS:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            return usage
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return None


def _verdict(case: Case, here: Path, code: int, megabytes: float, said: str, lines: list[str]) -> str:
    if "Traceback" in said or "went wrong inside" in said or code not in (0, 2):
        return "traceback"
    if megabytes * 1e6 > MOST_BYTES:
        return "above 1.5 GB"
    if case.right is None:
        one_line = code == 2 and len([line for line in lines if line.startswith("Error: ")]) == 1
        return GOOD[0] if one_line and re.search(case.says, said) and not case.harm(here) else "wrong"
    return GOOD[1] if code == 0 and re.search(case.says, said) and _result(case, here) is None else "wrong"


def _result(case: Case, here: Path) -> str | None:
    try:
        return case.right(here)
    except (OSError, KeyError, ValueError) as error:
        return str(error)


def _sentence(lines: list[str]) -> str:
    """What matters of what was said: the error, else the warnings."""
    errors = [line.removeprefix("Error: ") for line in lines if line.startswith("Error: ")]
    return errors[0] if errors else " ".join(line for line in lines if line.endswith("."))


def judged(case: Case) -> tuple[str, int, float, float, str]:
    """:func:`attempt` in a folder of its own; what is wrong with a result is added to what was said."""
    with tempfile.TemporaryDirectory() as name:
        here = Path(name).resolve()
        verdict, code, seconds, megabytes, said = attempt(case, here)
        if verdict == "wrong" and case.right is not None and (wrong := _result(case, here)):
            said += f" ({wrong})"
    return verdict, code, seconds, megabytes, said


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="inputs whose kind and name match this pattern")
    parser.add_argument("--out", type=Path, help="Markdown file to write the table to")
    options = parser.parse_args()
    rows, counts = [], Counter()
    chosen = [
        case
        for room in ROOMS
        for case in room.cases()
        if re.search(options.only, f"{case.kind}: {case.name}")
    ]
    with ThreadPoolExecutor(usable_cores()) as pool:
        for case, (verdict, code, seconds, megabytes, said) in zip(chosen, pool.map(judged, chosen)):
            counts[verdict] += 1
            line = (
                f"{verdict:24}{code:4}{seconds:6.1f} s{megabytes:6.0f} MB  {case.kind}: {case.name}: {said}"
            )
            print(line, flush=True)
            rows.append(f"| {case.kind} | {case.name} | {verdict} | {code} | {said.replace('|', '/')} |")
    total = ", ".join(f"{name} {counts[name]}" for name in (*GOOD, *BAD))
    print(f"{sum(counts.values())} inputs: {total}")
    if options.out:
        about = "What img2mesh makes of unusual, damaged and hostile inputs; `make inputs` runs them again."
        head = [about, "", f"{sum(counts.values())} inputs: {total}.", ""]
        table = ["| kind | input | came out | code | sentence |", "|---|---|---|---|---|", *rows]
        options.out.write_text("\n".join(["# Inputs and what comes of them", "", *head, *table]) + "\n")
    raise SystemExit(any(counts[name] for name in BAD))


if __name__ == "__main__":
    main()
