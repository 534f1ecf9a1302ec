"""One mesh against another, from files: both protocols, the noise floor, a picture of both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from sv3d_pipe.contact_sheet import contact_sheet
from sv3d_pipe.evaluate.display import Display
from sv3d_pipe.evaluate.rows import pictures, score_shapes
from sv3d_pipe.evaluate.scores import ABOUT_SHAPES, SHAPE_SCORES
from sv3d_pipe.evaluate.tables import Table, word
from sv3d_pipe.evaluate.truth import scaled, visible_scale
from sv3d_pipe.files import plain, write_atomically
from sv3d_pipe.geometry.bodies import require_body
from sv3d_pipe.render.objects import Object, load_object


def judge_pair(truth: Path, pred: Path, seed: int, out: Path, display: Display) -> dict[str, Any]:
    """All shape scores of the mesh file ``pred``; writes ``mesh.json``, ``mesh.md`` and ``mesh.png`` into ``out``.

    Returns:
        the JSON document: truth, pred, seed, about, scores, noise, warnings.
    Raises:
        UserError: a file cannot be read, or holds no body.
    """
    warnings: list[str] = []
    objects = _load(truth, warnings), _load(pred, warnings)
    for sentence in warnings:
        display.say(f"warning: {sentence}")
    with display.showing(1):
        row = plain(score_shapes(objects[0], {"pred": objects[1]}, seed, display))
    split = {
        m: {k.removeprefix(f"{m}_"): v for k, v in row.items() if k.startswith(m)} for m in ("pred", "noise")
    }
    document = {
        "truth": str(truth),
        "pred": str(pred),
        "seed": seed,
        "about": ABOUT_SHAPES,
        "scores": split["pred"],
        "noise": split["noise"],
        "warnings": warnings,
    }
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / "mesh.json", json.dumps(document, indent=1, allow_nan=False))
    notes = "".join(f"- {key}: {text}\n" for key, text in ABOUT_SHAPES.items())
    write_atomically(out / "mesh.md", pair_table(document).markdown() + "\n" + notes)
    contact_sheet(out / "mesh.png", "Truth, then prediction", [(_label(document), _picture(*objects))])
    return document


def pair_table(document: dict[str, Any]) -> Table:
    """One line per score: prediction, noise floor."""
    names = (*SHAPE_SCORES, "b_yaw_deg")
    scores, noise = document["scores"], document["noise"]
    lines = [[n, word(scores[n]), word(noise.get(n))] for n in names]
    return Table(f"{document['pred']} against {document['truth']}", ["", "score", "noise floor"], lines)


def _load(path: Path, warnings: list[str]) -> Object:
    obj = load_object(path, warnings.append)
    require_body(obj.vertices, obj.faces, path)
    return obj


def _picture(truth: Object, pred: Object) -> np.ndarray:
    factor = visible_scale(truth)
    return pictures(scaled(truth, factor), {"pred": scaled(pred, factor)})


def _label(document: dict[str, Any]) -> str:
    scores = document["scores"]
    return f"{Path(document['pred']).name}   cd {word(scores['cd'])}, iou {word(scores['iou'])}"
