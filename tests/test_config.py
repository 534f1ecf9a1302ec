"""Settings: reading, ranges, presets, TOML."""

import dataclasses

import pytest

from sv3d_pipe.config import PRESETS, Config, RefineConfig, stable_hash
from sv3d_pipe.config_files import load_toml, to_toml
from sv3d_pipe.errors import UserError


def test_values_are_read_by_the_type_of_the_field():
    config = Config().replace(
        {"nerf.steps": "800", "orbit.elevation_deg": "5", "refine.sds": "off", "prep.matte": "alpha"}
    )
    assert config.nerf.steps == 800 and type(config.nerf.steps) is int
    assert config.orbit.elevation_deg == 5.0 and type(config.orbit.elevation_deg) is float
    assert config.refine.sds == "off"
    assert config.prep.matte == "alpha"
    assert Config().replace({"nerf.steps": 1e3}).nerf.steps == 1000


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("nerf.steps", "many", "nerf.steps must be a whole number"),
        ("nerf.steps", "1.5", "must be a whole number"),
        ("nerf.steps", True, "must be a whole number"),
        ("nerf.steps", "0", "at least 1"),
        ("nerf.photo_weight", "inf", "must be a number"),
        ("nerf.photo_weight", "nan", "must be a number"),
        ("prep.fill", "2", "at least 0.2 and at most 1.0"),
        ("prep.matte", "magic", "one of auto, alpha"),
        ("refine.lighting", "perhaps", "true or false"),
        ("refine.sds", "perhaps", "one of auto, on, off"),
        ("orbit.model", 3, "must be text"),
        ("orbit.model", " ", "must be text"),
        ("export.format", "glb,usdx", "glb, obj, ply, stl, usdz .*not 'usdx'"),
        ("export.format", ",", "export.format takes"),
        ("nerf.stepz", 3, "Did you mean nerf.steps"),
        ("steps", 3, "There is no option 'steps'"),
    ],
)
def test_wrong_values_are_told_in_one_sentence(name, value, sentence):
    with pytest.raises(UserError, match=sentence) as caught:
        Config().replace({name: value})
    assert "\n" not in str(caught.value)


def test_formats_are_read_as_people_write_them():
    assert Config().replace({"export.format": ".GLB, obj"}).export.format == ".GLB, obj"


@pytest.mark.parametrize("name", PRESETS)
def test_presets_and_their_toml_are_the_same_settings(name, tmp_path):
    config = Config.preset(name)
    path = tmp_path / "my.toml"
    path.write_text(to_toml(config))
    assert Config().replace(load_toml(path)) == config


def test_an_unknown_preset_names_the_known_ones():
    with pytest.raises(UserError, match="draft, standard, quality"):
        Config.preset("best")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("nerf = ", "not valid TOML"), ("steps = 3", r"must be a table such as \[nerf\]")],
)
def test_wrong_toml_is_told_in_one_sentence(tmp_path, text, sentence):
    (tmp_path / "my.toml").write_text(text)
    with pytest.raises(UserError, match=sentence):
        load_toml(tmp_path / "my.toml")


def test_a_missing_toml_is_told():
    with pytest.raises(UserError, match="Cannot read the config file no.toml"):
        from pathlib import Path

        load_toml(Path("no.toml"))


def test_every_setting_has_a_help_sentence():
    for stage in dataclasses.fields(Config):
        for spec in dataclasses.fields(getattr(Config(), stage.name)):
            assert spec.metadata["help"].endswith("."), (stage.name, spec.name)


def test_stable_hash_does_not_depend_on_the_order_of_keys():
    assert stable_hash({"a": 1, "b": [2.5, "x"]}) == stable_hash({"b": [2.5, "x"], "a": 1})
    assert stable_hash({"a": 1}) != stable_hash({"a": 1.5})
    # printf '{"a":1}' | sha256sum
    assert stable_hash({"a": 1}) == "015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862"


def test_an_elevation_need_not_be_given(tmp_path):
    config = Config()
    assert config.orbit.elevation_deg is None and config.orbit.photo_elevation_deg == 10
    assert Config().replace(config.flat()) == config  # as a record keeps it
    given = config.replace({"orbit.elevation_deg": "-7"})
    assert given.orbit.elevation_deg == given.orbit.photo_elevation_deg == -7.0
    (tmp_path / "given.toml").write_text(to_toml(given))
    assert Config().replace(load_toml(tmp_path / "given.toml")) == given
    with pytest.raises(UserError, match="nerf.steps must be a whole number, not None"):
        config.replace({"nerf.steps": None})


def test_distillation_is_for_the_last_fifth_and_by_itself_only_in_quality():
    assert [Config.preset(name).refine.sds for name in ("draft", "standard", "quality")] == [
        "off",
        "off",
        "auto",
    ]
    assert list(RefineConfig(steps=20, sds_every=2).distilled_steps) == [16, 18]
    assert len(RefineConfig(steps=4).distilled_steps) == 0
    assert Config().replace({"refine.sds": True}).refine.sds == "on"
    assert Config().replace({"refine.sds": "false"}).refine.sds == "off"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_byte_order_marks_and_windows_line_ends_are_read(tmp_path, encoding):
    (tmp_path / "a.toml").write_bytes("[nerf]\r\nsteps = 7\r\n".encode(encoding))
    assert load_toml(tmp_path / "a.toml") == {"nerf.steps": 7}


@pytest.mark.parametrize(
    "text",
    [
        "[nerf]\nsteps = " + "[" * 5000,
        "[nerf]\nsteps = " + "9" * 9999,
        "[nerf]\nsteps = " + "[" * 50 + "]" * 50,
        "[nerf]\nsteps = 1e999",
        "[nerf]\nsteps = nan",
        "[nerf]\nsteps = 1979-05-27",
        "[nerf]\nsteps = {a = 1}",
        "nerf = 3",
        "[nerf.deep]\nsteps = 3",
        "\0",
    ],
)
def test_strange_toml_is_one_sentence(tmp_path, text):
    (tmp_path / "a.toml").write_text(text)
    with pytest.raises(UserError):
        Config().replace(load_toml(tmp_path / "a.toml"))
