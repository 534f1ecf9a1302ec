"""Whatever is lost, flipped or put in a finished workspace is found, and the road healed to the same bytes."""

import dataclasses
import json

import numpy as np
import pytest
from road_fakes import FakeRoad, Text

from sv3d_pipe.config import Config
from sv3d_pipe.errors import UserError
from sv3d_pipe.pipeline import route_of
from sv3d_pipe.road.report import Reporter
from sv3d_pipe.road.run import Road, Route
from sv3d_pipe.road.sources import PHOTO, begun
from sv3d_pipe.road.workspace import STAGES, Workspace


class Listener(Reporter):
    def __init__(self):
        self.said = []

    def say(self, sentence):
        self.said.append(sentence)


class Place:
    """A road in a folder, and what its last run said and did."""

    def __init__(self, folder):
        self.fake, self.root, self.photo = FakeRoad(), folder / "out", folder / "photo.png"
        self.photo.write_text("P")

    def go(self, stages=None, **how):
        self.fake.worked.clear()
        listener = Listener()
        route = Route(PHOTO, stages or self.fake.stages)
        road = Road(route, Workspace(self.root), self.photo, Config(), 1, "cpu", listener)
        self.result, self.said = road.run(**how), listener.said
        return list(self.fake.worked)

    def files(self):
        kept = [path for path in sorted(self.root.rglob("*")) if path.is_file()]
        return {path.relative_to(self.root).as_posix(): path.read_bytes() for path in kept}

    def meshes(self):
        return {name: content for name, content in self.files().items() if name.endswith("glb")}


@pytest.fixture
def place(tmp_path):
    place = Place(tmp_path)
    place.go()
    return place


def with_another(fake, name, text):
    """The stages, of which one now makes a text of its own."""

    def work(road, context):
        fake.worked.append(name)
        return Text(text), {"score_db": 20.0}

    return tuple(dataclasses.replace(s, work=work) if s.name == name else s for s in fake.stages)


@pytest.mark.parametrize("name", STAGES)
def test_any_flipped_bit_of_a_stage_is_found_and_healed(place, name):
    whole = place.meshes()
    chosen = np.random.default_rng(STAGES.index(name))
    for file in ("mesh.glb", "stage.json"):
        path = Workspace(place.root).folder(name) / file
        for _ in range(12):
            content = bytearray(path.read_bytes())
            content[chosen.integers(len(content))] ^= 1 << chosen.integers(8)
            path.write_bytes(content)
            assert place.go() == [name], content
            assert place.said == [f"The files of the {name} stage are damaged; running it again."]
            assert place.meshes() == whole


@pytest.mark.parametrize("name", STAGES)
@pytest.mark.parametrize("file", ["mesh.glb", "stage.json"])
def test_a_file_that_is_gone_is_found(place, name, file):
    whole = place.meshes()
    (Workspace(place.root).folder(name) / file).unlink()
    assert place.go() == [name] and place.meshes() == whole


def test_a_stage_that_comes_out_otherwise_brings_the_later_ones_with_it(place):
    Workspace(place.root).folder("nerf").joinpath("mesh.glb").unlink()
    assert place.go(with_another(place.fake, "nerf", "other")) == ["nerf", "refine", "export"]
    assert "other" in place.result.mesh.read_text()
    # and with the first result again, too
    assert place.go(force_from="nerf", until="nerf") == ["nerf"]
    assert place.go() == ["refine", "export"] and "other" not in place.result.mesh.read_text()


def test_a_stage_is_not_built_on_one_that_is_older_than_what_it_was_made_from(place):
    place.go(with_another(place.fake, "orbit", "other"), start="orbit", until="orbit", force_from="orbit")
    with pytest.raises(
        UserError, match="The nerf stage of .* is older than the orbit stage; run `img2mesh nerf"
    ):
        place.go(start="refine")
    assert place.go(start="nerf") == ["nerf", "refine", "export"]
    assert place.go(start="refine") == []


SHAPES = [
    "[]", "null", "3", '"text"', "{}", '{"format": 2}', '{"format": 2, "checksum": 0}', "[" * 100_000, "\xff",
    '{"format": {}, "checksum": []}', '{"stage": []}', "1e999", "", "9" * 5000,
]  # fmt: skip


@pytest.mark.parametrize("text", SHAPES)
@pytest.mark.parametrize("name", ["3-nerf/stage.json", "run.json", ".holder.json"])
def test_json_of_another_shape_stops_nothing(place, name, text):
    whole = place.meshes()
    (place.root / name).write_text(text, encoding="latin-1")
    assert place.go() == (["nerf"] if "nerf" in name else [])
    assert place.meshes() == whole and place.go() == []


def wrong(value):
    """Values of other types than this one's."""
    return [
        other
        for other in (None, True, [], {}, "text", 1.5, -1, [[]], {"a": {}})
        if type(other) is not type(value)
    ]


def test_a_record_with_any_part_of_another_type_is_damaged_even_if_its_checksum_is_right(place):
    from sv3d_pipe.road.records import sealed, unsealed

    path = place.root / "3-nerf" / "stage.json"
    values = unsealed(path)
    tried = 0
    for field, value in values.items():
        for other in wrong(value):
            if field in ("seconds", "peak_memory_mb") and type(other) in (int, float):
                continue
            path.write_text(sealed(values | {field: other}))
            made_up = Workspace(place.root).trouble("nerf")
            fine = field in ("config", "metrics", "upstream", "versions", "files") and other == {}
            assert made_up == (None if fine else "damaged"), (field, other)
            tried += 1
        path.write_text(sealed({name: kept for name, kept in values.items() if name != field}))
        assert Workspace(place.root).trouble("nerf") == "damaged"
    assert tried > 80
    for entry in (None, {}, {"size": 1}, {"size": "1", "sha256": "x"}, {"size": 1, "sha256": "x", "more": 1}):
        path.write_text(sealed(values | {"files": {"mesh.glb": entry}}))
        assert Workspace(place.root).trouble("nerf") == "damaged"
    assert place.go() == ["nerf"]


def test_a_workspace_of_the_first_format_is_recognized_and_its_stages_run_again(place):
    whole = place.meshes()
    for path in [place.root / "run.json", *place.root.glob("*/stage.json")]:
        values = json.loads(path.read_text())
        del values["format"], values["checksum"]
        path.write_text(json.dumps(values))
    with pytest.raises(
        UserError, match="prep stage of .* is from another version of img2mesh; run `img2mesh"
    ):
        place.go(start="nerf")
    assert place.go() == list(STAGES) and place.meshes() == whole
    first = "The files of the prep stage are from another version of img2mesh; running it again."
    assert place.said[0] == first and len(place.said) == len(STAGES)


def test_the_workspace_of_a_later_version_is_left_alone(place, monkeypatch):
    monkeypatch.setattr("sv3d_pipe.road.records.FORMAT", 3)
    workspace = Workspace(place.root)
    with workspace.lock():
        (place.root / "run.json").unlink()
        workspace.write_run({"photo": "a.png", "sha256": "0", "seed": 1, "config": {}})
    monkeypatch.undo()
    before = place.files()
    with pytest.raises(
        UserError, match="run.json is from another version of img2mesh; use that version, or choose"
    ):
        place.go()
    assert place.files() == before


def test_a_workspace_whose_run_is_damaged_is_named(place):
    run = place.root / "run.json"
    whole = run.read_bytes()
    run.write_text("{}")
    with pytest.raises(UserError, match="run.json is damaged; name the photo or capture again, with -o "):
        begun(place.root)
    assert place.go() == [] and place.said == [f"{run} was damaged; it is written again."]
    assert run.read_bytes() == whole and begun(place.root)["seed"] == 1
    assert begun(place.root.parent) is None


def test_a_source_of_an_unknown_kind_is_named(place):
    with Workspace(place.root).lock() as workspace:
        workspace.write_run({"video": "a.mp4", "sha256": "0", "seed": 1, "config": {}})
    with pytest.raises(UserError, match="was made from a video, which this version"):
        route_of(begun(place.root), place.root)
