"""Throw mutated files at readers, all of them if none is named: ``python tests/fuzz/fuzz_reader.py pictures``.

Every file must be read or refused with the reader's own error, within SECONDS and without more than ROOM_BYTES of
memory; anything else is a finding, which hypothesis makes as small as it can. Runs in a process of its own, so that
its limits and its victims are nobody else's.
"""

from __future__ import annotations

import argparse
import random
import re
import signal
import tempfile
import time
from collections import Counter
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from readers import READERS, Reader

SECONDS, ROOM_BYTES = 20, 3 * 2**30
# What breaks readers of text: the ends of number formats, other types, unbalanced and deep nesting.
TOKENS = (
    b"null", b"true", b"[]", b"{}", b'""', b'"x"', b"-1", b"0", b"1e999", b"-1e-320", b"NaN", b"Infinity",
    b"9" * 400, b"4294967296", b"18446744073709551615", b"[" * 5000, b'{"a":' * 3000, b"\xff\xfe", b"\0", b"\xef\xbb\xbf",
    b"../../etc/passwd", b"/dev/zero", b"\r\n", b"\\", b"=", b'"""',
)  # fmt: skip
NUMBER = re.compile(rb"-?\d+(\.\d+)?([eE][+-]?\d+)?")
EDITS = ("flip", "cut", "keep", "repeat", "insert", "number", "length")
edits = st.lists(
    st.tuples(st.sampled_from(EDITS), st.integers(0, 2**32 - 1), st.integers(0, 2**16 - 1)),
    min_size=1,
    max_size=6,
)


def mutated(content: bytes, changes: list[tuple[str, int, int]]) -> bytes:
    """The content after the changes, each a kind, a place (modulo the length) and a choice."""
    for kind, place, choice in changes:
        at = place % (len(content) + 1)
        if kind == "flip" and at < len(content):
            content = content[:at] + bytes([content[at] ^ 1 << choice % 8]) + content[at + 1 :]
        elif kind == "cut":
            content = content[:at] + content[at + choice % 64 + 1 :]
        elif kind == "keep":
            content = content[:at]
        elif kind == "repeat":
            content = content[:at] + content[at : at + choice % 256] * (choice % 5) + content[at:]
        elif kind == "insert":
            content = content[:at] + TOKENS[choice % len(TOKENS)] + content[at:]
        elif kind == "number" and (found := list(NUMBER.finditer(content))):
            one = found[place % len(found)]
            content = content[: one.start()] + TOKENS[choice % len(TOKENS)] + content[one.end() :]
        elif kind == "length" and len(content) >= 4:  # four bytes that may be a size, a count or an offset
            at = place % (len(content) - 3)
            content = (
                content[:at]
                + (2**32 - 1 - choice if choice % 2 else choice).to_bytes(4, "little")
                + content[at + 4 :]
            )
    return content


class TooSlow(BaseException):
    """The reader did not end in time."""


def _too_slow(*_) -> None:
    raise TooSlow(f"more than {SECONDS} s")


def fuzz(reader: Reader, examples: int, seconds: float, start: int) -> str:
    """Mutate the reader's seeds until so many examples or seconds are over; says what came of them."""
    counts, slowest, begun = Counter(), 0.0, time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        seeds = reader.seeds(folder)

        def execute(index: int, changes: list[tuple[str, int, int]]) -> None:
            nonlocal slowest
            file, content = seeds[index % len(seeds)]
            file.write_bytes(mutated(content, changes))
            signal.alarm(SECONDS)
            started = time.monotonic()
            try:
                reader.read(file)
                counts["read"] += 1
            except reader.refuses:
                counts["refused"] += 1
            finally:
                signal.alarm(0)
                slowest = max(slowest, time.monotonic() - started)
                file.write_bytes(content)

        generator = random.Random(start)
        while counts.total() < examples and time.monotonic() - begun < seconds:
            round_of = min(examples - counts.total(), 500)
            test = given(st.integers(0, 63), edits)(execute)
            test = settings(
                max_examples=round_of, deadline=None, database=None, suppress_health_check=list(HealthCheck),
                phases=(Phase.generate, Phase.shrink), print_blob=False,
            )(test)  # fmt: skip
            seed(generator.getrandbits(64))(test)()
    return (
        f"{counts.total()} executions in {time.monotonic() - begun:.0f} s: {counts['read']} read, "
        f"{counts['refused']} refused, slowest {slowest:.2f} s"
    )


def limit_memory() -> None:
    """Let this process take at most ROOM_BYTES of memory, where the system can hold it to that."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (ROOM_BYTES, ROOM_BYTES))
    except (ImportError, ValueError, OSError):
        pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("readers", nargs="*", metavar="READER", help=", ".join(READERS))
    parser.add_argument("--examples", type=int, default=10**9)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    signal.signal(signal.SIGALRM, _too_slow)
    limit_memory()
    for name in options.readers or READERS:
        print(f"{name}: {fuzz(READERS[name], options.examples, options.seconds, options.seed)}", flush=True)


if __name__ == "__main__":
    main()
