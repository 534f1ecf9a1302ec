"""The suite ``photo`` with a road that costs nothing: rows per azimuth, what is measured again, the breakdown."""

from dataclasses import replace

import numpy as np
import pytest

from sv3d_pipe.config import Config
from sv3d_pipe.evaluate.display import Display
from sv3d_pipe.evaluate.photo_suite import PHOTO
from sv3d_pipe.evaluate.suite import Options, run_suite, tables
from sv3d_pipe.evaluate.taken_photos import Subject, subjects
from sv3d_pipe.road.sources import content_sha256

OPTIONS = Options(Config(), None, 0, "cpu")


@pytest.fixture
def files(tmp_path):
    for name in ("chair", "cup"):
        (tmp_path / f"{name}.glb").write_text(name)
    return {name: tmp_path / f"{name}.glb" for name in ("chair", "cup")}


def go(files, azimuths_deg, out, options=OPTIONS):
    """The document, and the rows that were measured; a cup's cd is .1, a chair's .3, and 30 degrees add .02."""
    measured = []

    def measure(subject, folder, options, display):
        measured.append(folder.name)
        cd = {"chair": 0.3, "cup": 0.1}[subject.path.stem] + 0.02 * (subject.azimuth_deg == 30)
        return {"export_cd": cd, "azimuth_deg": subject.azimuth_deg}, np.ones((8, 32, 3))

    suite = replace(PHOTO, measure=measure)
    return run_suite(suite, subjects(files, azimuths_deg), options, out, Display(quiet=True)), measured


def test_one_more_azimuth_leaves_the_other_rows(files, tmp_path):
    assert go(files, (0,), tmp_path / "out")[1] == ["chair", "cup"]
    document, measured = go(files, (0, 30), tmp_path / "out")
    assert measured == ["chair@30", "cup@30"]
    assert [row["name"] for row in document["rows"]] == ["chair", "chair@30", "cup", "cup@30"]
    assert document["summary"]["export"]["cd"]["mean"] == pytest.approx(0.21)


def test_further_photos_and_their_error_are_measured_again(files, tmp_path):
    exact = replace(OPTIONS, views=(180.0,))
    for options in (OPTIONS, exact, replace(exact, view_error_deg=5.0), replace(exact, views=(90.0,))):
        assert go(files, (0,), tmp_path / "out", options)[1] == ["chair", "cup"]
        assert go(files, (0,), tmp_path / "out", options)[1] == []


def test_one_photo_from_the_front_has_the_key_that_it_always_had(files):
    assert Subject(files["cup"]).content() == content_sha256(files["cup"])
    assert Subject(files["cup"], 30.0).content() == [content_sha256(files["cup"]), 30.0]
    assert not {key for key in PHOTO.settings(OPTIONS) if "view" in key or "azimuth" in key}


def test_several_azimuths_have_a_table(files, tmp_path):
    document, _ = go(files, (0, 30), tmp_path)
    summary, by_azimuth, _ = tables(PHOTO, document, every_object=True)
    assert "4 objects" in summary.title
    assert by_azimuth.columns[:3] == ["", "rows", "export_cd"]
    assert [line[:3] for line in by_azimuth.lines] == [["0 deg", "2", "0.2000"], ["30 deg", "2", "0.2200"]]
    assert "| 30 deg |" in (tmp_path / "photo.md").read_text()
    document, _ = go(files, (30,), tmp_path)
    assert len(tables(PHOTO, document, every_object=True)) == 2
    del document["rows"][0]["azimuth_deg"]  # as rows of earlier versions, which were all at 0
    assert [line[0] for line in tables(PHOTO, document, True)[1].lines] == ["0 deg", "30 deg"]
