"""JSON files that people keep: an object, or a sentence that names the file."""

import json

import pytest

from sv3d_pipe.dataset import engine
from sv3d_pipe.errors import UserError
from sv3d_pipe.evaluate.suite import resumed
from sv3d_pipe.files import read_own_json
from sv3d_pipe.finetune.recipe import MINI, settle

SHAPES = ["[]", "null", "3", "", "{", "[" * 100_000, "\xff", '"text"', "9" * 5000]


@pytest.mark.parametrize("text", SHAPES)
def test_what_is_no_object_is_named(tmp_path, text):
    path = tmp_path / "recipe.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(UserError, match="recipe.json is damaged; delete it."):
        read_own_json(path, "delete it")
    with pytest.raises(UserError, match="recipe.json is damaged; delete it to train"):
        settle(MINI, tmp_path)


@pytest.mark.parametrize(
    "text", [*SHAPES, "{}", '{"key": []}', '{"key": "K", "row": 3}', '{"key": "K", "row": [1]}']
)
def test_scores_of_another_shape_are_measured_again(tmp_path, text):
    (tmp_path / "one").mkdir()
    file = tmp_path / "one" / "scores.json"
    resumed(tmp_path, "one", {"a": 1}, lambda folder: {"cd": 1.0})
    key = json.loads(file.read_text())["key"]
    file.write_text(text.replace("K", key), encoding="latin-1")
    assert resumed(tmp_path, "one", {"a": 1}, lambda folder: {"cd": 2.0}) == {"name": "one", "cd": 2.0}


@pytest.mark.parametrize("text", [*SHAPES, "{}", '{"shards": 3, "skipped": []}', '{"shards": [3], "skipped": []}',
                                  '{"shards": [], "skipped": [{"name": "gone", "reason": "x"}]}'])  # fmt: skip
def test_a_manifest_of_another_shape_is_named(tmp_path, text):
    (tmp_path / "manifest.json").write_text(text, encoding="latin-1")
    with pytest.raises(UserError, match="manifest.json is damaged; delete the folder"):
        engine._reopen(engine.DataSet(tmp_path, [], engine.Shoot(), 0), tmp_path)
