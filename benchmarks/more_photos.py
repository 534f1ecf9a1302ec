"""What further photos of an object bring: ``img2mesh eval photo`` with one to four photos of each.

    python benchmarks/more_photos.py --objects objects/val --limit 10 --azimuths 0,30,-45

Two photos are front and back, three and four are evenly spread. Each case is a suite of its own in OUT/<case>/, with the
same objects and first photos; the cases differ in the number of photos and in how far, by standard deviation, further
ones were taken from where img2mesh is told. Means over objects and azimuths; seconds are those of the stages. What is
measured already is not measured again, so an interrupted run goes on.
"""

from __future__ import annotations

from command import object_options, run

from sv3d_pipe.config import Config
from sv3d_pipe.device import resolve_device
from sv3d_pipe.evaluate.display import Display
from sv3d_pipe.evaluate.photo_suite import PHOTO
from sv3d_pipe.evaluate.suite import Options, run_suite
from sv3d_pipe.evaluate.tables import Row, Table, summarize, word
from sv3d_pipe.evaluate.taken_photos import parse_degrees, subjects
from sv3d_pipe.evaluate.truth import find_objects
from sv3d_pipe.files import write_atomically

# Photos in all -> azimuths of the further ones.
VIEWS = {1: (), 2: (180.0,), 3: (120.0, 240.0), 4: (90.0, 180.0, 270.0)}
COLUMNS = {"CD": "cd", "IoU": "iou", "PSNR of novel views": "psnr"}


def main() -> None:
    """Measure case by case; the table so far is in OUT/more_photos.md."""
    parser = object_options(__doc__, "out/more_photos")
    parser.add_argument("--azimuths", default="0", metavar="DEG,...", help="of the first photo")
    parser.add_argument("--photos", type=int, nargs="+", choices=VIEWS, default=list(VIEWS))
    parser.add_argument("--errors", type=float, nargs="+", default=[0.0, 5.0], metavar="DEG")
    parser.add_argument("--preset", default="draft")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="such as nerf.steps=800"
    )
    parser.add_argument("--seed", type=int, default=23)
    parser.add_argument("--device", default="auto")
    given = parser.parse_args()
    config = Config.preset(given.preset).replace(dict(item.split("=", 1) for item in given.set))
    device = resolve_device(given.device)
    azimuths_deg = parse_degrees("--azimuths", given.azimuths)
    found = subjects(find_objects(given.objects, tuple(given.ids), given.limit, given.seed), azimuths_deg)
    rows: dict[str, list[Row]] = {}
    for name, views, error_deg in cases(given.photos, given.errors):
        options = Options(config, None, given.seed, device, views=views, view_error_deg=error_deg)
        rows[name] = run_suite(PHOTO, found, options, given.out / name, Display())["rows"]
        write_atomically(given.out / "more_photos.md", table(rows).markdown())
    print(table(rows).markdown())


def cases(photos: list[int], errors_deg: list[float]) -> list[tuple[str, tuple[float, ...], float]]:
    """Name, azimuths of the further photos and their error in degrees; one photo alone has none."""
    return [
        (f"{count}_photos_{error:g}_deg" if VIEWS[count] else "1_photo", VIEWS[count], error)
        for count in photos
        for error in (errors_deg if VIEWS[count] else [0.0])
    ]


def table(rows: dict[str, list[Row]]) -> Table:
    """Means of each case, and over how many rows; an object that failed has none."""
    lines = []
    for case, own in rows.items():
        known = summarize(own, ("export",), tuple(COLUMNS.values()))["export"]
        means = [word(known[score]["mean"]) if score in known else "" for score in COLUMNS.values()]
        seconds = [sum(row[f"{stage}_seconds"] for stage in PHOTO.stages) for row in own]
        lines.append([case, str(len(own)), *means, f"{sum(seconds) / len(own):.0f}" if own else ""])
    return Table("Photos of an object", ["case", "rows", *COLUMNS, "seconds"], lines)


if __name__ == "__main__":
    run(main)
