#!/usr/bin/env bash
# Train mini's next edition on this machine's GPU:
#     benchmarks/gpu_mini.sh OBJECTS.pack OUT [SECONDS] [--rehearse]
# OBJECTS.pack was written by `pack_objects.py pack`. After SECONDS (420) OUT holds run.jsonl and the model as
# mini.tar.aa and so on, in pieces of 15 MiB: `cat OUT/mini.tar.* | tar x` puts them together. Run it from the project's root.
set -euo pipefail
pack=$1 out=$2 seconds=${3:-420}
shift $(($# < 3 ? $# : 3))
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$out"
PYTHON=${PYTHON:-python3}
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
"$PYTHON" benchmarks/pack_objects.py unpack "$pack" -o "$work"
echo "unpacked after $SECONDS s"
timeout $((seconds - SECONDS)) "$PYTHON" benchmarks/gpu_mini.py "$work" -o "$work/out" --seconds $((seconds - SECONDS - 15)) "$@" ||
    echo "ended early; the model is that of the last minute"
cp "$work/out/run.jsonl" "$out/"
tar -C "$work/out" -cf - mini | split -b 15m - "$out/mini.tar."
ls -l "$out"
