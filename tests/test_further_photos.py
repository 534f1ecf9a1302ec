"""Further photos of an object: how they are named, found beside a photo, and taken by the stages."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from sv3d_pipe import Image2Mesh, View
from sv3d_pipe.artifacts import Photo
from sv3d_pipe.cli import app
from sv3d_pipe.config import Config
from sv3d_pipe.errors import UserError
from sv3d_pipe.further_photos import named_view, parse_view, parse_views, views_text, with_their_views
from sv3d_pipe.road.report import Reporter


def picture(path: Path, right: int = 80) -> Path:
    """A cut-out: a rectangle of that width."""
    rgba = np.zeros((96, 96, 4), np.uint8)
    rgba[10:86, 12:right] = (200, 90, 60, 255)
    Image.fromarray(rgba).save(path)
    return path


@pytest.mark.parametrize(
    ("text", "view"),
    [
        ("back.png@180", View("back.png", 180.0)),
        ("a b/side.jpg@-90,20.5", View("a b/side.jpg", -90.0, 20.5)),
        ("me@home.png@45", View("me@home.png", 45.0)),
        ("x@+30,-10", View("x", 30.0, -10.0)),
    ],
)
def test_a_view_is_read_as_it_is_written(text, view):
    assert parse_view(text) == view
    assert parse_view(str(view)) == view


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("back.png", "PHOTO@AZIMUTH"),
        ("back.png@", "PHOTO@AZIMUTH"),
        ("@180", "PHOTO@AZIMUTH"),
        ("back.png@behind", "PHOTO@AZIMUTH"),
        ("back.png@400", "between -360 and 360"),
        ("back.png@90,85", "between -80 and 80"),
    ],
)
def test_what_is_no_view_is_said(text, said):
    with pytest.raises(UserError, match=said):
        parse_view(text)


def test_the_setting_holds_all_of_them_with_absolute_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    views = parse_views(views_text((View("a.png", 90), View("b.png", 180, 5))))
    assert views == (View(str(tmp_path / "a.png"), 90.0), View(str(tmp_path / "b.png"), 180.0, 5.0))
    assert parse_views("") == ()


def test_angles_keep_their_digits():
    assert (
        str(View("a.png", 179.99999)) == "a.png@179.99999"
        and str(View("a.png", 1e-9, -0.5)) == "a.png@0,-0.5"
    )


def test_a_path_that_holds_what_separates_views_is_named(tmp_path):
    with pytest.raises(UserError, match="rename a;b.png"):
        views_text((View("a;b.png", 90),))


def test_views_are_found_beside_their_photo_by_name():
    names = (
        "cup@90.png",
        "dog.jpg",
        "dog.png",
        "dog@180.png",
        "mug.png",
        "mug@180.png",
        "mug@90,20.jpg",
        "mug@side.png",
    )
    found = with_their_views([Path("in", name) for name in names] + [Path("in/deep/mug@90.png")])
    assert found == {
        Path("in/cup@90.png"): [],  # there is no cup
        Path("in/dog.jpg"): [],
        Path("in/dog.png"): [],
        Path("in/dog@180.png"): [],  # of which dog?
        Path("in/mug.png"): [Path("in/mug@180.png"), Path("in/mug@90,20.jpg")],
        Path("in/mug@side.png"): [],
        Path("in/deep/mug@90.png"): [],
    }
    assert named_view(Path("in/mug@90,20.jpg")) == View(Path("in/mug@90,20.jpg"), 90.0, 20.0)


def test_prep_takes_them_and_their_content_is_what_counts(tmp_path):
    front, back = picture(tmp_path / "front.png"), picture(tmp_path / "back.png", 60)

    def prep(*views: View):
        road = Image2Mesh(Config(), reporter=Reporter())
        return road([front, *views], tmp_path / "W", until="prep").stages[0]

    first = prep(View(back, 180))
    photo = Photo.load(tmp_path / "W" / "1-prep")
    (other,) = photo.further
    assert (other.azimuth_deg, other.elevation_deg, other.name) == (180.0, None, "back.png")
    assert (
        other.rgba.shape == photo.rgba.shape and other.rgba[..., 3].mean() < 0.9 * photo.rgba[..., 3].mean()
    )
    assert first.record.metrics["views"][0]["view"] == "back.png"
    back.rename(tmp_path / "other.png")
    assert prep(View(tmp_path / "other.png", 180)).skipped  # the same content elsewhere
    assert not prep(View(tmp_path / "other.png", 170)).skipped
    picture(tmp_path / "other.png", 50)
    assert not prep(View(tmp_path / "other.png", 170)).skipped
    assert not prep().skipped and not Photo.load(tmp_path / "W" / "1-prep").further


def test_a_list_is_a_photo_and_views(tmp_path):
    with pytest.raises(UserError, match="View"):
        Image2Mesh(Config(), reporter=Reporter())(["a.png", "b.png"], tmp_path / "W")


def test_the_command_takes_views_and_batch_finds_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    picture(Path("in/mug.png")), picture(Path("in/mug@180.png"), 60)
    call = CliRunner().invoke
    result = call(app, ["in/mug.png", "--view", "in/mug@180.png@180", "--until", "prep", "-o", "W", "-q"])
    assert result.exit_code == 0, result.output
    assert len(Photo.load(Path("W/1-prep")).further) == 1
    assert call(app, ["prep", "W", "-q"]).exit_code == 0  # the workspace remembers them
    assert len(Photo.load(Path("W/1-prep")).further) == 1
    result = call(app, ["in/mug.png", "--view", "in/none.png@180", "--until", "prep", "-o", "V"])
    assert result.exit_code == 2 and "There is no file" in result.stderr
    result = call(app, ["in/mug.png", "--objects", "each", "--view", "in/mug@180.png@180", "-o", "S"])
    assert result.exit_code == 2 and "Further views belong to one object" in result.stderr
    assert call(app, ["batch", "in", "-o", "out", "--until", "prep", "-q"]).exit_code == 0
    assert [path.name for path in sorted(Path("out").iterdir()) if path.is_dir()] == ["mug"]
    assert len(Photo.load(Path("out/mug/1-prep")).further) == 1
    left_out = ["batch", "in", "-o", "new", "--exclude", "*@*", "--until", "prep", "-q"]
    assert call(app, left_out).exit_code == 0 and not Photo.load(Path("new/mug/1-prep")).further
